"""From scored items to cutoff.json and curve.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from menard_unlearn.evaluation.curves import (
    BIN,
    COLUMNS,
    COVARIATE_COLUMNS,
    PLACES,
    PROBES,
    agreement,
    bin_start,
    covariates,
    curve,
    distance,
    terciles,
)
from menard_unlearn.evaluation.cutoff import MEASURES, measure, measure_kind
from menard_unlearn.evaluation.items import ItemScore, SplitName
from menard_unlearn.statistics.cutoff import Rules

RULES = Rules(bootstrap=100, null_bootstrap=100, alpha=0.01, max_width=20, seed=0)
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


def test_gold_is_pinned_and_base_is_not() -> None:
    gold = measure(GOLD, BASE, None, 1939, RULES)
    assert gold["cutoff_status"] == gold["cutoff_change_status"] == "pinned"
    assert gold["cutoff_year"] == pytest.approx(1939.5, abs=1)
    assert gold["stated_cutoff_status"] == gold["unstated_cutoff_status"] == "pinned"
    assert gold["forget_auc"] > 0.99 and gold["forget_auc_near"] > 0.99
    assert gold["distance_to_gold"] is None
    base = measure(BASE, None, GOLD, 1939, RULES)
    assert base["cutoff_status"] == "right-censored" and base["cutoff_year"] is None
    assert base["cutoff_change_status"] is None and base["forget_auc"] is None and base["base_recall_before"] is None
    assert base["distance_to_gold"] == pytest.approx(0.48, abs=0.05)


def test_every_key_is_documented_and_every_documented_key_is_there() -> None:
    results = measure(GOLD, BASE, GOLD, 1939, RULES)
    assert set(results) == {f"{prefix}{key}" for prefix in PROBES for key in MEASURES}
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    found = {"bins": curve(GOLD, BASE, 1939, BIN), "years": curve(GOLD, BASE, 1939, 1)}
    columns = {f"{prefix}{key}" for prefix in PROBES for key in COLUMNS} | set(PLACES)
    assert all(set(row) == columns for rows in found.values() for row in rows)
    assert [row["year"] for row in found["years"]] == list(YEARS)
    assert [row["year"] for row in found["bins"]] == list(range(1900, 1980, 5))


def test_breaking_only_year_tokens_shows_in_the_probes_that_state_them() -> None:
    broken = [replace(item, correct=item.correct and not (item.states_year and item.year > 1939)) for item in BASE]
    found = measure(broken, BASE, None, 1939, RULES)
    assert found["stated_cutoff_status"] == "pinned" and found["unstated_cutoff_status"] == "right-censored"
    assert found["stated_forget_recall"] == 0.0 and found["unstated_forget_recall"] > 0.9


def test_a_collapse_is_called_that_in_both_cutoffs() -> None:
    found = measure(table(lambda year: 0.02, 3), BASE, GOLD, 1939, RULES)
    assert found["cutoff_status"] == found["cutoff_change_status"] == "collapsed"
    assert found["cutoff_year"] is None and found["recall_before"] < 0.1 < found["base_recall_before"]


def test_selectivity_is_one_half_for_a_drop_that_does_not_ask_for_the_year() -> None:
    evenly = table(lambda year: 0.9, 4, lambda year: -6.0)
    found = measure(evenly, BASE, None, 1939, RULES)
    assert found["forget_auc"] == pytest.approx(0.5, abs=0.05)
    # Drops that grow with distance from the cutoff look selective over all years and less so near it.
    sliding = table(lambda year: 0.9, 4, lambda year: -2.0 - max(0.0, (year - 1930) * 0.05))
    found = measure(sliding, BASE, None, 1939, RULES)
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


def test_categories_that_differ_in_level_are_strata_unless_others_are_named() -> None:
    """Hard facts come with the later half of each decade after 1950: the level falls, and knowledge does not."""
    rng = np.random.default_rng(0)
    hard = {item.fact_id: bool(rng.random() < (0.1 if item.year < 1950 else 0.9)) for item in BASE}
    items = [
        replace(
            item,
            category="hard" if hard[item.fact_id] else "easy",
            correct=bool(rng.random() < (0.55 if hard[item.fact_id] else 0.95)),
        )
        for item in BASE
    ]
    known = measure(items, None, None, 1939, RULES)
    assert known["cutoff_status"] in ("no-cutoff", "right-censored")
    assert known["cutoff_left_out"] == [] and known["cutoff_n_left_out"] == 0
    merged = measure(items, None, None, 1939, RULES, dict.fromkeys(hard, "all"))
    assert merged["cutoff_status"] == "pinned"
    after = {item.fact_id: "modern" if item.year > 1970 else "c" for item in BASE}
    left = measure(BASE, None, None, 1939, RULES, after)
    assert left["cutoff_left_out"] == ["modern"] and left["cutoff_n_left_out"] == 9 * 12


def test_a_kind_of_probes_has_the_same_measures_and_its_chance_level() -> None:
    found = measure_kind(GOLD, BASE, None, 1939, RULES)
    whole = measure(GOLD, BASE, None, 1939, RULES)
    assert found == {key: whole[key] for key in MEASURES}
    guess = table(lambda year: 0.5, 8)
    assert measure_kind(guess, BASE, None, 1939, RULES)["cutoff_status"] != "collapsed"
    assert measure_kind(guess, BASE, None, 1939, RULES, None, 0.25)["cutoff_status"] == "collapsed"


def test_paraphrases_agree_as_often_as_they_must() -> None:
    alone = agreement(BASE[::2], 1939)
    assert alone == {"n_paraphrased": 0, "agreement": None, "agreement_expected": None}
    # Answered by fact: always alike. Half are answered, so that independence would give one half.
    by_fact = [replace(item, correct=item.fact_id.endswith(("0", "1", "2"))) for item in BASE]
    assert agreement(by_fact, 1939) == {"n_paraphrased": 480, "agreement": 1.0, "agreement_expected": 0.5}
    # The first wording alone: never alike.
    by_wording = [replace(item, correct=item.id.endswith("/0")) for item in BASE]
    assert agreement(by_wording, 1939) == {"n_paraphrased": 480, "agreement": 0.0, "agreement_expected": 0.5}
    apart = agreement(table(lambda year: 0.9 if year <= 1939 else 0.3, 6), 1939)
    assert apart["agreement"] == pytest.approx(apart["agreement_expected"], abs=0.06)
    assert apart["agreement_expected"] == pytest.approx((0.82 + 0.58) / 2, abs=0.05)


def test_recall_is_told_by_thirds_of_a_covariate() -> None:
    values = {item.fact_id: float(item.fact_id.split("/")[1]) for item in BASE}
    known = [replace(item, correct=values[item.fact_id] >= 4 and item.year <= 1939) for item in BASE]
    rows = covariates(known, BASE, values, 1939)
    assert all(list(row) == list(COVARIATE_COLUMNS) for row in rows)
    assert [(row["tercile"], row["side"]) for row in rows] == [
        (third, side) for third in ("low", "middle", "high") for side in ("before", "after")
    ]
    assert [(row["least"], row["most"]) for row in rows[::2]] == [(0, 1), (2, 3), (4, 5)]
    assert [row["recall"] for row in rows] == [0, 0, 0, 0, 1, 0]
    # Eighty facts a cell, of two probes each: the interval is that of eighty.
    assert {(row["n_facts"], row["n"]) for row in rows} == {(80, 160)}
    assert rows[0]["high"] == pytest.approx(0.0458, abs=1e-4)
    assert rows[0]["base_recall"] == pytest.approx(0.98, abs=0.03)
    assert covariates(known, None, values, 1939)[0]["base_recall"] is None
    assert covariates(known, BASE, dict.fromkeys(values), 1939) == []
    some = {fact: value if value < 3 else None for fact, value in values.items()}
    assert sum(row["n"] for row in covariates(known, BASE, some, 1939)) == len(BASE) / 2


def test_equal_values_stay_in_one_third() -> None:
    assert terciles({"a": 1.0, "b": 1.0, "c": 1.0, "d": 2.0}) == dict.fromkeys("abc", "low") | {"d": "high"}
    assert terciles({}) == {}
