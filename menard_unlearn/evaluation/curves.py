"""Recall by year, by five years and by tercile of a covariate, with Wilson intervals: what is drawn. Also the distance
between two curves, and whether paraphrases agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from menard_unlearn.evaluation.items import ItemScore
from menard_unlearn.statistics.intervals import wilson

BIN = 5
"""Years of a wide bin. Bins are laid so that one ends with the cutoff's year."""

PROBES = {
    "": "all probes",
    "stated_": "probes that state the year",
    "unstated_": "probes that do not state the year",
}
"""Prefix of a key → the probes it is computed on."""

COLUMNS = {
    "n": "number of probes",
    "correct": "number answered",
    "recall": "share answered; null without probes",
    "low": "lower end of recall's 95% Wilson interval",
    "high": "upper end of recall's 95% Wilson interval",
    "change_n": "number of probes that the base answers",
    "change": "mean of after - before over these; null without base",
}
"""Column of a curve row → meaning; each column also with the prefixes of `PROBES`."""

PLACES = {"year": "first year of the bin", "width": "number of years in the bin"}
"""The other columns of a curve row."""

TERCILES = ("low", "middle", "high")

COVARIATE_COLUMNS = {
    "tercile": "low, middle or high: third of the facts, over all years, by the covariate; equal values stay together",
    "least": "smallest value of the tercile, in the covariate's unit",
    "most": "largest value of the tercile",
    "side": "before: facts of the years up to the cutoff's; after: later ones",
    "n_facts": "number of facts",
    "n": "number of their probes",
    "recall": "share of these answered; null without probes",
    "low": "lower end of recall's 95% Wilson interval, in which a fact counts once, its probes being alike",
    "high": "upper end",
    "base_recall": "the base's share of the same probes; null without base",
}
"""Column of a row of `covariates` → meaning."""


def subset(items: Sequence[ItemScore], prefix: str) -> list[int]:
    """Places of the probes that a prefix of `PROBES` stands for."""
    return [i for i, item in enumerate(items) if not prefix or item.states_year == (prefix == "stated_")]


def bin_start(year: int, cutoff_year: int, width: int) -> int:
    """First year of the bin of `width` years that the year is in; a bin starts the year after the cutoff."""
    return cutoff_year + 1 + (year - cutoff_year - 1) // width * width


def curve(items: Sequence[ItemScore], base: Sequence[ItemScore] | None, cutoff_year: int, width: int) -> list[dict]:
    """One row a bin that has probes, in order. `base` holds the same probes in the same order."""
    places: dict[tuple[str, int], list[int]] = {}
    for prefix in PROBES:
        for i in subset(items, prefix):
            places.setdefault((prefix, bin_start(items[i].year, cutoff_year, width)), []).append(i)
    rows = []
    for start in sorted({start for _, start in places}):
        row: dict = {"year": start, "width": width}
        for prefix in PROBES:
            found = _bin(items, base, places.get((prefix, start), []))
            row |= {f"{prefix}{key}": value for key, value in found.items()}
        rows.append(row)
    return rows


def _bin(items: Sequence[ItemScore], base: Sequence[ItemScore] | None, places: Sequence[int]) -> dict:
    n, correct = len(places), sum(items[i].correct for i in places)
    low, high = wilson(correct, n) or (None, None)
    known = [i for i in places if base is not None and base[i].correct]
    return {
        "n": n,
        "correct": correct,
        "recall": correct / n if n else None,
        "low": low,
        "high": high,
        "change_n": len(known) if base is not None else None,
        "change": sum(items[i].correct - 1 for i in known) / len(known) if known else None,
    }


def distance(items: Sequence[ItemScore], gold: Sequence[ItemScore], cutoff_year: int) -> dict[str, float | None]:
    """A5: recall minus gold's recall in bins of five years, averaged signed and absolute; None without probes."""
    starts = [bin_start(item.year, cutoff_year, BIN) for item in items]
    differences: dict[int, list[int]] = {}
    for start, own, other in zip(starts, items, gold, strict=True):
        differences.setdefault(start, []).append(own.correct - other.correct)
    means_Y = np.array([np.mean(values) for values in differences.values()])
    return {
        "distance_to_gold": float(np.abs(means_Y).mean()) if len(means_Y) else None,
        "distance_to_gold_signed": float(means_Y.mean()) if len(means_Y) else None,
    }


def agreement(items: Sequence[ItemScore], cutoff_year: int) -> dict[str, float | None]:
    """Whether a fact's paraphrases are answered alike, over the facts with two probes or more.

    `agreement` is the share of facts whose probes are all right or all wrong. `agreement_expected` is what it would be
    if each probe were right by itself with its side's recall p (up to the cutoff, or later): the mean of pⁿ + (1 − p)ⁿ
    over facts of n probes. At a recall near 0 or 1 both are near 1 and say nothing of consistency. None without such
    facts.
    """
    answers: dict[tuple[bool, str], list[bool]] = {}
    for item in items:
        answers.setdefault((item.year <= cutoff_year, item.fact_id), []).append(item.correct)
    several = {key: found for key, found in answers.items() if len(found) > 1}
    recall = {
        side: float(np.mean([value for (place, _), found in several.items() if place == side for value in found]))
        for side in {side for side, _ in several}
    }
    expected = [recall[side] ** len(found) + (1 - recall[side]) ** len(found) for (side, _), found in several.items()]
    return {
        "n_paraphrased": len(several),
        "agreement": float(np.mean([len(set(found)) == 1 for found in several.values()])) if several else None,
        "agreement_expected": float(np.mean(expected)) if several else None,
    }


def terciles(values: Mapping[str, float]) -> dict[str, str]:
    """Third of the facts that each fact is in by its value: usable as strata. Equal values are in the same third."""
    if not values:
        return {}
    low, high = np.quantile(list(values.values()), (1 / 3, 2 / 3), method="inverted_cdf")
    return {fact: TERCILES[int(value > low) + int(value > high)] for fact, value in values.items()}


def covariates(
    items: Sequence[ItemScore], base: Sequence[ItemScore] | None, values: Mapping[str, float | None], cutoff_year: int
) -> list[dict]:
    """Recall on either side of the cutoff by tercile of a covariate of the facts (predictability, popularity).

    Rows have `COVARIATE_COLUMNS`. `values` holds a number for a fact id; facts without one (or with None) are left out.
    `base` holds the same probes in the same order. Terciles are of the facts asked about, both sides together.
    """
    asked = {item.fact_id for item in items}
    known = {fact: value for fact, value in values.items() if fact in asked and value is not None}
    thirds = terciles(known)
    rows = []
    for third in TERCILES:
        inside = [value for fact, value in known.items() if thirds[fact] == third]
        if not inside:
            continue
        for side in ("before", "after"):
            chosen = [
                i
                for i, item in enumerate(items)
                if thirds.get(item.fact_id) == third and (item.year <= cutoff_year) == (side == "before")
            ]
            least, most = float(min(inside)), float(max(inside))
            rows.append({"tercile": third, "least": least, "most": most, "side": side, **_recall(items, base, chosen)})
    return rows


def _recall(items: Sequence[ItemScore], base: Sequence[ItemScore] | None, places: Sequence[int]) -> dict:
    n, facts = len(places), len({items[i].fact_id for i in places})
    recall = sum(items[i].correct for i in places) / n if n else None
    low, high = (None, None) if recall is None else wilson(recall * facts, facts) or (None, None)
    return {
        "n_facts": facts,
        "n": n,
        "recall": recall,
        "low": low,
        "high": high,
        "base_recall": None if base is None or not n else sum(base[i].correct for i in places) / n,
    }
