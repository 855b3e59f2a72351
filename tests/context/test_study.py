"""A model's answer is made of what it scored, says what could not be computed, and goes on where it was stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import byte_tokenizer, llama, target

from menard_unlearn.context import keys, study
from menard_unlearn.context.answer import answer_of
from menard_unlearn.context.draws import Frame, Passages, text_item
from menard_unlearn.context.scoring import score_after
from menard_unlearn.context.study import ContextPlan, measure
from menard_unlearn.corpus.dating import parse_date
from menard_unlearn.corpus.documents import Document
from menard_unlearn.files import write_json
from menard_unlearn.statistics.context_needed import Rules

TOKENIZER = byte_tokenizer()
LENGTHS = (4, 8, 16, 32)
RULES = Rules(block=5, bootstrap=100, max_decades=1.0, claim_orders=5.0, seed=0)


def passages(*letters: str) -> Passages:
    documents = [Document(x, f"{x} mare, {x} lamp, {x} bell. " * 3, parse_date("1900"), "test") for x in letters]
    return Passages.of(TOKENIZER, documents, None)


PLAN = ContextPlan(
    frame=Frame.of(TOKENIZER, "\n"),
    lengths=LENGTHS,
    n_draws=3,
    target=text_item(TOKENIZER, target("Nobody had wound the clock of the ferry since.")),
    control=text_item(TOKENIZER, target("A dog slept by the well and dreamt of rain.")),
    own=passages("a", "b", "c"),
    shuffle=True,
    other=passages("x", "y", "z"),
    seed=0,
)


def measured(folder: Path, plan: ContextPlan = PLAN) -> dict[str, np.ndarray]:
    return measure(llama(dtype=torch.float64), plan, folder, piece=16, chunk=16)


def test_every_kind_of_context_is_scored(tmp_path: Path) -> None:
    found = measured(tmp_path)
    n_target, n_control = (len(item.ids) - item.n_prompt for item in (PLAN.target, PLAN.control) if item is not None)
    assert {kind: array.shape for kind, array in found.items()} == {
        **dict.fromkeys(("own", "shuffled", "other"), (3, 4, n_target)),
        "other_target": (3, 4, n_control),
        "alone": (n_target,),
        "alone_other": (n_control,),
    }
    model, draw = llama(dtype=torch.float64), PLAN.own.draw(2, 32, PLAN.frame, PLAN.seed)
    (expected_LT,) = score_after(model, [PLAN.target], draw, LENGTHS, PLAN.frame, piece=16, chunk=16)
    assert found["own"][2] == pytest.approx(expected_LT, rel=1e-9)
    assert not np.allclose(found["own"][0], found["own"][1]) and not np.allclose(found["own"], found["shuffled"])


def test_placebos_that_are_not_wanted_are_not_there(tmp_path: Path) -> None:
    found = measured(tmp_path, replace(PLAN, control=None, shuffle=False, other=None))
    assert set(found) == {"own", "alone"}
    assert answer_of(found, LENGTHS, [0.5], RULES)["placebos"] == {}


def test_what_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(tmp_path / "whole")
    calls = 0

    def stopping(*arguments: object, **named: object) -> list[np.ndarray]:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return score_after(*arguments, **named)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(study, "score_after", stopping)
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path / "parts")
    again = measured(tmp_path / "parts")
    assert calls == 5 + 5  # of nine contexts four were there
    assert all((again[kind] == array).all() for kind, array in whole.items())


def planted(own_L: list[float], placebo_L: list[float], n_tokens: int = 60, draws: int = 4) -> dict[str, np.ndarray]:
    """Log-probabilities of these mean losses, with a little noise."""
    rng = np.random.default_rng(0)

    def of(loss_L: list[float]) -> np.ndarray:
        return -(np.array(loss_L)[None, :, None] + rng.normal(0, 1e-3, (draws, len(loss_L), n_tokens)))

    arrays = {"own": of(own_L), "alone": np.full(n_tokens, -9.0), "alone_other": np.full(n_tokens, -8.0)}
    return arrays | {kind: of(placebo_L) for kind in study.PLACEBOS}


def test_an_answer_has_the_keys_that_are_explained(tmp_path: Path) -> None:
    found = answer_of(planted([4.0, 3.0, 2.5, 2.25, 2.125], [4.0] * 5), (4, 8, 16, 32, 64), [0.5, 0.9], RULES)
    write_json(tmp_path / "found.json", found)  # no ∞, no NaN
    assert json.loads((tmp_path / "found.json").read_text()) == found
    assert set(found) == set(keys.MODEL) and set(found["curve"][0]) == set(keys.CURVE)
    assert set(found["law"]) == set(keys.LAW) and set(found["claim"]) == set(keys.CLAIM)
    assert set(found["answer"]) == set(found["further_answers"][0]) == set(keys.ANSWER)
    assert set(found["answer"]["forms"]) == set(keys.FORMS)
    assert all(set(placebo) == set(keys.PLACEBO) for placebo in found["placebos"].values())
    assert found["answer"]["status"] == "infinite" and found["in_words"].startswith("infinite:")
    assert found["answer"]["quantiles"]["high"] == {"is": "infinite", "decades": None}
    assert found["law"]["floor"] == pytest.approx(2.0, abs=0.01) and found["law"]["beta"] == pytest.approx(1, abs=0.02)


def test_what_a_placebo_shows_is_taken_off() -> None:
    """Of the same text its loss, of another text its fall."""
    found = answer_of(planted([4.0, 3.0, 2.5, 2.0], [3.5, 3.4, 3.3, 3.2]), LENGTHS, [0.5], RULES)["placebos"]
    for kind in ("shuffled", "other"):
        assert found[kind]["beyond"] == pytest.approx(1.2, abs=2e-3)
    assert found["other_target"]["beyond"] == pytest.approx(2.0 - 0.3, abs=2e-3)
    assert all(placebo["beyond_low"] > 1 and placebo["beyond_high"] < 2 for placebo in found.values())
    assert found["other"]["no_context"] == 9.0 and found["other_target"]["no_context"] == 8.0


def test_without_an_interval_there_are_no_numbers_but_the_curve() -> None:
    """Two blocks of tokens are too few."""
    found = answer_of(planted([4.0, 3.0, 2.5, 2.0], [4.0] * 4, n_tokens=10), LENGTHS, [0.5], RULES)
    assert found["answer"]["status"] == "undetermined" and found["in_words"].startswith("undetermined")
    empty = ("decades", "tokens", "p_infinite", "p_reached", "at_least", "at_least_low", "reached_at")
    assert all(found["answer"][key] is None for key in empty)
    assert found["answer"]["forms"] == found["answer"]["quantiles"] == {}
    assert found["law"] is found["claim"] is found["fall"] is None
    assert [row["nats"] for row in found["curve"]] == pytest.approx([4.0, 3.0, 2.5, 2.0], abs=2e-3)
    assert all(row["low"] is None for row in found["curve"])


@pytest.mark.parametrize(
    ("loss_L", "words"),
    [
        ([0.1, 1e-9, 1e-9, 1e-9], "reached: 8 tokens of context"),
        ([1.0, 1.2, 1.4, 1.6], "rising: the target gets less likely"),
        ([1.0, 1.0, 1.0, 1.0], "flat: no effect of up to 32 tokens"),
        ([8.0, 4.0, 2.0, 1.0], "pinned: about 10^1.9 times 32 tokens"),
        ([1.0, 0.9, 0.81, 0.729], "right-censored: more than 10^"),
    ],
)
def test_the_answer_in_words_begins_with_its_status(loss_L: list[float], words: str) -> None:
    arrays = planted(loss_L, loss_L)
    if words.startswith("reached"):
        arrays["own"] = np.minimum(arrays["own"], 0) * np.array([1.0, 1e-3, 1e-3, 1e-3])[None, :, None]
    found = answer_of(arrays, LENGTHS, [0.5], RULES)
    assert found["in_words"].startswith(words) and found["answer"]["status"] == words.partition(":")[0]


def test_a_text_known_by_heart_is_said_to_be() -> None:
    arrays = planted([4.0, 3.0, 2.5, 2.0], [4.0] * 4)
    assert not answer_of(arrays, LENGTHS, [0.5], RULES)["reproduced_without"]
    known = answer_of(arrays | {"alone": np.full(60, -0.01)}, LENGTHS, [0.5], RULES)
    assert known["reproduced_without"] and known["in_words"].startswith("Without any context")
