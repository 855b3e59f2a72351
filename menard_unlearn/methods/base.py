"""What a method is made of: terms, the quantities of the frozen base model, and differentiable likelihoods.

Legend: B items, T tokens, V vocabulary, D width. Everything is in nats and computed in fp32. The logits at t - 1
predict token t, so a value at [b, t] belongs to the prediction *of* token t, and stands at t = 0 for nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from menard_unlearn.corpus.batches import TokenBatch, UnlearnBatch


@dataclass(frozen=True, eq=False)
class Term:
    """A sum and what it is to be divided by. The trainer divides, by the count over all micro-batches and processes."""

    total: Tensor
    """Scalar: the sum over the batch, with its gradient."""
    count: int
    """How many values were summed here."""
    per: str
    """What was counted, a key of `UnlearnBatch.counts`: "<side>.tokens" or "<side>.items"."""

    @classmethod
    def of_items(cls, values_B: Tensor, batch: TokenBatch) -> Term:
        """One value an item."""
        return cls(values_B.sum(), batch.n_items, f"{batch.name}.items")

    @classmethod
    def of_tokens(cls, values_BT: Tensor, batch: TokenBatch) -> Term:
        """One value a token, of which the scored ones count: neither prompt nor padding, and never t = 0."""
        return cls(torch.where(batch.loss_mask_BT, values_BT, 0.0).sum(), batch.n_tokens, f"{batch.name}.tokens")

    def __rmul__(self, weight: float) -> Term:
        return Term(weight * self.total, self.count, self.per)

    def __neg__(self) -> Term:
        return -1.0 * self


class Frozen(Protocol):
    """The base model before unlearning. Nothing here carries a gradient."""

    def logits(self, batch: TokenBatch) -> Tensor:
        """logits_BTV."""
        ...

    def sequence_logprob(self, batch: TokenBatch) -> Tensor:
        """logprob_B: as the function of the same name."""
        ...

    def hidden(self, batch: TokenBatch, layer: int) -> Tensor:
        """hidden_BTD: the residual stream after decoder layer `layer`, counted from 0."""
        ...

    def mean_norm(self, layer: int) -> float:
        """Mean Euclidean norm of the states after `layer` on retained text, without padding and first tokens."""
        ...


class Method(ABC):
    """A loss made of named terms, which the trainer normalises, adds and descends."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: UnlearnBatch, frozen: Frozen) -> dict[str, Term]:
        """The terms of one batch, by the names under which they are logged, weights included."""


Retain = Literal["nll", "kl"]


def logits(model: nn.Module, batch: TokenBatch) -> Tensor:
    """logits_BTV of one forward pass."""
    return model(input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT, use_cache=False).logits


def token_logprob(logits_BTV: Tensor, batch: TokenBatch) -> Tensor:
    """logprob_BT of each token given those before it; 0 outside the loss mask."""
    # The targets are moved, not the logits, whose slice would be a copy; the last prediction falls out below.
    next_BT = F.pad(batch.input_ids_BT[:, 1:], (0, 1))
    nll_BT = F.cross_entropy(logits_BTV.flatten(0, 1).float(), next_BT.flatten(), reduction="none").view_as(next_BT)
    return torch.where(batch.loss_mask_BT, F.pad(-nll_BT[:, :-1], (1, 0)), 0.0)


def sequence_logprob(model: nn.Module, batch: TokenBatch) -> Tensor:
    """logprob_B: log p(item) summed over its scored tokens."""
    return token_logprob(logits(model, batch), batch).sum(dim=1)


def token_nll(model: nn.Module, batch: TokenBatch) -> Term:
    """Negative log-likelihood a scored token."""
    return Term.of_tokens(-token_logprob(logits(model, batch), batch), batch)


def masked_kl(model: nn.Module, batch: TokenBatch, frozen: Frozen) -> Term:
    """KL(ref ‖ model) of the next-token distributions that predict the scored tokens; one forward pass of each."""
    log_ref_BTV = F.log_softmax(frozen.logits(batch)[:, :-1].float(), dim=-1)
    log_own_BTV = F.log_softmax(logits(model, batch)[:, :-1].float(), dim=-1)
    kl_BT = F.kl_div(log_own_BTV, log_ref_BTV, reduction="none", log_target=True).sum(dim=-1)
    return Term.of_tokens(F.pad(kl_BT, (1, 0)), batch)


def retain_term(kind: Retain, model: nn.Module, batch: TokenBatch, frozen: Frozen) -> Term:
    """What keeps the model where it is: likelihood of the retained text, or nearness to the base's distributions."""
    return token_nll(model, batch) if kind == "nll" else masked_kl(model, batch, frozen)


def predicting(values_BT: Tensor) -> Tensor:
    """Move values of positions to the tokens that they predict: [b, t] becomes the value at t - 1.

    The first position is left out: its state is the same in every text and an outlier in norm. Token 1 takes its own.
    """
    return torch.cat([values_BT[:, :2], values_BT[:, 1:-1]], dim=1)
