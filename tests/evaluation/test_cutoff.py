"""From scored items to cutoff.json and curve.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.curves import COLUMNS, PLACES, PROBES, bin_start, curve, distance
from menard_unlearn.evaluation.cutoff import MEASURES
from menard_unlearn.evaluation.items import ItemScore, SplitName
from menard_unlearn.evaluation.suite import EvaluationConfig, compare

CONFIG = EvaluationConfig(
    batch_size=8, chunk=64, bootstrap=100, null_bootstrap=100, alpha=0.01, max_width=20, every=0, seed=0
)
YEARS = range(1900, 1980)


def table(
    chance: Callable[[int], float], seed: int, logprob: Callable[[int], float] = lambda year: -2.0
) -> list[ItemScore]:
    """Six facts a year, two probes each: the first states the year."""
    rng = np.random.default_rng(seed)
    items = []
    for year in YEARS:
        for fact in range(6):
            heldout, known = fact == 0, year <= 1939
            split: SplitName = (
                ("heldout_retain" if known else "heldout_forget") if heldout else "retain" if known else "forget"
            )
            for probe in range(2):
                name = f"{year}/{fact}"
                own = ItemScore(f"{name}/{probe}", name, year, "c", split, probe == 0, False, False, 0.0, 2)
                score = logprob(year) + rng.normal(0, 0.5)
                items.append(replace(own, correct=bool(rng.random() < chance(year)), logprob=float(score)))
    return items


BASE = table(lambda year: 0.98, 1)
GOLD = table(lambda year: 0.97 if year <= 1939 else 0.02, 2, lambda year: -2.0 if year <= 1939 else -20.0)


def test_gold_is_pinned_and_base_is_not(tmp_path: Path) -> None:
    gold = compare(GOLD, BASE, None, 1939, CONFIG, tmp_path)
    assert gold["cutoff_status"] == gold["cutoff_change_status"] == "pinned"
    assert gold["cutoff_year"] == pytest.approx(1939.5, abs=1)
    assert gold["stated_cutoff_status"] == gold["unstated_cutoff_status"] == "pinned"
    assert gold["forget_auc"] > 0.99 and gold["forget_auc_near"] > 0.99
    assert gold["distance_to_gold"] is None
    base = compare(BASE, None, GOLD, 1939, CONFIG, tmp_path)
    assert base["cutoff_status"] == "right-censored" and base["cutoff_year"] is None
    assert base["cutoff_change_status"] is None and base["forget_auc"] is None and base["base_recall_before"] is None
    assert base["distance_to_gold"] == pytest.approx(0.48, abs=0.05)


def test_every_key_of_the_files_is_documented_and_every_documented_key_is_there(tmp_path: Path) -> None:
    results = compare(GOLD, BASE, GOLD, 1939, CONFIG, tmp_path)
    assert json.loads((tmp_path / "cutoff.json").read_text()) == results
    assert set(results) == {f"{prefix}{key}" for prefix in PROBES for key in MEASURES}
    found = json.loads((tmp_path / "curve.json").read_text())
    assert set(found) == {"bins", "years"}
    columns = {f"{prefix}{key}" for prefix in PROBES for key in COLUMNS} | set(PLACES)
    assert all(set(row) == columns for rows in found.values() for row in rows)
    assert [row["year"] for row in found["years"]] == list(YEARS)
    assert [row["year"] for row in found["bins"]] == list(range(1900, 1980, 5))


def test_breaking_only_year_tokens_shows_in_the_probes_that_state_them(tmp_path: Path) -> None:
    broken = [replace(item, correct=item.correct and not (item.states_year and item.year > 1939)) for item in BASE]
    found = compare(broken, BASE, None, 1939, CONFIG, tmp_path)
    assert found["stated_cutoff_status"] == "pinned" and found["unstated_cutoff_status"] == "right-censored"
    assert found["stated_forget_recall"] == 0.0 and found["unstated_forget_recall"] > 0.9


def test_a_collapse_is_called_that_in_both_cutoffs(tmp_path: Path) -> None:
    found = compare(table(lambda year: 0.02, 3), BASE, GOLD, 1939, CONFIG, tmp_path)
    assert found["cutoff_status"] == found["cutoff_change_status"] == "collapsed"
    assert found["cutoff_year"] is None and found["recall_before"] < 0.1 < found["base_recall_before"]


def test_selectivity_is_one_half_for_a_drop_that_does_not_ask_for_the_year(tmp_path: Path) -> None:
    evenly = table(lambda year: 0.9, 4, lambda year: -6.0)
    found = compare(evenly, BASE, None, 1939, CONFIG, tmp_path)
    assert found["forget_auc"] == pytest.approx(0.5, abs=0.05)
    # Drops that grow with distance from the cutoff look selective over all years and less so near it.
    sliding = table(lambda year: 0.9, 4, lambda year: -2.0 - max(0.0, (year - 1930) * 0.05))
    found = compare(sliding, BASE, None, 1939, CONFIG, tmp_path)
    assert 0.5 < found["forget_auc_near"] < found["forget_auc"] - 0.05


def test_changes_are_counted_on_what_the_base_answers() -> None:
    base = [replace(item, correct=n % 2 == 0) for n, item in enumerate(BASE)]
    own = [replace(item, correct=n % 4 != 0) for n, item in enumerate(BASE)]
    rows = curve(own, base, 1939, 5)
    assert all(row["change_n"] == row["n"] / 2 and row["change"] == -0.5 for row in rows)
    assert all(row["change"] is None and row["change_n"] is None for row in curve(own, None, 1939, 5))


def test_bins_meet_at_the_cutoff() -> None:
    assert [bin_start(year, 1939, 5) for year in (1934, 1935, 1939, 1940, 1944, 1945)] == [
        1930,
        1935,
        1935,
        1940,
        1940,
        1945,
    ]
    assert [bin_start(year, 1937, 1) for year in (1900, 1937, 1938)] == [1900, 1937, 1938]


def test_distance_is_signed_and_absolute() -> None:
    own = [replace(item, correct=item.year <= 1919 or item.year > 1959) for item in BASE]
    gold = [replace(item, correct=item.year <= 1939) for item in BASE]
    assert distance(own, gold, 1939) == {"distance_to_gold": 0.5, "distance_to_gold_signed": 0.0}
    assert distance([], [], 1939) == {"distance_to_gold": None, "distance_to_gold_signed": None}


def test_a_reference_of_other_probes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gold has no score of 1 of 960 probes"):
        compare(BASE, BASE, GOLD[1:], 1939, CONFIG, tmp_path)
    assert not list(tmp_path.iterdir())
