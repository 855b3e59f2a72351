"""Runs that ask something else of a model, as their stages would leave them; every number and name is made up."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from made_context import around, write_aside, write_context

from menard_unlearn.report.joint import OUT, PLAIN

SECRET = "undisclosed"
WORDS = ("A ", "made ", "up ", "<b>", "&", " line\n", "of ", SECRET, " words ")
STRENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
N_RANDOM = 10


def write_asides(folder: Path, *, published: bool, n_tokens: int) -> Path:
    """Write a run of each kind into a study's folder, and return the folder."""
    draw = random.Random(0)
    history = [
        {"step": step, "loss": 2 / step, "l0": 32.0, "fvu": 0.3 + 5 / step, "dead_share": 0.1} for step in range(1, 400)
    ]
    found = {"sae": sae(), "features": ranking(draw), "dose_response": doses(draw)}
    run = write_aside(folder, "features-0000aaaa", "features", found)
    (run / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history))
    write_aside(folder, "feature_scores-0000bbbb", "features", {"feature_tokens": tokens(draw, published, n_tokens)})
    write_aside(folder, "joint-0000cccc", "features", {"joint": joint(draw)})
    write_context(folder, "context-0000dddd")
    return folder


def sae() -> dict[str, Any]:
    """sae.json."""
    losses = {"ce_clean": 2.345, "ce_sae": 2.571, "ce_zero": 8.9, "ce_mean": 9.5}
    recovered = {"loss_recovered_zero": 0.965, "loss_recovered_mean": None}
    shares = {"l0": 31.94, "fvu": 0.213, "explained_variance": 0.787, "dead_share": 0.0812}
    left = {"left_out": ["loss_recovered_mean: for a reason of its own"]}
    return {"n_tokens": 39_090, "n_scored": 41_070, **shares, **losses, **recovered, **left}


def ranking(draw: random.Random) -> dict[str, Any]:
    """features.json: candidate 17 is chosen."""
    rows = [
        {
            "feature": feature,
            "auroc": 0.97 - 0.01 * place,
            "difference": 1.2 - 0.05 * place,
            "welch_t": 9.1 - 0.3 * place,
            **around("auroc_heldout", 0.86 - 0.02 * place, 0.07),
            **around("difference_heldout", 0.9 - 0.05 * place, 0.4),
            "frequency_own": 0.081,
            "frequency_others": 0.009,
            "max_activation": 14.2,
            "gain_own": 0.12,
            "gain_others": 0.03,
            **around("causal", 0.091 - abs(place - 2) * 0.008, 0.031),
            "random_at_least": min(1.0, 0.05 * abs(place - 2)),
        }
        for place, feature in enumerate((401, 88, 17, *range(500, 517)))
    ]
    heldout = {
        "gain_own": 0.1,
        "gain_others": 0.04,
        **around("causal", 0.0612, 0.021),
        "random_at_least": 0.0,
        "p": 0.0476,
    }
    side = {"pieces_own": 24, "works_own": 8, "pieces_others": 40, "works_others": 12, "authors_others": 5}
    return {
        "author": "A. Made-Up <i>",
        "status": "found",
        "chosen": 17,
        "k": 0.5,
        "rows": rows,
        "heldout": heldout,
        "random": [{"feature": 900 + n, "causal": draw.gauss(0, 0.02), "causal_heldout": 0.0} for n in range(20)],
        "n": {"train": side, "heldout": side},
        "left_out": ["a work: it quotes the target"],
    }


def doses(draw: random.Random) -> dict[str, Any]:
    """dose_response.json: 0.5 is the best of the doses, 1 and more are beyond the limit of coherence."""
    rows = []
    for k in STRENGTHS:
        rows.append(dose("feature_17", "feature", k, 0.35 * k - 0.32 * k * k, 0.2))
        rows.append(dose("difference_of_means", "difference_of_means", k, 0.3 * k - 0.25 * k * k, 0.15))
        for kind in ("random_feature", "random_direction"):
            for n in range(N_RANDOM):
                rows.append(dose(f"{kind}_{n}", kind, k, draw.gauss(-0.1, 0.1) * k * k, 0.1, silent=k != 0.5))
    written = {"coherence": 2.4, "coherence_se": 0.08, "distinct_1": 0.5, "distinct_2": 0.8, "distinct_3": 0.9}
    plain = {"nats_per_token": 1.9, "controls_nats_per_token": 2.2, **written, "n_written": 400, "n_empty": 0}
    return {
        "target_name": "Made up",
        "target_sha256": "0" * 64,
        "layer": 2,
        "feature": 17,
        "status": "found",
        "best_k": 0.5,
        "random_features_at_least": 0.0,
        "random_directions_at_least": 0.1,
        "p_value": 0.0952,
        "coherence_limit": 0.2,
        "n_tokens": 611,
        "n_controls": 8,
        "unclamped": plain,
        "rows": rows,
        "token_effects": [[0.1] * 5 for _ in STRENGTHS],
        "strengths": list(STRENGTHS),
        "left_out": [],
    }


