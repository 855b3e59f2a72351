"""The numerical error bar: what batch and precision do to a text's nats."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from toy import byte_tokenizer, llama, target

from menard_unlearn.evaluation import numerics
from menard_unlearn.evaluation.reproduction import BRIEF, ReproductionConfig, reproduce

FULL = ReproductionConfig(piece=16, stride=None, free_controls=True, numeric_tokens=64)
LONG = dataclasses.replace(FULL, numeric_tokens=10_000)


def test_nothing_is_computed_where_none_is_wanted() -> None:
    results, _ = reproduce(llama(), byte_tokenizer(), target("abc"), prompt="", chunk=64, config=BRIEF)
    assert all(results[name] is None for name in numerics.KEYS)
    assert results["left_out"] == ["numerical error bar: evaluation.reproduction.numeric_tokens is 0"]


def test_the_numerical_error_is_arithmetic_alone() -> None:
    tokenizer, text = byte_tokenizer(), "Pierre Menard, autor del Quijote. " * 3
    exact, _ = reproduce(llama(), tokenizer, target(text), prompt="", chunk=64, config=FULL)
    assert exact["nats_batch_spread"] < 1e-9 * exact["nats"]
    assert exact["nats_dtype_spread"] is None and exact["left_out"] == ["nats_dtype_spread: no other precision"]
    single, _ = reproduce(llama(dtype=torch.float32), tokenizer, target(text), prompt="", chunk=64, config=FULL)
    assert single["nats_batch_spread"] < 1e-4
    assert 0 < single["nats_dtype_spread"] < 0.05 * single["nats"]
    assert (single["numeric_dtypes"], single["numeric_tokens"]) == (["float32", "bfloat16"], 64)
    model = llama().bfloat16()
    half, _ = reproduce(model, tokenizer, target(text), prompt="", chunk=64, config=FULL)
    assert half["numeric_dtypes"] == ["bfloat16", "float32"] and half["nats_dtype_spread"] > 0
    whole = dataclasses.replace(FULL, numeric_tokens=1000)
    cast, _ = reproduce(model, tokenizer, target(text), prompt="", chunk=64, config=whole)
    again, _ = reproduce(model.float(), tokenizer, target(text), prompt="", chunk=64, config=BRIEF)
    # what the other precision finds is what the model cast to it finds
    assert cast["nats_dtype_spread"] == pytest.approx(abs(cast["nats"] - again["nats"]), rel=1e-3)
    assert cast["numeric_tokens"] == len(text)


def test_the_other_batch_pads_the_text_beside_a_longer_one() -> None:
    model, masks = llama(dtype=torch.float32), []
    config = dataclasses.replace(FULL, numeric_tokens=20)
    model.model.register_forward_pre_hook(
        lambda _, given, named: masks.append(named.get("attention_mask")), with_kwargs=True
    )
    reproduce(model, byte_tokenizer(), target("x" * 50), prompt="", chunk=64, config=config)
    (mask_BT,) = [mask_BT for mask_BT in masks if mask_BT is not None and len(mask_BT) == 2]
    assert sorted(mask_BT.sum(1).tolist()) == [20, 26]  # a third longer, rounded down: both in a batch


def test_a_text_as_long_as_the_context_leaves_room_for_the_other_row() -> None:
    model = llama(dtype=torch.float32)
    results, _ = reproduce(model, byte_tokenizer(), target("x" * 511), prompt="", chunk=64, config=LONG)
    assert results["numeric_tokens"] == 512 - numerics.PADDING - 1 < results["n_tokens"]
    model.config.max_position_embeddings = 33
    results, _ = reproduce(model, byte_tokenizer(), target("xyz"), prompt="", chunk=64, config=LONG)
    assert results["numeric_tokens"] is None and results["left_out"] == [
        "numerical error bar: the context has no room for a longer row"
    ]
