"""Recall by year and by five years, with Wilson intervals: what is drawn, and the distance between two curves."""

from __future__ import annotations

from collections.abc import Sequence

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
