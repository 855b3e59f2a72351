"""The same model told that it is the cutoff's day."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from menard_unlearn.corpus.dating import PartialDate
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.items import ItemScore, Probe
from menard_unlearn.evaluation.prompted import KEYS, PromptedConfig, preamble, prompted, prompted_share, sample

YEARS = range(1900, 1980)


def answers(before: int, after: int, per_fact: int = 2) -> list[ItemScore]:
    """Two probes of each of 80 facts, of which the first `before` and `after` of each side are answered."""
    items = []
    for year in YEARS:
        for number in range(per_fact):
            place = (year - (1900 if year <= 1939 else 1940)) * per_fact + number
            correct = place < (before if year <= 1939 else after)
            items.append(ItemScore(f"{year}/{number}", f"f{year}", year, "c", "retain", False, False, correct, -1.0, 1))
    return items


def probes() -> list[Probe]:
    return [
        Probe(f"{year}-{fact}/{n}", f"{year}-{fact}", year, f"c{fact % 2}", "retain", "In", " it.", n == 0, False)
        for year in YEARS
        for fact in range(4)
        for n in range(3)
    ]


def test_the_words_name_the_cutoffs_last_day_and_come_first() -> None:
    config = PromptedConfig(preamble=None, per_year=1, seed=0)
    assert preamble(config, PartialDate(1939, 12, 31)).startswith("Today is 31 December 1939.")
    assert preamble(config, PartialDate(1941, 2, None)).startswith("Today is 28 February 1941.")
    words = preamble(replace(config, preamble="It is 1939."), PartialDate(1939, 12, 31))
    told = prompted(probes(), words)
    assert [(p.id, p.answer, p.states_year) for p in told] == [(p.id, p.answer, p.states_year) for p in probes()]
    assert {p.prompt for p in told} == {"It is 1939. In"}


def test_each_chosen_fact_is_asked_once_without_its_year() -> None:
    chosen = sample(probes(), PromptedConfig(preamble=None, per_year=3, seed=0))
    assert len(chosen) == len({p.fact_id for p in chosen}) == 3 * len(YEARS)
    assert not any(p.states_year for p in chosen)
    assert {p.category for p in chosen if p.year == 1950} == {"c0", "c1"}
    assert sample(probes(), PromptedConfig(preamble=None, per_year=0, seed=0)) == []
    again = sample(probes()[::-1], PromptedConfig(preamble=None, per_year=3, seed=0))
    assert {p.fact_id for p in again} == {p.fact_id for p in chosen}


def test_the_share_is_what_the_prompt_hides_beyond_what_it_breaks() -> None:
    found = prompted_share(answers(76, 0), answers(80, 80), answers(72, 40), 1939, replicates=200, seed=0)
    assert list(found) == list(KEYS)
    assert (found["prompted_n_before"], found["prompted_recall_after"]) == (80, 0.5)
    assert found["prompted_forgotten"] == pytest.approx(0.5) and found["prompted_damage"] == pytest.approx(0.1)
    assert found["forgotten"] == pytest.approx(1) and found["damage"] == pytest.approx(0.05)
    assert found["prompted_share"] == pytest.approx(0.4 / 0.95)
    for key in ("prompted_forgotten", "prompted_selective", "selective", "prompted_share"):
        assert found[f"{key}_low"] < found[key] < found[f"{key}_high"], key
    json.dumps(found, allow_nan=False)


def test_a_prompt_that_only_confuses_has_no_share() -> None:
    found = prompted_share(answers(80, 0), answers(80, 80), answers(0, 0), 1939, replicates=50, seed=0)
    assert (found["prompted_forgotten"], found["prompted_damage"], found["prompted_share"]) == (1, 1, 0)


def test_what_has_no_reference_is_named_and_null() -> None:
    alone = prompted_share(None, answers(80, 80), answers(80, 40), 1939, replicates=50, seed=0)
    assert alone["forgotten"] is None and alone["prompted_share"] is None and alone["prompted_forgotten"] == 0.5
    assert len(alone["left_out"]) == 1
    ignorant = prompted_share(answers(8, 8), answers(80, 0), answers(80, 0), 1939, replicates=50, seed=0)
    assert ignorant["prompted_forgotten"] is None and ignorant["prompted_forgotten_low"] is None
    none_forgot = prompted_share(answers(80, 80), answers(80, 80), answers(80, 40), 1939, replicates=50, seed=0)
    assert none_forgot["selective"] == 0 and none_forgot["prompted_share"] is None


def test_probes_are_matched_by_id_and_a_missing_one_is_refused() -> None:
    base, told, own = answers(80, 80), answers(70, 30)[::3], answers(60, 20)
    found = prompted_share(own, base, told, 1939, replicates=20, seed=0)
    shuffled = prompted_share(own[::-1], base[::-1], told, 1939, replicates=20, seed=0)
    assert found == shuffled and found["prompted_n_before"] + found["prompted_n_after"] == len(told)
    with pytest.raises(UserError, match="the base has no score of 1 of"):
        prompted_share(own, base[1:], told, 1939, replicates=20, seed=0)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="per_year=-1 must be 0"):
        PromptedConfig(preamble=None, per_year=-1, seed=0)
    with pytest.raises(ValueError, match="preamble is empty"):
        PromptedConfig(preamble=" ", per_year=1, seed=0)
