"""Per-token scores: those of the plain forward, however items are batched and whatever else is asked."""

from __future__ import annotations

import math

import pytest
import torch
from toy import bigram, llama
from transformers import CohereConfig, CohereForCausalLM, Gemma2Config, Gemma2ForCausalLM, PreTrainedModel

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.models import scores as scores_module
from menard_unlearn.models.predictions import halves
from menard_unlearn.models.scores import cover, score

ITEMS = [
    TokenItem("a", (1, 5, 9, 13, 17, 2), 3),
    TokenItem("b", (1, 8, 0, 6), 1),
    TokenItem("c", (1, 200, 201, 202, 203, 204, 205, 206, 207), 6),
    TokenItem("d", (1, 0), 1),
]


@torch.no_grad()
def by_hand(model: PreTrainedModel, item: TokenItem) -> list[float]:
    """Log-probabilities of the scored tokens from one unpadded forward."""
    log_TV = torch.log_softmax(model(torch.tensor([item.ids])).logits[0].double(), dim=-1)
    return [float(log_TV[t - 1, item.ids[t]]) for t in range(item.n_prompt, len(item.ids))]


def scored(
    model: PreTrainedModel, items: list[TokenItem], *, batch_size: int = 4, chunk: int = 5, padding: int = 0
) -> list[list[float]]:
    scores = score(model, items, batch_size=batch_size, chunk=chunk, padding=padding)
    return [scores.of(item).logprob_T.tolist() for item in items]


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_scores_are_those_of_each_item_alone(chunk: int) -> None:
    model = llama()
    found = scored(model, ITEMS, chunk=chunk)
    for item, row in zip(ITEMS, found, strict=True):
        assert row == pytest.approx(by_hand(model, item), rel=1e-9)


def test_padding_batch_size_order_and_company_change_nothing() -> None:
    model = llama()
    for items, batch_size, padding in (
        (ITEMS, 1, 0),
        (ITEMS, 3, 0),
        (ITEMS, 4, 77),
        (ITEMS[::-1], 2, 0),
        ([ITEMS[1], ITEMS[3]], 4, 0),
        ([*ITEMS, *ITEMS[:2]], 4, 0),
    ):
        for item, row in zip(items, scored(model, items, batch_size=batch_size, padding=padding), strict=True):
            assert row == pytest.approx(by_hand(model, item), rel=1e-9)


