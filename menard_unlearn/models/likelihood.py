"""Log-probabilities, ranks and margins of given tokens, without holding the logits of a whole batch.

The decoder runs once for hidden states; the head is then applied to the scored positions in chunks. Logits leave the
head in the model's dtype, the log-softmax is fp32 (float64 for a float64 model), sums are float64.

What holds: scores do not depend on padding, batch size or order, to 1e-9 relative in a float64 model; in fp32 to about
1e-5, since matrix products of other shapes round otherwise; in bf16 to about 1e-2, where close ranks may swap.

Legend: B items, T tokens, V vocabulary, D width, N scored tokens of the batch, K tokens of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from menard_unlearn.corpus.batches import TokenBatch


@dataclass(frozen=True, eq=False)
class TokenScores:
    """Scores of each token t given those before it. Outside the loss mask all are 0, and `top_BT` is −1."""

    logprob_BT: Tensor
    """float64, nats."""
    rank_best_BT: Tensor
    """int64: 1 + the number of tokens with a larger logit, so ties are read in the model's favour."""
    rank_worst_BT: Tensor
    """int64: the number of tokens with at least this logit; 1 means the only argmax."""
    margin_BT: Tensor
    """float64: logit minus the largest other logit; above 0 only for the only argmax."""
    top_BT: Tensor
    """int64: id of the argmax, one of them where they tie."""


@dataclass(frozen=True, eq=False)
class Halves:
    """A causal language model in two halves: `head(decoder(ids, mask))` are its logits."""

    decoder: Callable[[Tensor, Tensor], Tensor]
    """(input_ids_BT, attention_mask_BT) → hidden_BTD; the logits_BTV of a model that cannot be split."""
    head: Callable[[Tensor], Tensor]
    """hidden_KD → logits_KV; the identity for a model that cannot be split."""
    split: bool
    """False is the plain forward, with T×V logits a batch."""


_SPLITS: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def halves(model: PreTrainedModel) -> Halves:
    """Split a model into decoder and head, or fall back to its plain forward.

    Some families scale logits after the head. A table of families would go stale, so the halves are compared with the
    full forward on a few tokens, once a model, and are used only where they agree.
    """
    plain = Halves(lambda ids_BT, mask_BT: _forward(model, ids_BT, mask_BT).logits, lambda logits_KV: logits_KV, False)
    decoder, head = getattr(model, "base_model", model), model.get_output_embeddings()
    if decoder is model or head is None:
        return plain
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    candidate = Halves(
        lambda ids_BT, mask_BT: _forward(decoder, ids_BT, mask_BT).last_hidden_state,
        lambda hidden_KD: torch.tanh(head(hidden_KD) / cap) * cap if cap else head(hidden_KD),
        True,
    )
    if model not in _SPLITS:
        _SPLITS[model] = _agree(model, plain, candidate)
    return candidate if _SPLITS[model] else plain


@torch.inference_mode()
def score_tokens(model: PreTrainedModel, batch: TokenBatch, chunk: int) -> TokenScores:
    """Score every token of the loss mask, the head running on `chunk` tokens at a time.

    The model is in eval mode for the call. The batch is padded on the right and is moved to the model's device;
    scores come back on the CPU.
    """
    parts, mask_BT = halves(model), batch.loss_mask_BT.cpu()
    with evaluating(model):
        hidden_ND, target_N = scored_states(model, batch, parts)
        pieces = zip(hidden_ND.split(chunk), target_N.split(chunk), strict=True)
        scored = [_score(full_precision(parts.head(hidden_KD)), target_K) for hidden_KD, target_K in pieces]
    empty = (
        torch.zeros(mask_BT.shape, dtype=torch.float64),
        torch.zeros(mask_BT.shape, dtype=torch.int64),
        torch.zeros(mask_BT.shape, dtype=torch.int64),
        torch.zeros(mask_BT.shape, dtype=torch.float64),
        torch.full(mask_BT.shape, -1),
    )
    for table_BT, column in zip(empty, zip(*scored, strict=True), strict=True):
        table_BT[mask_BT] = torch.cat(column).to("cpu", table_BT.dtype)
    return TokenScores(*empty)


def scored_states(model: PreTrainedModel, batch: TokenBatch, parts: Halves) -> tuple[Tensor, Tensor]:
    """The states that predict the tokens of the loss mask, hidden_ND, and those tokens, target_N, row after row."""
    batch = batch.to(next(model.parameters()).device)
    hidden_BTD = parts.decoder(batch.input_ids_BT, batch.attention_mask_BT)
    # The state at t - 1 predicts token t.
    mask_BT = batch.loss_mask_BT[:, 1:]
    return hidden_BTD[:, :-1][mask_BT], batch.input_ids_BT[:, 1:][mask_BT]


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """The model in eval mode, and afterwards as it was: evaluation while training must not end dropout."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def full_precision(logits: Tensor) -> Tensor:
    """fp32, or float64 where it is so already."""
    return logits if logits.dtype == torch.float64 else logits.float()


def sequence_logprob(model: PreTrainedModel, batch: TokenBatch) -> Tensor:
    """logprob_B: log-probability of each item's scored tokens, nats, with its gradient; in the model's own mode."""
    logits_BTV = full_precision(_forward(model, batch.input_ids_BT, batch.attention_mask_BT).logits[:, :-1])
    nll_BT = F.cross_entropy(logits_BTV.transpose(1, 2), batch.input_ids_BT[:, 1:], reduction="none")
    return -torch.where(batch.loss_mask_BT[:, 1:], nll_BT, 0.0).sum(dim=1)


def _score(logits_KV: Tensor, target_K: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Log-probability, best and worst rank, margin and argmax of each target."""
    true_K1 = logits_KV.gather(1, target_K[:, None])
    logprob_K = F.log_softmax(logits_KV, dim=1).gather(1, target_K[:, None])[:, 0]
    rank_best_K = 1 + (logits_KV > true_K1).sum(1)
    rank_worst_K = (logits_KV >= true_K1).sum(1)
    others_K = logits_KV.scatter(1, target_K[:, None], -torch.inf).amax(1)
    return logprob_K, rank_best_K, rank_worst_K, true_K1[:, 0].double() - others_K.double(), logits_KV.argmax(1)


def _forward(module: nn.Module, input_ids_BT: Tensor, attention_mask_BT: Tensor):
    return module(input_ids=input_ids_BT, attention_mask=attention_mask_BT, use_cache=False)


def _agree(model: PreTrainedModel, plain: Halves, candidate: Halves) -> bool:
    """Whether both halves together give the plain forward's logits, up to rounding."""
    weight = next(model.parameters())
    ids_BT = torch.arange(min(4, model.config.get_text_config().vocab_size), device=weight.device)[None]
    with torch.inference_mode():
        expected_BTV = plain.decoder(ids_BT, torch.ones_like(ids_BT)).float()
        found_BTV = candidate.head(candidate.decoder(ids_BT, torch.ones_like(ids_BT))).float()
    tolerance = 1e-4 if weight.dtype in (torch.float32, torch.float64) else 2e-2
    if expected_BTV.shape != found_BTV.shape:
        return False
    return torch.allclose(expected_BTV, found_BTV, rtol=0, atol=tolerance * float(expected_BTV.abs().max()))
