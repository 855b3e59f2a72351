"""Interventions: doses that compare, special tokens left alone, and nothing that changes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from steered import BOS, LAYER, TOKENIZER, items_of, model_of, sae_of
from torch import Tensor
from transformers import LlamaForCausalLM

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.errors import UserError
from menard_unlearn.features.hooks import Positions, editing, special_ids
from menard_unlearn.features.sae import Sae
from menard_unlearn.features.steering import (
    NOTHING,
    Intervention,
    activations,
    applied,
    clamp_norm,
    difference_of_means,
    kept_states,
    of_direction,
    of_feature,
    of_features,
    random_directions,
    random_features,
)

ITEMS = items_of("the clerk copied the ledger", "rain", "a sailor wrote home of rain")
SPECIAL = frozenset({0, 1, 2})


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return model_of()


@pytest.fixture(scope="module")
def sae(model: LlamaForCausalLM) -> Sae:
    return sae_of(model, ITEMS)


@torch.inference_mode()
def states(model: LlamaForCausalLM, item: TokenItem, intervention: Intervention) -> Tensor:
    """states_TD after the layer, as an inner block sees them."""
    seen: list[Tensor] = []

    def look(hidden_BTD: Tensor, _positions: Positions) -> None:
        seen.append(hidden_BTD[0].clone())

    with applied(model, LAYER, intervention, SPECIAL), editing(model, LAYER, look, SPECIAL):
        model(input_ids=torch.tensor([item.ids]))
    return seen[0]


def test_nothing_is_nothing_to_the_bit_and_hooks_nothing(model: LlamaForCausalLM, sae: Sae) -> None:
    input_ids = torch.tensor([ITEMS[0].ids])
    plain = model(input_ids=input_ids).logits
    with applied(model, LAYER, NOTHING, SPECIAL):
        assert not any(module._forward_hooks for module in model.modules())
        assert torch.equal(model(input_ids=input_ids).logits, plain)
    with applied(model, LAYER, of_features(sae, {}, name="none of them"), SPECIAL):
        assert torch.equal(model(input_ids=input_ids).logits, plain)
    with applied(model, LAYER, of_feature(sae, 3, 1.0), SPECIAL):
        assert not torch.allclose(model(input_ids=input_ids).logits, plain)
    assert torch.equal(model(input_ids=input_ids).logits, plain)


@pytest.mark.parametrize("k", [0.25, 1.0, 4.0])
def test_a_direction_changes_a_token_by_as_much_as_the_clamp_does_on_the_mean(
    model: LlamaForCausalLM, sae: Sae, k: float
) -> None:
    a_N1 = activations(model, sae, [5], ITEMS, SPECIAL, batch_size=2)
    size = clamp_norm(sae, 5, k, a_N1[:, 0])
    (v_D,) = random_directions(sae.n_in, 1, seed=0)
    direction = of_direction(7 * v_D, size, name="v", kind="random_direction", k=k)
    changes: dict[str, list[Tensor]] = {"feature": [], "random_direction": []}
    for item in ITEMS:
        plain_TD = states(model, item, NOTHING)
        for intervention in (of_feature(sae, 5, k), direction):
            change_TD = states(model, item, intervention) - plain_TD
            assert item.ids[0] == BOS
            assert not change_TD[0].any()
            changes[intervention.kind].append(change_TD[1:].norm(dim=1))
    feature_N, direction_N = (torch.cat(found) for found in changes.values())
    assert float(feature_N.mean()) == pytest.approx(size, rel=1e-4)
    assert direction_N.numpy() == pytest.approx(np.full(len(feature_N), size), rel=1e-4)


def test_padding_is_left_alone(model: LlamaForCausalLM, sae: Sae) -> None:
    """Padding id 65 is an ordinary token: the mask has to say it."""
    ids, short = ITEMS[0].ids, ITEMS[1].ids
    padded = torch.tensor([ids, short + (65,) * (len(ids) - len(short))])
    mask = torch.ones_like(padded)
    mask[1, len(short) :] = 0
    seen: list[Tensor] = []

    def look(hidden_BTD: Tensor, _positions: Positions) -> None:
        seen.append(hidden_BTD.clone())

    for intervention in (NOTHING, of_direction(torch.ones(sae.n_in), 3.0, name="v", kind="random_direction", k=1.0)):
        with (
            torch.inference_mode(),
            applied(model, LAYER, intervention, SPECIAL),
            editing(model, LAYER, look, SPECIAL),
        ):
            model(input_ids=padded, attention_mask=mask)
    changed_BT = (seen[1] != seen[0]).any(-1)
    assert torch.equal(changed_BT, mask.bool() & (padded != BOS))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_difference_of_means_is_that_of_all_but_special_tokens(model: LlamaForCausalLM, batch_size: int) -> None:
    found_D = difference_of_means(model, LAYER, ITEMS[:2], ITEMS[2:], SPECIAL, batch_size)
    own_ND = torch.cat([states(model, item, NOTHING)[1:] for item in ITEMS[:2]])
    other_ND = states(model, ITEMS[2], NOTHING)[1:]
    expected_D = own_ND.double().mean(0) - other_ND.double().mean(0)
    assert torch.allclose(found_D, expected_D.float(), atol=1e-5)


def test_states_are_told_with_their_item(model: LlamaForCausalLM) -> None:
    found = list(kept_states(model, ITEMS, LAYER, SPECIAL, 3))
    item_N = np.concatenate([item_N for item_N, _ in found])
    states_ND = torch.cat([states_ND for _, states_ND in found])
    for number, item in enumerate(ITEMS):
        assert torch.allclose(states_ND[item_N == number], states(model, item, NOTHING)[1:], atol=1e-5)


def test_random_controls_are_live_others_and_the_same_each_time() -> None:
    live = range(0, 40, 2)
    found = random_features(live, [4, 6], 18, seed=3)
    assert set(found) == set(live) - {4, 6}
    assert found == random_features(live, [4, 6], 18, seed=3) != random_features(live, [4, 6], 18, seed=4)
    v_RD = random_directions(500, 20, seed=3)
    assert torch.allclose(v_RD.norm(dim=1), torch.ones(20))
    assert (v_RD @ v_RD.T - torch.eye(20)).abs().max() < 0.25
    with pytest.raises(UserError, match="19 random features asked for, 18 others are live"):
        random_features(live, [4, 6], 19, seed=3)


def test_what_has_no_size_is_refused(model: LlamaForCausalLM, sae: Sae) -> None:
    same = difference_of_means(model, LAYER, ITEMS[:1], ITEMS[:1], SPECIAL, 1)
    with pytest.raises(UserError, match="means has length 0"):
        of_direction(same, 1.0, name="means", kind="difference_of_means", k=1.0)
    with pytest.raises(UserError, match="no text on the controls' side"):
        difference_of_means(model, LAYER, ITEMS, [], SPECIAL, 1)
    with pytest.raises(UserError, match="were not measured"):
        clamp_norm(replace(sae, max_F=None), 0, 1.0, torch.ones(2))
    with pytest.raises(UserError, match="no token"):
        clamp_norm(sae, 0, 1.0, torch.ones(0))


def test_the_toy_s_special_tokens_are_found(model: LlamaForCausalLM) -> None:
    assert special_ids(model, TOKENIZER) == SPECIAL
