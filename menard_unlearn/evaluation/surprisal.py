"""Surprisal by year on dated texts (A4): how many bits a byte of each year costs, and from which year on it costs more.

Legend: C clusters, Y years, R replicates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from menard_unlearn.evaluation.dated_texts import SurprisalConfig, SurprisalPlan
from menard_unlearn.models.scores import Scores
from menard_unlearn.statistics.change import MIN_YEARS, change_point
from menard_unlearn.statistics.clusters import Floats

_CHANGE = {
    "change_year": "A4, where {curve} jumps, half-way between two years, whatever the p-value; null with few years",
    "change_low": "lower end of its 95% interval, years",
    "change_high": "upper end of it",
    "change_p_value": "of steady drift; rules: statistics/change.py",
}

KEYS = {
    "n_texts": "number of dated texts",
    "n_bytes": "their scored UTF-8 bytes",
    "reference_first": "first year of the reference span",
    "reference_last": "last year of it",
    "level": "bits per byte of the texts of the reference span; null without any",
    "after": "bits per byte of the texts of the years after the cutoff's; null without any",
    "excess_after": "A4, after - level",
    "excess_after_low": "lower end of its 95% interval, facts or documents drawn with replacement",
    "excess_after_high": "upper end of it",
    **{key: meaning.format(curve="the curve") for key, meaning in _CHANGE.items()},
    "years": "one row a year that has texts, columns in YEAR_KEYS",
    "left_out": "what could not be computed, and why",
}
"""Key of the result of `measure_surprisal` → meaning and unit."""

YEAR_KEYS = {
    "year": "year of the texts",
    "n_texts": "their number",
    "n_bytes": "their scored UTF-8 bytes",
    "bits_per_byte": "bits per byte, all texts of the year together",
    "excess": "A4, the same minus the level; null without a level",
}
"""Column of a row of `years` → meaning and unit."""

AGAINST_KEYS = {
    "level_difference": "bits per byte in the reference span, own - reference model's: above 0 means damage everywhere",
    "excess_after_difference": "excess_after, own - reference model's",
    "distance": "A5 on this curve, mean over years of |excess - the reference model's|, bits per byte",
    "distance_signed": "A5 on this curve, mean over years of excess - the reference model's",
    "n_years": "years that both have",
    **{key: meaning.format(curve="own - the reference model's curve") for key, meaning in _CHANGE.items()},
}
"""Key of the result of `against` → meaning and unit."""


def measure_surprisal(plan: SurprisalPlan, scores: Scores, config: SurprisalConfig, cutoff_year: int) -> dict:
    """A4: bits/byte(year) = −Σ ln p / (ln 2 · bytes), all texts of the year together, minus the same of the reference
    span. Keys are `KEYS`.

    Fails when gradient ascent overshoots: a model that writes gibberish, or refuses, finds every year surprising and
    the last ones most, and looks ignorant. Hence `level`, which must stay at the base's. Also fails where the texts of
    later years are harder by themselves (then base has an excess too). The 95% interval is a percentile bootstrap over
    facts or documents: simulated, it covers 95% with 80 of them on either side, 92% with 20. Source: the perplexity
    curves of 2403.12958, with an excess and a change point in the place of their minimum.
    """
    nats = [-math.fsum(scores.of(item).logprob for item in own) for own in plan.windows]
    sums = {name: _sums(plan, nats, kept) for name, kept in _spans(config, cutoff_year).items()}
    level, after = (_rate(*sums[name]) for name in ("reference", "after"))
    rows = _by_year(plan, nats, level)
    rng = np.random.default_rng(config.seed)
    excess, low, high = _excess(sums["reference"], sums["after"], config.replicates, rng)
    left_out = [] if level is not None else [f"A4: needs texts of {config.reference_first}-{config.reference_last}"]
    left_out += [] if after is not None else [f"excess_after: needs texts later than {cutoff_year}"]
    left_out += [] if len(rows) >= MIN_YEARS else [f"change point: needs texts of {MIN_YEARS} years"]
    return {
        "n_texts": len(plan.texts),
        "n_bytes": sum(plan.n_bytes),
        "reference_first": config.reference_first,
        "reference_last": config.reference_last,
        "level": level,
        "after": after,
        "excess_after": excess,
        "excess_after_low": low,
        "excess_after_high": high,
        **_change([(row["year"], row["bits_per_byte"], row["n_bytes"]) for row in rows], config.replicates, rng),
        "years": rows,
        "left_out": left_out,
    }


def against(own: Mapping, reference: Mapping | None, config: SurprisalConfig) -> dict:
    """A5 on this curve and the change point of the difference, against what `measure_surprisal` found of the base or of
    gold on the same texts; all None where there is none. Keys are `AGAINST_KEYS`.

    What is hard about a year's texts is equally hard for both models and falls out: the analogue of A2.
    """
    if reference is None:
        return dict.fromkeys(AGAINST_KEYS)
    others = {row["year"]: row for row in reference["years"]}
    pairs = [(row, others[row["year"]]) for row in own["years"] if row["year"] in others]
    gaps = [_minus(row["excess"], other["excess"]) for row, other in pairs]
    known = [gap for gap in gaps if gap is not None]
    rng = np.random.default_rng(config.seed)
    curve = [(row["year"], row["bits_per_byte"] - other["bits_per_byte"], row["n_bytes"]) for row, other in pairs]
    return {
        "level_difference": _minus(own["level"], reference["level"]),
        "excess_after_difference": _minus(own["excess_after"], reference["excess_after"]),
        "distance": math.fsum(map(abs, known)) / len(known) if known else None,
        "distance_signed": math.fsum(known) / len(known) if known else None,
        "n_years": len(pairs),
        **_change(curve, config.replicates, rng),
    }


def _spans(config: SurprisalConfig, cutoff_year: int) -> dict[str, range]:
    return {
        "reference": range(config.reference_first, config.reference_last + 1),
        "after": range(cutoff_year + 1, 10_000),
    }


def _sums(plan: SurprisalPlan, nats: Sequence[float], years: range) -> tuple[Floats, Floats]:
    """(nats_C, bytes_C) of the clusters that have texts of these years."""
    totals: dict[str, tuple[float, int]] = {}
    for text, own, n_bytes in zip(plan.texts, nats, plan.n_bytes, strict=True):
        if text.year in years:
            before = totals.get(text.cluster, (0.0, 0))
            totals[text.cluster] = before[0] + own, before[1] + n_bytes
    # By name, so that the bootstrap draws the same facts whatever order the texts come in.
    ordered = [totals[cluster] for cluster in sorted(totals)]
    return np.array([nats for nats, _ in ordered]), np.array([count for _, count in ordered], float)


def _rate(nats_C: Floats, bytes_C: Floats) -> float | None:
    total = float(bytes_C.sum())
    return math.fsum(nats_C) / (math.log(2) * total) if total else None


def _excess(
    reference: tuple[Floats, Floats], after: tuple[Floats, Floats], replicates: int, rng: np.random.Generator
) -> tuple[float | None, float | None, float | None]:
    """The excess after the cutoff and its interval."""
    level, later = _rate(*reference), _rate(*after)
    if level is None or later is None:
        return None, None, None
    drawn_R = _drawn(after, replicates, rng) - _drawn(reference, replicates, rng)
    low, high = np.quantile(drawn_R, (0.025, 0.975))
    return later - level, float(low), float(high)


def _drawn(sums: tuple[Floats, Floats], replicates: int, rng: np.random.Generator) -> Floats:
    """Bits per byte of clusters drawn with replacement, (R,)."""
    clusters = len(sums[0])
    times_RC = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=replicates).astype(float)
    return times_RC @ sums[0] / (math.log(2) * (times_RC @ sums[1]))


def _by_year(plan: SurprisalPlan, nats: Sequence[float], level: float | None) -> list[dict]:
    of_year: dict[int, list[tuple[float, int]]] = {}
    for text, own, n_bytes in zip(plan.texts, nats, plan.n_bytes, strict=True):
        if n_bytes:
            of_year.setdefault(text.year, []).append((own, n_bytes))
    rows = []
    for year, found in sorted(of_year.items()):
        n_bytes = sum(count for _, count in found)
        bits = math.fsum(own for own, _ in found) / (math.log(2) * n_bytes)
        excess = None if level is None else bits - level
        row = (year, len(found), n_bytes, bits, excess)
        rows.append(dict(zip(YEAR_KEYS, row, strict=True)))
    return rows


def _change(
    curve: Sequence[tuple[int, float, int]], replicates: int, rng: np.random.Generator
) -> dict[str, float | None]:
    if not curve:
        return dict.fromkeys(_CHANGE)
    years_Y, mean_Y, weight_Y = (np.array(column, float) for column in zip(*curve, strict=True))
    found = change_point(years_Y, mean_Y, weight_Y, replicates=replicates, rng=rng)
    return dict(zip(_CHANGE, (found.year, found.low, found.high, found.p_value), strict=True))


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b
