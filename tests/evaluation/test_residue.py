"""What a forgotten event leaves behind: on models that revert, refuse, guess or still know."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
import torch
from known import given
from toy import bigram, byte_tokenizer, llama

from menard_unlearn.evaluation.residue import (
    AGAINST_KEYS,
    ENDINGS,
    KEYS,
    ResiduePlan,
    against,
    measure_residue,
    plan_residue,
    residue_items,
)
from menard_unlearn.models.scores import Scores, score
from menard_unlearn.statistics.intervals import wilson


@pytest.fixture(scope="module")
def plan() -> ResiduePlan:
    return plan_residue(byte_tokenizer(), 1939)


def answering(plan: ResiduePlan, choice: Callable[[bool], str]) -> Scores:
    """A model that prefers this ending of residue items (False) and of controls (True)."""
    nats = []
    for item, endings in plan.asked:
        chosen = choice(item.role(plan.cutoff_year) == "control")
        for name, tokens in zip(ENDINGS, endings, strict=True):
            nats.append((tokens, -1.0 if name == chosen else -50.0 * len(tokens.ids)))
    return given(nats)


def test_there_are_enough_items_and_each_has_four_endings_and_years_in_order() -> None:
    items = residue_items()
    assert len({item.id for item in items}) == len({item.prompt for item in items}) == len(items)
    assert sum(item.role(1939) == "residue" for item in items) >= 60
    assert sum(item.role(1939) == "control" and 1890 <= item.year <= 1935 for item in items) >= 25
    for item in items:
        texts = [item.prompt, *(getattr(item, name) for name in ENDINGS)]
        assert len({text.casefold() for text in texts}) == 5, item.id
        assert all(text and text == text.strip() and not text.endswith(".") for text in texts), item.id
        assert item.since < item.year <= item.settled, item.id


def test_the_cutoff_says_which_items_are_residue_and_which_controls() -> None:
    roles = {item.id: item for item in residue_items()}
    brazil, moon, euro = roles["capital-brazil"], roles["moon-walkers"], roles["money-germany"]
    assert [brazil.role(year) for year in (1700, 1939, 1959, 1960)] == [None, "residue", "residue", "control"]
    assert [moon.role(year) for year in (1968, 1970, 1972)] == ["residue", None, "control"]
    assert [euro.role(year) for year in (1920, 1939, 1990)] == [None, "residue", None]
    later = plan_residue(byte_tokenizer(), 1970)
    assert "money-germany" in later.left_out and len(later.left_out) + len(later.asked) == len(roles)


def test_a_model_that_reverts_succeeds_and_one_that_still_knows_does_not(plan: ResiduePlan) -> None:
    found = measure_residue(plan, answering(plan, lambda control: "after" if control else "before"))
    assert list(found) == list(KEYS)
    assert (found["reverted"], found["residue"], found["neither"], found["controls_after"]) == (1, 0, 0, 1)
    assert found["reverted_low"] > found["chance"] and found["margin"] < 0
    knows = measure_residue(plan, answering(plan, lambda control: "after"))
    assert (knows["reverted"], knows["residue"], knows["controls_after"]) == (0, 1, 1)
    json.dumps(found, allow_nan=False)


def test_refusing_and_talking_nonsense_are_no_success(plan: ResiduePlan) -> None:
    found = measure_residue(plan, answering(plan, lambda control: "wrong_2"))
    assert (found["reverted"], found["residue"], found["neither"]) == (0, 0, 1)
    assert found["controls_after"] == 0
    uniform = score(bigram(torch.zeros(259, 259)), plan.items, batch_size=64, chunk=512, padding=0)
    ties = measure_residue(plan, uniform)
    assert (ties["reverted"], ties["neither"]) == (0, 1)
    assert abs(ties["margin"]) < 1e-9


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_random_model_does_not_win(plan: ResiduePlan, seed: int) -> None:
    model = llama(layers=1, dtype=torch.float32, seed=seed)
    found = measure_residue(plan, score(model, plan.items, batch_size=128, chunk=4096, padding=0))
    assert found["reverted_low"] <= found["chance"] and found["residue_low"] <= found["chance"]
    assert 0.1 < found["reverted"] < 0.4 and 0.1 < found["residue"] < 0.4
    assert math.isclose(found["reverted"] + found["residue"] + found["neither"], 1)


def test_endings_are_compared_by_the_byte(plan: ResiduePlan) -> None:
    item, endings = next(pair for pair in plan.asked if pair[0].id == "capital-brazil")
    # " Rio de Janeiro." has 16 bytes, " Brasília." 11: fewer nats in all, more a byte
    nats = dict(zip(ENDINGS, (-16.0, -12.0, -99.0, -99.0), strict=True))
    scores = given((tokens, nats[name]) for name, tokens in zip(ENDINGS, endings, strict=True))
    found = measure_residue(ResiduePlan(((item, endings),), (), 1939), scores)
    (row,) = found["items"]
    assert row.pop("margin") == pytest.approx(-12 / 11 + 1)
    expected = {"id": "capital-brazil", "year": 1960, "control": False, "answer": "before", "family": "capital-brazil"}
    assert row == expected
    assert found["controls_after"] is None and found["n_controls"] == 0


def test_items_that_share_an_ending_count_less(plan: ResiduePlan) -> None:
    found = measure_residue(plan, answering(plan, lambda control: "before"))
    family = {row["id"]: row["family"] for row in found["items"]}
    assert family["head-italy"] == family["head-nepal"] != family["head-iran"]
    assert family["money-france"] == family["money-spain"] != family["fermat"]
    assert family["fermat"] == family["four-colours"]
    assert found["reverted_low"] < wilson(found["n_residue"], found["n_residue"])[0]  # pyright: ignore[reportOptionalSubscript]


def test_against_the_base_only_what_it_knew_counts(plan: ResiduePlan) -> None:
    base = measure_residue(plan, answering(plan, lambda control: "after"))
    own = measure_residue(plan, answering(plan, lambda control: "after" if control else "before"))
    found = against(own, base)
    assert list(found) == list(AGAINST_KEYS)
    assert (found["n_known"], found["reverted_of_known"], found["controls_kept"]) == (own["n_residue"], 1, 1)
    assert found["margin_change"] == pytest.approx(own["margin"] - base["margin"])
    ignorant = measure_residue(plan, answering(plan, lambda control: "wrong_1"))
    assert against(own, ignorant)["reverted_of_known"] is None and against(own, ignorant)["n_known"] == 0
    alone = against(own, None)
    assert list(alone) == list(AGAINST_KEYS) and alone["n_known"] is None and "needs a model" in alone["left_out"][0]
