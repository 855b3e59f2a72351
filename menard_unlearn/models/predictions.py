"""What a model predicts for the scored tokens of a batch, without holding all their logits.

The decoder runs once; the head is applied to the scored positions only, in chunks, and in the backward pass again.
Logits leave the head in the model's dtype and are used in fp32 (float64 for a float64 model).

Legend: B items, T tokens, V vocabulary, D width, N scored tokens of the batch, K tokens of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from menard_unlearn.corpus.batches import TokenBatch
from menard_unlearn.models.edited import without_edits
from menard_unlearn.models.stump import Prefix, in_pieces, starting_at, text_config

LOGITS_AT_ONCE = 1 << 25
"""Logits of a chunk: 128 MB in fp32, and three times that while a chunk is differentiated."""


@dataclass(frozen=True, eq=False)
class Halves:
    """A causal language model in two halves: `head(decoder(inputs))` are its logits."""

    decoder: Callable[[Mapping[str, Tensor]], Tensor]
    """inputs → hidden_BTD; the logits_BTV of a model that cannot be split."""
    head: Callable[[Tensor], Tensor]
    """hidden_KD → logits_KV; the identity for a model that cannot be split."""
    split: bool
    """False is the plain forward, with T×V logits a batch."""


_SPLITS: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def halves(model: nn.Module) -> Halves:
    """Split a model into decoder and head, or fall back to its plain forward.

    Some families scale logits after the head. A table of families would go stale, so the halves are compared with the
    full forward on a few tokens, once a model, and are used only where they agree.
    """
    plain = Halves(lambda inputs: model(**inputs, use_cache=False).logits, lambda logits_KV: logits_KV, False)
    decoder, head = getattr(model, "base_model", model), output_embeddings(model)
    if decoder is model or head is None:
        return plain
    cap = softcap(model)
    candidate = Halves(
        lambda inputs: decoder(**inputs, use_cache=False).last_hidden_state,
        lambda hidden_KD: capped(head(hidden_KD), cap),
        True,
    )
    if model not in _SPLITS:
        _SPLITS[model] = _agree(model, plain, candidate)
    return candidate if _SPLITS[model] else plain


def _agree(model: nn.Module, plain: Halves, candidate: Halves) -> bool:
    """Whether both halves together give the plain forward's logits, up to rounding."""
    weight = next(model.parameters())
    ids_BT = torch.arange(min(4, text_config(model).vocab_size), device=weight.device)[None]
    inputs = {"input_ids": ids_BT, "attention_mask": torch.ones_like(ids_BT)}
    with torch.no_grad(), without_edits(model):  # an edit that counts what it sees must not see these
        expected_BTV = plain.decoder(inputs).float()
        found_BTV = candidate.head(candidate.decoder(inputs)).float()
    tolerance = 1e-4 if weight.dtype in (torch.float32, torch.float64) else 2e-2
    if expected_BTV.shape != found_BTV.shape:
        return False
    return torch.allclose(expected_BTV, found_BTV, rtol=0, atol=tolerance * float(expected_BTV.abs().max()))


def output_embeddings(model: nn.Module) -> nn.Module | None:
    """The head, as transformers' models name it; None for others. (Their class itself would be slow to import.)"""
    named: Any = getattr(model, "get_output_embeddings", None)
    return None if named is None else named()


def softcap(model: nn.Module) -> float | None:
    """Where logits are squeezed after the head: the bound."""
    return getattr(text_config(model), "final_logit_softcapping", None)


def capped(logits: Tensor, cap: float | None) -> Tensor:
    """Squeezed to that bound, where there is one."""
    return torch.tanh(logits / cap) * cap if cap else logits


def full_precision(logits: Tensor) -> Tensor:
    """fp32, or float64 where it is so already."""
    return logits if logits.dtype == torch.float64 else logits.float()


@dataclass(frozen=True, eq=False)
class Predictions:
    """The next-token distributions for the scored tokens of a batch, row after row."""

    states_ND: Tensor
    """What the head is applied to; logits_NV of a model that cannot be split."""
    target_N: Tensor
    """The scored tokens themselves."""
    head: Callable[[Tensor], Tensor]
    """states_KD → logits_KV."""

    def map(
        self,
        values: Callable[..., Tensor],
        *others: Predictions | Tensor,
        logits_at_once: int = LOGITS_AT_ONCE,
    ) -> Tensor:
        """values_N: what `values(logits_KV, target_K, *other_logits_KV)` makes of each chunk of tokens.

        Other predictions for the same tokens are given as their logits, other tensors as their rows. Where there are
        several chunks, the logits of each are made again in the backward pass instead of being kept.
        """
        size = max(1, logits_at_once // self._width())
        n = len(self.target_N)
        if n <= size:
            return self._chunk(values, others, slice(0, n))
        if not torch.is_grad_enabled():
            return torch.cat([self._chunk(values, others, slice(at, at + size)) for at in range(0, n, size)])
        pieces = [
            # Typed as returning anything
            cast("Tensor", checkpoint(self._chunk, values, others, slice(at, at + size), use_reentrant=False))
            for at in range(0, n, size)
        ]
        return torch.cat(pieces)

    def _chunk(self, values: Callable[..., Tensor], others: tuple[Predictions | Tensor, ...], rows: slice) -> Tensor:
        given = [other.logits(rows) if isinstance(other, Predictions) else other[rows] for other in others]
        return values(self.logits(rows), self.target_N[rows], *given)

    def logits(self, rows: slice) -> Tensor:
        """logits_KV of some of the tokens, in fp32 or float64."""
        return full_precision(self.head(self.states_ND[rows]))

    def _width(self) -> int:
        with torch.no_grad():
            return self.head(self.states_ND[:1]).shape[-1]

    def logprob(self) -> Tensor:
        """logprob_N of the scored tokens themselves, nats."""
        return self.map(target_logprob)


def target_logprob(logits_KV: Tensor, target_K: Tensor) -> Tensor:
    """logprob_K of the given tokens."""
    return -F.cross_entropy(logits_KV, target_K, reduction="none")


def predict(model: nn.Module, batch: TokenBatch, prefix: Prefix | None) -> Predictions:
    """Run the decoder on a batch, from the prefix on where there is one. Differentiable, in the model's own mode."""
    parts = halves(model)
    hidden = []
    for rows, inputs in in_pieces(batch.inputs):
        with starting_at(model, None if prefix is None else prefix.of(rows)):
            hidden.append(parts.decoder(inputs))
    hidden_BTD = hidden[0] if len(hidden) == 1 else torch.cat(hidden)
    return Predictions(batch.predicting(hidden_BTD), batch.target_N, parts.head)


def with_head_of(model: nn.Module, predictions: Predictions, originals: Mapping[str, Tensor]) -> Predictions:
    """The same states under the head that the model has with other values of some of its parameters.

    A head that is trained has moved since; the others are left alone. Tied embeddings are found under either name.
    """
    module = output_embeddings(model)
    if module is None or not halves(model).split:
        return predictions
    moved = {id(parameter): originals[name] for name, parameter in model.named_parameters() if name in originals}
    before = {
        own: moved[id(parameter)].to(parameter.device)
        for own, parameter in module.named_parameters()
        if id(parameter) in moved
    }
    if not before:
        return predictions
    cap = softcap(model)

    def head(states_KD: Tensor) -> Tensor:
        return capped(functional_call(module, before, (states_KD,)), cap)

    return Predictions(predictions.states_ND, predictions.target_N, head)
