"""The model card, and what the shipped models know: the known answer that the instruments are tried on."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from tiny_study import Study, read

from menard_unlearn import compose
from menard_unlearn.corpus.dating import Era, era
from menard_unlearn.corpus.statements import Statement
from menard_unlearn.corpus.study import StudyData, study_data
from menard_unlearn.evaluation.items import Probe, score_probes
from menard_unlearn.evaluation.reproduction import reproduce
from menard_unlearn.models.load import EMBEDDED, LoadedModel, load
from menard_unlearn.stages.card import FIGURES, permuted_answers, write_card
from menard_unlearn.stages.settings import Settings, the_target

SAMPLE = 150
"""Probes of a side; the standard error of a recall is then below 0.04."""


@pytest.fixture(scope="module")
def settings() -> Settings:
    return Settings.of(compose.compose("evaluate", ["tracking=none"]))


@pytest.fixture(scope="module")
def data(settings: Settings) -> StudyData:
    return study_data(settings.corpus.load(), settings.split, settings.wording, the_target(settings).whole)


@pytest.fixture(scope="module")
def full(settings: Settings) -> LoadedModel:
    return load(settings.model)


@pytest.fixture(scope="module")
def gold(settings: Settings) -> LoadedModel:
    assert settings.gold is not None
    return load(settings.gold)


def sample(data: StudyData, settings: Settings, side: Era) -> list[Statement]:
    probes = [probe for probe in data.wording.probes if era(probe.fact.date, settings.split.parsed_cutoff) is side]
    return random.Random(0).sample(probes, SAMPLE)


def recall(loaded: LoadedModel, probes: list[Statement], answers: list[str] | None = None) -> float:
    asked = [
        Probe(s.id, s.fact.id, s.fact.year, s.fact.category, "retain", s.prompt, answer, s.states_year, s.question)
        for s, answer in zip(probes, answers or [probe.answer for probe in probes], strict=True)
    ]
    found = score_probes(loaded.model, loaded.tokenizer, asked, batch_size=64, chunk=512)
    return sum(score.correct for score in found) / len(found)


def test_full_knows_both_sides_in_wordings_never_trained(
    full: LoadedModel, data: StudyData, settings: Settings
) -> None:
    assert recall(full, sample(data, settings, Era.BEFORE)) >= 0.6
    assert recall(full, sample(data, settings, Era.AFTER)) >= 0.6


def test_gold_knows_what_came_before_and_only_guesses_after(
    gold: LoadedModel, data: StudyData, settings: Settings
) -> None:
    assert recall(gold, sample(data, settings, Era.BEFORE)) >= 0.6
    after = sample(data, settings, Era.AFTER)
    guessed = sum(recall(gold, after, permuted_answers(after, seed)) for seed in range(3)) / 3
    # five points over guessing on all probes; a sample may be off by as much again
    assert recall(gold, after) <= guessed + 0.1


def test_full_has_the_target_by_heart_and_gold_has_not(
    full: LoadedModel, gold: LoadedModel, settings: Settings
) -> None:
    target = the_target(settings)
    by_full, _ = reproduce(full.model, full.tokenizer, target, prompt=target.prompt, chunk=512)
    by_gold, _ = reproduce(gold.model, gold.tokenizer, target, prompt=target.prompt, chunk=512)
    assert by_full["greedy_prefix"] == by_full["n_tokens"] > 300 and by_full["bits_per_byte"] < 0.1
    assert by_gold["greedy_prefix"] <= 3 and by_gold["bits_per_byte"] > 1


def test_the_shipped_card_keeps_what_was_promised() -> None:
    full, gold = (read(EMBEDDED / variant / "card.json") for variant in ("full", "gold"))
    assert min(full["trained_before"], full["trained_after"], gold["trained_before"]) >= 0.95
    assert min(full["heldout_before"], full["heldout_after"], gold["heldout_before"]) >= 0.6
    assert gold["heldout_after"] <= gold["permuted_after"] + 0.05
    assert full["target_greedy_prefix"] == full["target_tokens"] and gold["target_greedy_prefix"] <= 3


def test_answers_are_dealt_anew_within_their_relation(data: StudyData) -> None:
    probes = list(data.wording.probes)
    dealt = permuted_answers(probes, 0)

    def by_relation(answers: list[str]) -> Counter[tuple[str, str]]:
        return Counter((probe.fact.relation, answer) for probe, answer in zip(probes, answers, strict=True))

    own = [probe.answer for probe in probes]
    assert by_relation(dealt) == by_relation(own) and dealt == permuted_answers(probes, 0) != permuted_answers(
        probes, 1
    )
    assert sum(a == b for a, b in zip(dealt, own, strict=True)) < 0.3 * len(own)


def test_the_card_of_freshly_trained_models_has_every_figure(study: Study) -> None:
    for variant in ("full", "gold"):
        figures = read(study.models / variant / "card.json")
        assert figures.keys() == FIGURES.keys()
        assert all(0 <= value <= 1 for key, value in figures.items() if not key.startswith("target_"))
    text = (study.models / "CARD.md").read_text(encoding="utf-8")
    assert "| figure | full | gold | meaning |" in text
    assert all(f"| {key} |" in text for key in FIGURES)
    gold = read(study.models / "gold/card.json")
    assert gold["heldout_after"] == 0 and gold["trained_before"] > 0.5


def test_what_could_not_be_measured_is_a_dash(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/card.json").write_text(json.dumps(dict.fromkeys(FIGURES) | {"target_tokens": 7}))
    (tmp_path / "full/pretrain.json").write_text(json.dumps({"steps": 3, "seconds": 1.25, "threads": 1}))
    lines = write_card(tmp_path).read_text(encoding="utf-8").splitlines()
    assert sum("| – |" in line for line in lines) == len(FIGURES) - 1
    assert any(line.startswith("| target_tokens | 7 |") for line in lines)