def test_a_batch_of_long_rows_holds_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores_module, "TOKENS_AT_ONCE", 10)
    model, seen = llama(), []
    model.model.register_forward_pre_hook(
        lambda _module, _args, given: seen.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    assert halves(model).split
    seen.clear()
    found = scored(model, ITEMS)
    assert max(rows * length for rows, length in seen) <= 10 and sum(rows for rows, _ in seen) == 3
    assert found[2] == pytest.approx(by_hand(model, ITEMS[2]), rel=1e-9)


def test_what_begins_another_sequence_is_not_run_again() -> None:
    model = llama()
    letters = [TokenItem(f"letter {token}", (1, 40, 41, 42, token), 4) for token in (50, 51, 52)]
    family = [*letters, TokenItem("whole", (1, 40, 41, 42, 50), 1), TokenItem("question", (1, 40, 41), 2)]
    scores = score(model, family, batch_size=4, chunk=2, padding=0)
    assert (scores.n_rows, scores.n_tokens) == (1, 4)
    for item in family:
        assert scores.of(item).logprob_T.tolist() == pytest.approx(by_hand(model, item), rel=1e-9)
    with pytest.raises(KeyError):
        scores.of(TokenItem("never asked", (1, 40, 41, 42, 53), 4))


def test_a_context_is_covered_by_a_row_that_begins_with_it() -> None:
    found = cover([(1,), (1, 2), (1, 2, 3), (1, 3), (1, 2, 4), (10,), (1, 2)])
    assert all(row[: len(context)] == context for context, row in found.items())
    assert set(found.values()) == {(1, 2, 3), (1, 2, 4), (1, 3), (10,)} and len(found) == 6


def test_in_fp32_batching_changes_only_the_last_digits() -> None:
    model = llama(dtype=torch.float32)
    wide = scored(model, [*ITEMS, TokenItem("long", (1, *range(100, 163)), 1)], batch_size=5)
    for item, row in zip(ITEMS, wide, strict=False):
        assert row == pytest.approx(by_hand(model, item), rel=1e-4, abs=1e-5)


def test_hand_made_logits_have_the_ranks_and_margins_they_should() -> None:
    logits_VV = torch.zeros(6, 6)
    logits_VV[1] = torch.tensor([0.0, 1.0, 5.0, 3.0, 3.0, 3.0])
    logits_VV[2] = torch.tensor([2.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    item = TokenItem("x", (1, 4, 1, 2, 0, 3), 1)
    found = score(bigram(logits_VV), [item], batch_size=1, chunk=2, padding=0).of(item)
    # 4 after 1 shares the second place with two others; 2 after 1 and 0 after 2 win; after 0 and after 4 all are equal.
    assert found.rank_best_T.tolist() == [2, 1, 1, 1, 1]
    assert found.rank_worst_T.tolist() == [4, 6, 1, 1, 6]
    assert found.margin_T.tolist() == pytest.approx([-2, 0, 2, 2, 0], abs=1e-9)
    assert found.top_T[[0, 2, 3]].tolist() == [2, 2, 0]
    expected = -math.log(sum(math.exp(value - 3) for value in logits_VV[1].tolist()))
    assert found.logprob_T[0] == pytest.approx(expected, abs=1e-12)


def test_top_k_renormalises_over_the_likeliest_and_shuts_out_the_rest() -> None:
    model = llama()
    plain, truncated = (score(model, ITEMS, batch_size=4, chunk=3, padding=0, top_k=top_k) for top_k in (None, 5))
    for item in ITEMS:
        found = truncated.of(item)
        assert plain.of(item).logprob_topk_T is None and found.logprob_topk_T is not None
        assert found.logprob_T.tolist() == plain.of(item).logprob_T.tolist()
        logits_TV = model(torch.tensor([item.ids])).logits[0].detach()
        for place, value in enumerate(found.logprob_topk_T, start=item.n_prompt):
            kept_5, own = logits_TV[place - 1].topk(5).values, logits_TV[place - 1, item.ids[place]]
            expected = float(own - kept_5.logsumexp(0)) if own >= kept_5[-1] else -math.inf
            assert value == pytest.approx(expected, rel=1e-9)
    everything = score(model, ITEMS, batch_size=4, chunk=3, padding=0, top_k=1000)
    for item in ITEMS:
        found = everything.of(item)
        assert found.logprob_topk_T == pytest.approx(found.logprob_T, rel=1e-9)


def test_what_ties_with_the_last_of_the_k_stays() -> None:
    logits_VV = torch.zeros(6, 6)
    logits_VV[1] = torch.tensor([0.0, 1.0, 5.0, 3.0, 3.0, 3.0])
    items = [TokenItem("x", (1, token), 1) for token in range(6)]
    scores = score(bigram(logits_VV), items, batch_size=6, chunk=6, padding=0, top_k=2)
    kept = math.log(math.exp(5) + 3 * math.exp(3))
    expected = [-math.inf, -math.inf, 5 - kept, 3 - kept, 3 - kept, 3 - kept]
    found = [scores.of(item).logprob_topk_T for item in items]
    assert [float(values[0]) for values in found if values is not None] == pytest.approx(expected, rel=1e-9)


def test_a_model_with_a_capped_head_is_split() -> None:
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=120,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        final_logit_softcapping=2.0,
        initializer_range=0.5,
    )
    model = Gemma2ForCausalLM(config).double().eval()
    assert halves(model).split
    item = TokenItem("x", (1, 7, 8, 9), 1)
    assert scored(model, [item], chunk=2)[0] == pytest.approx(by_hand(model, item), rel=1e-9)


def test_a_model_that_scales_its_logits_falls_back_to_the_plain_forward() -> None:
    torch.manual_seed(0)
    config = CohereConfig(
        vocab_size=120,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        logit_scale=0.25,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = CohereForCausalLM(config).double().eval()
    assert not halves(model).split
    item = TokenItem("x", (1, 7, 8, 9), 1)
    assert scored(model, [item], chunk=2)[0] == pytest.approx(by_hand(model, item), rel=1e-9)


def test_dropout_is_off_while_scoring_and_back_on_afterwards() -> None:
    model = llama().train()
    assert scored(model, ITEMS) == scored(model, ITEMS)
    assert model.training and model.model.layers[0].training


def test_the_head_never_sees_more_than_a_chunk() -> None:
    model, seen = llama(), []
    assert halves(model).split
    model.lm_head.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].shape[:-1].numel()))
    scored(model, ITEMS, chunk=4)
    assert max(seen) == 4 and sum(seen) == sum(len(item.ids) - item.n_prompt for item in ITEMS)