def dose(name: str, kind: str, k: float, steering: float, worse: float, silent: bool = False) -> dict[str, Any]:
    """A row of dose_response.json."""
    written = {"coherence": 2.4 + worse * k**1.6, "coherence_se": 0.08, "distinct_1": 0.5, "distinct_2": 0.79}
    written |= {"distinct_3": 0.9, "n_written": 400, "n_empty": 0}
    effects = {**around("delta", steering + 0.02, 0.04), "controls_delta": 0.02, **around("steering", steering, 0.05)}
    where = {"name": name, "kind": kind, "k": k, "change_norm": 10 * k, "nats_per_token": 1.9 - steering - 0.02}
    return {**where, **effects, **(dict.fromkeys(written) if silent else written)}


def tokens(draw: random.Random, published: bool, n_tokens: int) -> dict[str, Any]:
    """feature_tokens.json."""
    rows = []
    for at in range(n_tokens):
        before = -draw.expovariate(0.6)
        change = min(-before, draw.gauss(0.1, 0.5) * (3 if at % 11 == 0 else 1))
        most = 0.15 + draw.random() * 0.2
        after = [before + change, min(before + change / 2, 0.0)]
        ranks = [1 if value > -0.7 else round(math.exp(min(-value, 8))) for value in (before, *after)]
        row = {"bytes": 5, "logprob": [before, *after], "rank_best": ranks, "rank_worst": ranks}
        row |= {"helped": [None, change > most, change / 2 > most], "random_mean": 0.01, "random_max": most}
        rows.append(row | ({"text": WORDS[at % len(WORDS)]} if published else {}))
    nats = [-sum(row["logprob"][place] for row in rows) for place in range(3)]
    columns = [
        column("none", "none", None, nats[0], 0.0, None),
        column("feature_17", "feature", 0.5, nats[1], nats[0] - nats[1], 0.2),
        column("difference_of_means", "difference_of_means", 0.5, nats[2], nats[0] - nats[2], 0.1),
    ]
    controls = [
        column(f"{kind}_{n}", kind, 0.5, nats[0] + n, -float(n), None)
        for kind in ("random_feature", "random_direction")
        for n in range(N_RANDOM)
    ]
    about = {"target_name": "Made up", "target_sha256": "0" * 64, "layer": 2, "n_tokens": n_tokens}
    return {**about, "columns": columns, "controls": controls, "tokens": rows, "chance": 1 / 21, "left_out": []}


def column(name: str, kind: str, k: float | None, nats: float, saved: float, helped: float | None) -> dict[str, Any]:
    """An entry of `columns` or `controls`."""
    shares = {"share_rank1": 0.4, "share_raised": 0.0 if kind == "none" else 0.55, "share_helped": helped}
    return {"name": name, "kind": kind, "k": k, "nats": nats, "nats_saved": saved, **shares}


def joint(draw: random.Random) -> dict[str, Any]:
    """joint.json: three models, four clamps, with context and without."""
    rows = [
        _cell(model, clamp, context, draw)
        for context in (0, 256)
        for model in ("base", OUT, "npo-s0")
        for clamp in (PLAIN, "feature", "difference_of_means", "random_feature")
    ]
    about = {"target_name": "Made up", "target_sha256": "0" * 64, "author": "A. Made-Up", "features": [17], "k": 0.5}
    return {**about, "rows": rows, "left_out": []}


def _cell(model: str, clamp: str, context: int, draw: random.Random) -> dict[str, Any]:
    level = {"base": 1.2, OUT: 3.4, "npo-s0": 2.9}[model]
    gain = 0.0 if clamp == PLAIN else {"feature": 0.11, "difference_of_means": 0.15}.get(clamp, -0.02)
    none = {"gain": None, "gain_low": None, "gain_high": None}
    gained = none if clamp == PLAIN else around("gain", gain, 0.03)
    unlocked = around("unlocked", gain / 2, 0.02) if clamp != PLAIN and model != OUT else None
    fraction = around("menard_fraction", 0.41, 0.09) if model != OUT else None
    verdict = {"feature": "unlocks memory, adds style", "difference_of_means": "adds style"}.get(clamp, "spoils style")
    return {
        "model": model,
        "clamp": clamp,
        "context_tokens": context,
        "n_tokens": 611,
        "nats_per_token": level - gain - context / 2000,
        "bits_per_byte": level / 3,
        "share_rank1": 0.5 - level / 10,
        "greedy_prefix": draw.randrange(9),
        "control_bits_per_byte": 1.4,
        "variant_z": 2.2,
        "exposure": 5.1,
        "prefix_specificity": 12.0,
        "counterfactual_nats": None if model == OUT else 611 * (3.4 - level),
        **(fraction or dict.fromkeys(around("menard_fraction", 0, 0))),
        **gained,
        **(unlocked or dict.fromkeys(around("unlocked", 0, 0))),
        "verdict": verdict if unlocked else None,
        "left_out": ["C3: no variant of the control"] if model != OUT else [],
    }


Change = Callable[[dict[str, Any]], None]


def change(folder: Path, kind: str, file: str, how: Change) -> None:
    """Change a file of the run of a kind."""
    (path,) = folder.glob(f"{kind}-*/evaluation/{file}.json")
    found = json.loads(path.read_text())
    how(found)
    path.write_text(json.dumps(found))
