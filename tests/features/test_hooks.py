"""Hooks see and change the stream after a layer, in every family, and leave special tokens and padding alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_architectures import TINY, tiny
from torch import Tensor
from transformers import BloomConfig, BloomForCausalLM, LlamaConfig, LlamaForCausalLM

from menard_unlearn.errors import UserError
from menard_unlearn.features.hooks import Positions, editing, special_ids
from menard_unlearn.models.stump import decoder_layers, residuals

LAYER = 2
IDS_BT = torch.tensor([[1, 5, 6, 7, 8, 9], [1, 10, 2, 11, 0, 12]])


def model_of(name: str) -> Any:
    if name == "bloom":  # whose layers answer tuples
        torch.manual_seed(0)
        config = BloomConfig(vocab_size=64, hidden_size=16, n_layer=4, n_head=2, initializer_range=0.3)
        return BloomForCausalLM(config).eval()
    return tiny(name)


def nothing(_hidden_BTD: Tensor, _positions: Positions) -> None:
    return None


@pytest.mark.parametrize("name", [*TINY, "bloom"])
@torch.no_grad()
def test_every_family_is_read_and_changed_after_the_layer(name: str):
    model, seen = model_of(name), []
    mask_BT = torch.ones_like(IDS_BT)
    plain_BTV = model(input_ids=IDS_BT, attention_mask=mask_BT).logits

    def watch(hidden_BTD: Tensor, positions: Positions) -> None:
        seen.append(hidden_BTD)

    with editing(model, LAYER, watch, ()):
        watched_BTV = model(input_ids=IDS_BT, attention_mask=mask_BT).logits
    (expected_BTD,) = residuals(model, {"input_ids": IDS_BT, "attention_mask": mask_BT}, [LAYER], None)
    assert torch.equal(seen[0], expected_BTD)
    assert torch.equal(watched_BTV, plain_BTV)
    with editing(model, LAYER, lambda hidden_BTD, _: hidden_BTD.roll(1, dims=1), ()):
        assert not torch.allclose(model(input_ids=IDS_BT, attention_mask=mask_BT).logits, plain_BTV)
    assert torch.equal(model(input_ids=IDS_BT, attention_mask=mask_BT).logits, plain_BTV)


def test_some_family_answers_tuples_and_others_tensors():
    answers = {}
    for name in ("llama", "bloom"):
        model = model_of(name)
        decoder_layers(model)[0].register_forward_hook(
            lambda _m, _a, output, name=name: answers.update({name: isinstance(output, tuple)})
        )
        model(input_ids=IDS_BT)
    assert answers == {"llama": False, "bloom": True}


@pytest.mark.parametrize("side", ["right", "left"])
def test_positions_count_by_id_and_by_mask(side: str):
    model, found = tiny("llama"), []
    tokens, padding = [1, 5, 2, 9, 0], [0, 0] if side == "right" else [7, 7]
    ids = tokens + padding if side == "right" else padding + tokens
    masked = [1] * 5 + [0] * 2 if side == "right" else [0] * 2 + [1] * 5
    with editing(model, 0, lambda _, positions: found.append(positions.kept_BT), special_ids(model)):
        model(input_ids=torch.tensor([ids]), attention_mask=torch.tensor([masked]))
    counting = [False, True, False, True, False]  # BOS, EOS and the pad token where it stands for itself, too
    expected = counting + [False] * 2 if side == "right" else [False] * 2 + counting
    assert found[0].tolist() == [expected]


def test_with_a_cache_positions_are_those_of_the_call():
    model, found = tiny("llama"), []
    with torch.no_grad(), editing(model, 0, lambda _, positions: found.append(positions), special_ids(model)):
        cache = model(input_ids=IDS_BT[:1, :4], use_cache=True).past_key_values
        mask_BT = torch.tensor([[0, 1, 1, 1, 1, 0]])
        model(input_ids=torch.tensor([[8, 9]]), attention_mask=mask_BT, past_key_values=cache)
    assert [positions.n_past for positions in found] == [0, 4]
    assert found[1].kept_BT.tolist() == [[True, False]]


def test_special_tokens_are_those_of_the_configuration_and_the_tokenizer():
    config = LlamaConfig(
        vocab_size=8,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        eos_token_id=[4, 5],
    )

    class Tokenizer:
        all_special_ids = (6,)

    model = LlamaForCausalLM(config)
    assert special_ids(model) == {1, 4, 5}
    assert special_ids(model, Tokenizer()) == {1, 4, 5, 6}  # pyright: ignore[reportArgumentType]


def test_an_inner_block_sees_what_the_outer_one_made():
    model, seen = tiny("llama"), []
    with (
        editing(model, LAYER, lambda hidden_BTD, _: torch.full_like(hidden_BTD, 3.0), ()),
        editing(model, LAYER, lambda hidden_BTD, _: seen.append(hidden_BTD), ()),
    ):
        model(input_ids=IDS_BT)
    assert (seen[0] == 3).all()


def test_hooks_go_when_the_block_fails():
    model = tiny("llama")
    with pytest.raises(KeyError), editing(model, LAYER, nothing, ()):
        raise KeyError
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("how", ["module", "in place"])
def test_a_compiled_model_is_refused(how: str):
    model: Any = tiny("llama")
    if how == "module":
        model = torch.compile(model)
    else:
        model.compile()
    with pytest.raises(UserError, match="compiled"), editing(model, LAYER, nothing, ()):
        pass


def test_a_layer_that_is_not_there_and_embeddings_are_refused():
    model = tiny("llama")
    with pytest.raises(UserError, match="layers 0 to 3"), editing(model, 4, nothing, ()):
        pass
    with pytest.raises(UserError, match="input_ids"), editing(model, 0, nothing, ()):
        model(inputs_embeds=torch.zeros(1, 2, 16))


def test_gradient_checkpointing_changes_no_gradient():
    gradients, calls = [], []
    for checkpointing in (False, True):
        model = tiny("llama").train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        shift_D = torch.full((16,), 0.5, requires_grad=True)

        def edit(hidden_BTD: Tensor, positions: Positions, shift_D: Tensor = shift_D) -> Tensor:
            calls.append(1)
            return hidden_BTD + shift_D * positions.kept_BT[..., None]

        with editing(model, LAYER, edit, special_ids(model)):
            model(input_ids=IDS_BT, labels=IDS_BT, use_cache=False).loss.backward()
        gradients.append([shift_D.grad, *(parameter.grad for parameter in model.parameters())])
    assert len(calls) in (2, 3)  # the layer may be run again for the backward pass
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.allclose(plain, checkpointed, rtol=1e-5, atol=1e-7)
