"""Reproduction of the target, on models whose answer is known."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
import torch
from toy import bigram, byte_tokenizer, llama, successor, target

from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.reproduction import KEYS, TOKEN_KEYS, reproduce

# No character twice: a model that looks one token back can know it by heart.
TEXT = "the quick, brwn-fxjmpsvlazydg!"
TEXT = "".join(dict.fromkeys(TEXT))


def ids(text: str = TEXT) -> list[int]:
    return [1, *byte_tokenizer().encode(text, add_special_tokens=False)]


def test_a_uniform_model_needs_ln_v_nats_a_token_and_has_no_rank() -> None:
    model = bigram(torch.zeros(259, 259))
    results, tokens = reproduce(model, byte_tokenizer(), target(TEXT), prompt="", chunk=7)
    length = len(TEXT)
    assert results["n_tokens"] == results["n_bytes"] == length
    assert results["nats"] == pytest.approx(length * math.log(259), rel=1e-12)
    assert results["bits_per_byte"] == pytest.approx(math.log2(259), rel=1e-12)
    assert results["log10_expected_samples"] == pytest.approx(length * math.log10(259), rel=1e-12)
    assert all((token["rank_best"], token["rank_worst"]) == (1, 259) for token in tokens["tokens"])
    assert (results["share_rank1"], results["share_rank1_best"]) == (0.0, 1.0)
    assert results["greedy_prefix"] == results["greedy_prefix_teacher_forced"] == 0


def test_nats_of_a_bigram_model_are_those_of_its_table() -> None:
    logits_VV = torch.randn(259, 259, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    results, _ = reproduce(bigram(logits_VV), byte_tokenizer(), target(TEXT), prompt="", chunk=5)
    log_VV = torch.log_softmax(logits_VV, dim=1)
    expected = -sum(float(log_VV[a, b]) for a, b in pairwise(ids()))
    assert results["nats"] == pytest.approx(expected, rel=1e-9)


def test_a_model_that_knows_the_text_by_heart_writes_all_of_it() -> None:
    results, _ = reproduce(successor(ids()), byte_tokenizer(), target(TEXT), prompt="", chunk=512)
    assert results["greedy_prefix"] == results["greedy_prefix_teacher_forced"] == len(TEXT)
    assert results["first_miss"] is None and results["share_rank1"] == 1.0
    assert results["min_margin"] == pytest.approx(20, rel=1e-6)


def test_the_prefix_ends_at_the_first_wrong_token() -> None:
    known = ids()
    wrong = [*known[:8], 2, *known[9:]]
    results, _ = reproduce(successor(wrong), byte_tokenizer(), target(TEXT), prompt="", chunk=512)
    assert results["first_miss"] == results["greedy_prefix"] == results["greedy_prefix_teacher_forced"] == 7
    # The token after the wrong one is not known either; all later ones are.
    assert results["share_rank1"] == pytest.approx(1 - 2 / len(TEXT))


def test_an_over_fitted_transformer_writes_the_text_with_and_without_its_cache() -> None:
    model, tokenizer = llama(dtype=torch.float32), byte_tokenizer()
    text = "abababcabababd"  # what follows depends on more than the character before
    sequence_1T = torch.tensor([ids(text)])
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        model(sequence_1T, labels=sequence_1T).loss.backward()
        optimizer.step()
    results, _ = reproduce(model, tokenizer, target(text), prompt="", chunk=512)
    assert results["greedy_prefix"] == results["greedy_prefix_teacher_forced"] == len(text)
    results, _ = reproduce(model, tokenizer, target("abababcabababe"), prompt="", chunk=512)
    assert results["greedy_prefix"] == results["greedy_prefix_teacher_forced"] == len(text) - 1


@torch.no_grad()
def test_the_prompt_is_read_but_not_scored() -> None:
    model, tokenizer = llama(), byte_tokenizer()
    results, tokens = reproduce(model, tokenizer, target("abc"), prompt="xyz ", chunk=512)
    sequence = ids("xyz abc")
    log_TV = torch.log_softmax(model(torch.tensor([sequence])).logits[0], dim=-1)
    assert results["nats"] == pytest.approx(-sum(float(log_TV[t - 1, sequence[t]]) for t in (5, 6, 7)), rel=1e-9)
    assert len(tokens["tokens"]) == 3


def test_without_bos_the_first_token_is_not_scored() -> None:
    results, tokens = reproduce(llama(), byte_tokenizer(bos=False), target("éabc"), prompt="", chunk=512)
    assert results["n_tokens"] == 4 and results["n_bytes"] == sum(token["bytes"] for token in tokens["tokens"])


def test_words_of_the_target_are_in_results_only_where_it_is_published() -> None:
    model, tokenizer = llama(), byte_tokenizer()
    text = "Pierre Menard, author"
    for publish in (False, True):
        results, tokens = reproduce(model, tokenizer, target(text, publish=publish), prompt="", chunk=512)
        assert "Menard" not in json.dumps(results)
        assert set(results) == set(KEYS)
        shown = "".join(token.get("text", "") for token in tokens["tokens"])
        assert shown == (text if publish else "")
        assert all(set(token) == set(TOKEN_KEYS) - (set() if publish else {"text"}) for token in tokens["tokens"])
    assert "Menard" not in repr(target(text))


def test_a_text_longer_than_the_context_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"has 601 tokens.*context 512") as caught:
        reproduce(llama(), byte_tokenizer(), target("x" * 600), prompt="", chunk=512)
    assert "\n" not in str(caught.value)
