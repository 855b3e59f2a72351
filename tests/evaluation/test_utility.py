"""Bits per byte, and the divergence from the base."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from toy import bigram, byte_tokenizer, llama
from transformers import PreTrainedModel

from menard_unlearn.corpus.batches import TokenItem, collate
from menard_unlearn.evaluation.utility import KEYS, bits_per_byte, kl_to_base, texts_items, utility
from menard_unlearn.models.scores import Scores, score

TEXTS = ["Water boils at 100 degrees.", "é", "Two and two make four, as a rule."]


def scored(model: PreTrainedModel, texts: Sequence[str]) -> tuple[tuple[tuple[TokenItem, ...], ...], Scores]:
    """The windows of each text, and their scores."""
    windows = texts_items(byte_tokenizer(), texts, 512)
    return windows, score(model, [item for own in windows for item in own], batch_size=2, chunk=100, padding=0)


def test_a_uniform_model_spends_log2_v_bits_a_byte_however_texts_are_cut() -> None:
    model, tokenizer = bigram(torch.zeros(259, 259)), byte_tokenizer()
    for texts in (TEXTS, ["x" * 1300]):
        windows, scores = scored(model, texts)
        bits, n_bytes = bits_per_byte(tokenizer, texts, windows, scores)
        assert bits == pytest.approx(math.log2(259), rel=1e-12)
        assert n_bytes == sum(len(text.encode()) for text in texts)


def test_no_texts_have_no_bits() -> None:
    assert bits_per_byte(byte_tokenizer(), [], *scored(llama(), [])) == (None, 0)


def test_divergence_is_that_of_the_tables_at_scored_tokens_only() -> None:
    generator = torch.Generator().manual_seed(0)
    own_VV, base_VV = (torch.randn(6, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    model, base = bigram(own_VV), bigram(base_VV)
    items = [TokenItem("a", (1, 2, 3, 4, 5), 3), TokenItem("b", (1, 0, 3), 1)]
    log_own_VV, log_base_VV = torch.log_softmax(own_VV, 1), torch.log_softmax(base_VV, 1)
    kl_V = (log_base_VV.exp() * (log_base_VV - log_own_VV)).sum(1)
    expected = float(kl_V[[3, 4, 1, 0]].mean())
    tensors = {"lm_head.weight": base.lm_head.weight.detach()}
    for chunk, batches in ((1, [items]), (3, [[item] for item in items]), (99, [items[::-1]])):
        made = [collate(part, "x", 0, pad_to=9) for part in batches]
        found, n_tokens = kl_to_base(model, tensors, made, chunk=chunk)
        assert found == pytest.approx(expected, rel=1e-9) and n_tokens == 4


def test_divergence_reaches_through_all_exchanged_tensors_and_puts_them_back() -> None:
    model, base = llama(seed=0), llama(seed=1)
    batch = collate([TokenItem("a", tuple(range(1, 30)), 1)], "x", 0)
    own = {name: tensor.clone() for name, tensor in model.named_parameters()}
    log_own_TV, log_base_TV = (
        torch.log_softmax(m(batch.input_ids_BT).logits[0, :-1], 1).detach() for m in (model, base)
    )
    expected = float((log_base_TV.exp() * (log_base_TV - log_own_TV)).sum(1).mean())
    found, _ = kl_to_base(model, dict(base.named_parameters()), [batch], chunk=5)
    assert found == pytest.approx(expected, rel=1e-9)
    assert all(torch.equal(tensor, own[name]) for name, tensor in model.named_parameters())


def test_a_model_that_did_not_change_has_no_divergence() -> None:
    model = llama()
    tensors = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    found = utility(model, byte_tokenizer(), TEXTS, TEXTS, *scored(model, TEXTS), tensors, batch_size=2, chunk=8)
    assert found["utility_kl"] == pytest.approx(0.0, abs=1e-12)
    assert set(found) == set(KEYS)


def test_without_a_base_there_is_no_divergence_to_report() -> None:
    model = llama()
    found = utility(model, byte_tokenizer(), TEXTS, TEXTS, *scored(model, TEXTS), None, batch_size=2, chunk=8)
    assert found["utility_kl"] is None and found["utility_n_tokens"] is None
    assert found["retain_bits_per_byte"] > 0 and set(found) == set(KEYS)
