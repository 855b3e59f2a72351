"""Another precision: the numbers of a model cast to it, and afterwards the very weights that were there."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tiny_architectures import TINY, tiny
from toy import llama

from menard_unlearn.models.load import ModelSource, load
from menard_unlearn.models.precision import in_other_precision

IDS = torch.arange(1, 21)[None]


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_a_half_precision_model_computes_in_fp32(name: str, dtype: torch.dtype) -> None:
    model: Any = tiny(name)
    model.to(dtype)
    before = {key: (held, held.data_ptr(), held.clone()) for key, held in model.state_dict(keep_vars=True).items()}
    expected = copy.deepcopy(model).float()(IDS).logits
    with in_other_precision(model) as precision:
        found = model(IDS).logits
    assert precision == torch.float32 == found.dtype
    assert torch.equal(found, expected)
    for key, held in model.state_dict(keep_vars=True).items():
        own, place, value = before[key]
        assert held is own and held.data_ptr() == place and torch.equal(held, value) and held.dtype == value.dtype
    assert model(IDS).logits.dtype == dtype


@torch.no_grad()
def test_weights_return_when_a_layer_fails() -> None:
    model: Any = llama().bfloat16()
    model.model.layers[1].mlp.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), in_other_precision(model):
        model(IDS)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


@torch.no_grad()
def test_fp32_computes_in_bf16_and_float64_has_no_other() -> None:
    model = llama(dtype=torch.float32)
    plain = model(IDS).logits
    with in_other_precision(model) as precision:
        found = model(IDS).logits
    assert precision == torch.bfloat16 == found.dtype
    assert 0 < float((found - plain).abs().max()) < 0.1 * float(plain.abs().max())
    assert torch.equal(model(IDS).logits, plain)
    with in_other_precision(llama()) as precision:
        assert precision is None


def test_tied_embeddings_return_too() -> None:
    model: Any = load(ModelSource("tiny", "embedded:full", None, None, None, "bfloat16", None, None)).model
    weight = model.get_input_embeddings().weight
    place = weight.data_ptr()
    with torch.no_grad(), in_other_precision(model):
        assert model(IDS).logits.dtype == torch.float32
    assert weight.data_ptr() == place and weight is model.get_output_embeddings().weight
