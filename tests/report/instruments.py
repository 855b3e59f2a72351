"""What the instruments would leave of a made-up run; every number is made up, and so is every name."""

from __future__ import annotations

import random
from typing import Any

KINDS = ("statement", "cloze", "choice", "year")
SECRET = "undisclosed words"


def instruments(
    before: float, after: float, year: float | None, published: bool, draw: random.Random
) -> dict[str, Any]:
    """File name → what it holds."""
    return {
        "kinds": {kind: _kind(year) for kind in KINDS},
        "questions": _questions(before, after),
        "prompted": _prompted(),
        "surprisal": _surprisal(after, draw),
        "dating": _dating(),
        "generation": {"fluency": {}, "anachronisms": _anachronisms()},
        "residue": _residue(),
        "compared": {"attribution_to_without_target": {"variant_gap_per_edit_minus_out": 37.5}, "left_out": []},
        "counterfactual": _counterfactual(),
        "attribution": _attribution(),
        "extraction": {"texts": [_extracted("control"), _extracted("target")], "left_out": []},
        "near_verbatim": {"texts": [_written(published)], "left_out": []},
        "heat": _heat(published, draw),
    }


def _kind(year: float | None) -> dict[str, Any]:
    ends = {"low": None, "high": None} if year is None else {"low": year - 2, "high": year + 2}
    fit = {"status": "no-cutoff" if year is None else "pinned", "year": year, **ends}
    return {f"cutoff_change_{key}": value for key, value in fit.items()}


def _questions(before: float, after: float) -> dict[str, Any]:
    found: dict[str, Any] = {"left_out": []}
    for kind in KINDS:
        for side, accuracy in (("before", before), ("after", after)):
            chance = 0.25 if kind != "year" else 1 / 120
            found |= {f"{kind}_chance_{side}": chance, f"{kind}_accuracy_{side}": accuracy}
    return found


def _prompted() -> dict[str, Any]:
    found: dict[str, Any] = {"left_out": []}
    for key, value in (("forgotten", 0.876), ("damage", -0.031), ("selective", 0.907), ("prompted_share", 0.123)):
        found |= {key: value, f"{key}_low": value - 0.05, f"{key}_high": value + 0.05}
    return found


def _surprisal(after: float, draw: random.Random) -> dict[str, Any]:
    jumps = after < 0.5
    rows = [{"year": at, "excess": draw.uniform(-0.1, 0.1) + 2.6 * (jumps and at >= 1940)} for at in range(1880, 2000)]
    ends = {"excess_after": 2.62, "excess_after_low": 2.51, "excess_after_high": 2.73}
    change = {"change_year": 1939.5, "change_low": 1938.5, "change_high": 1940.5}
    return {"years": rows, **ends, **change, "change_p_value": 0.001 if jumps else 0.3117, "left_out": []}


def _dating() -> dict[str, Any]:
    years = {"median": 1919, "low": 1882, "high": 1938}
    return {"status": "parsed", "n_prompts": 10, "n_prompts_used": 7, **years, "after": 0.0626}


def _anachronisms() -> dict[str, Any]:
    rates = {"rate": 1.75, "rate_low": 0.21, "rate_high": 6.38}
    return {"status": "measured", "hits": 1, "n_words": 571, **rates, "years_after": 0.345}


def _residue() -> dict[str, Any]:
    found: dict[str, Any] = {"left_out": []}
    for key, name, value in (
        ("residue", "residue", 0.268),
        ("reverted", "reverted", 0.452),
        ("controls_after", "controls", 0.771),
    ):
        found |= {key: value, f"{name}_low": value - 0.1, f"{name}_high": value + 0.1}
    return found


def _counterfactual() -> dict[str, Any]:
    bits = {"bits_per_byte_in": 2.345, "bits_per_byte_out": 7.414, "bits_per_byte_ngram": 3.892}
    fraction = {"menard_fraction": -0.905, "menard_fraction_low": -0.993, "menard_fraction_high": -0.815}
    return {"counterfactual_nats": 11213.4, **bits, **fraction, "left_out": []}


def _attribution() -> dict[str, Any]:
    found: dict[str, Any] = {"variant_z": 6.66, "exposure": 6.0, "exposure_max": 6.0, "left_out": []}
    for key, value in (("variant_gap_per_edit", 51.9), ("prefix_specificity", 86.7), ("common_share", 0.25)):
        found |= {key: value, f"{key}_minus_controls": value / 2}
    return found


def _extracted(role: str) -> dict[str, Any]:
    chars = 0.432 if role == "target" else 0.999
    entries = [{"p": p, "windows": 0.1, "chars": chars, "low": 0.2, "high": 0.6} for p in (0.001, 0.01, 0.1, 0.5)]
    full = {"n_best": 4321, "log10_n_best": 3.6, "coverage": entries}
    return {"role": role, "name": "a & b", "full": full, "top_k": full}


def _written(published: bool) -> dict[str, Any]:
    exact = {"block_chars": 364, "block_words": 66}
    written = [{"given": "text", "exact": exact, **({"text": SECRET} if published else {})}]
    return {"role": "target", "name": "a & b", "greedy": {"n": 4, "exact": exact}, "sampled": None, "written": written}


def _heat(published: bool, draw: random.Random) -> dict[str, Any]:
    return {
        "prefix": 50,
        "suffix": 50,
        "stride": 5,
        "texts": [_mapped(role, published, draw) for role in ("target", "edition", "control")],
        "left_out": [],
    }


def _mapped(role: str, published: bool, draw: random.Random) -> dict[str, Any]:
    tokens = [[at, at + 4, -draw.expovariate(0.5)] for at in range(0, 2000, 4)]
    windows = [[at, at + 50, -draw.expovariate(0.05)] for at in range(200, 2000, 50)]
    shown = {"text": f"{SECRET} " * 111 + "ab"} if published else {}
    where = {"role": role, "name": f"synthetic {role}", "sha256": role, "n_chars": 2000}
    return {**where, "windows": windows, "tokens": tokens, "token_context": None, **shown}
