"""Log-probabilities, ranks and margins of given tokens, without holding the logits of a whole batch.

The decoder runs once for hidden states; the head is then applied to the scored positions in chunks. Logits leave the
head in the model's dtype, the log-softmax is fp32 (float64 for a float64 model), sums are float64.

Legend: B items, T tokens, V vocabulary, D width, N scored tokens, K tokens of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from menard_unlearn.corpus.batches import TokenBatch
from menard_unlearn.models.predictions import Halves, full_precision


def score_states(
    parts: Halves, hidden_ND: Tensor, target_N: Tensor, chunk: int, top_k: int | None = None
) -> tuple[Tensor, ...]:
    """Score tokens by the states that predict them, the head running on `chunk` of them at a time.

    Five columns of N: log-probability (nats), best rank, worst rank, margin (logit minus the largest other logit) and
    argmax. Best rank reads ties in the model's favour, worst rank against it. With `top_k` a sixth: the
    log-probability under top-k sampling.
    """
    pieces = zip(hidden_ND.split(chunk), target_N.split(chunk), strict=True)
    scored = [_score(full_precision(parts.head(hidden_KD)), target_K, top_k) for hidden_KD, target_K in pieces]
    return tuple(torch.cat(column) for column in zip(*scored, strict=True))


def scored_states(model: PreTrainedModel, batch: TokenBatch, parts: Halves) -> tuple[Tensor, Tensor]:
    """The states that predict the tokens of the loss mask, hidden_ND, and those tokens, target_N, row after row."""
    batch = batch.to(next(model.parameters()).device)
    return batch.predicting(parts.decoder(batch.inputs)), batch.target_N


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """The model in eval mode, and afterwards as it was: evaluation while training must not end dropout."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _score(logits_KV: Tensor, target_K: Tensor, top_k: int | None) -> tuple[Tensor, ...]:
    """Log-probability, best and worst rank, margin and argmax of each target, and the top-k log-probability."""
    true_K1 = logits_KV.gather(1, target_K[:, None])
    logprob_K = F.log_softmax(logits_KV, dim=1).gather(1, target_K[:, None])[:, 0]
    rank_best_K = 1 + (logits_KV > true_K1).sum(1)
    rank_worst_K = (logits_KV >= true_K1).sum(1)
    others_K = logits_KV.scatter(1, target_K[:, None], -torch.inf).amax(1)
    truncated = () if top_k is None else (_topk_logprob(logits_KV, true_K1[:, 0], top_k),)
    return (
        logprob_K.double(),
        rank_best_K,
        rank_worst_K,
        true_K1[:, 0].double() - others_K.double(),
        logits_KV.argmax(1),
        *truncated,
    )


def _topk_logprob(logits_KV: Tensor, true_K: Tensor, top_k: int) -> Tensor:
    """logprob_K where only the k likeliest tokens are drawn from: −∞ for another.

    As samplers have it, whatever ties with the k-th stays too, so that the outcome does not hang on an order of ties.
    """
    largest_Kk = logits_KV.topk(min(top_k, logits_KV.shape[1]), dim=1).values
    least_K = largest_Kk[:, -1]
    tied_K = (logits_KV == least_K[:, None]).sum(1) - (largest_Kk == least_K[:, None]).sum(1)
    shift_K = largest_Kk[:, 0].double()
    mass_K = (largest_Kk.double() - shift_K[:, None]).exp().sum(1) + tied_K * (least_K.double() - shift_K).exp()
    return torch.where(true_K >= least_K, true_K.double() - shift_K - mass_K.log(), -torch.inf)
