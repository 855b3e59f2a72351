"""How well a sparse autoencoder stands for the activations of a model: by their variance, and by the model's loss.

Special and padding positions are neither counted nor replaced.

Legend: B rows, T tokens, N tokens that count, D width, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.errors import UserError
from menard_unlearn.features.activations import refuse_long, stream
from menard_unlearn.features.clamp import fitted
from menard_unlearn.features.hooks import Edit, Positions, editing
from menard_unlearn.features.sae import Sae
from menard_unlearn.models.predictions import halves
from menard_unlearn.models.scores import score

KEYS = {
    "n_tokens": "tokens whose activations were measured; special ones and each item's last, which nothing follows, "
    "are not among them",
    "n_scored": "tokens over which the losses below are means",
    "l0": "features that fire, mean over tokens",
    "fvu": "sum of squared errors of the reconstruction over that of the mean; null where all activations are equal",
    "explained_variance": "1 - fvu",
    "dead_share": "share of features that fire on none of n_tokens",
    "ce_clean": "loss of the model as it is, nats a token",
    "ce_sae": "loss with the layer's output replaced by its reconstruction",
    "ce_zero": "loss with it replaced by zeros",
    "ce_mean": "loss with it replaced by its mean",
    "loss_recovered_zero": "(ce_zero - ce_sae) / (ce_zero - ce_clean): 1 nothing lost, 0 as bad as zeros, below 0 "
    "worse; null unless zeros raise the loss by MARGIN",
    "loss_recovered_mean": "the same with the mean for zeros, which asks more",
    "left_out": "what could not be computed, and why",
}
"""Key of the result → meaning and unit."""

MARGIN = 0.01
"""Nats a token by which an ablation must raise the loss: the ratio of two losses that nothing tells apart says
nothing."""
ENCODED_AT_ONCE = 4096
"""Tokens."""


@dataclass
class _Sums:
    """What is gathered over tokens, in float64 on the CPU."""

    n_tokens: int = 0
    x_D: Tensor = field(default_factory=lambda: torch.zeros(()))
    square: float = 0.0
    error: float = 0.0
    active: int = 0
    fired_F: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.bool))

    def add(self, sae: Sae, x_ND: Tensor) -> None:
        """Some more tokens."""
        a_NF = sae.encode(x_ND)
        exact_ND = x_ND.double().cpu()
        self.n_tokens += len(x_ND)
        self.x_D = self.x_D + exact_ND.sum(0)
        self.square += float(exact_ND.square().sum())
        self.error += float((exact_ND - sae.decode(a_NF).double().cpu()).square().sum())
        self.active += int((a_NF > 0).sum())
        self.fired_F = self.fired_F | (a_NF > 0).any(0).cpu()

    @property
    def mean_D(self) -> Tensor:
        return self.x_D / self.n_tokens

    @property
    def variance(self) -> float:
        """Sum of squared distances from the mean, 0 where rounding has left less than nothing."""
        found = self.square - self.n_tokens * float(self.mean_D.square().sum())
        return found if found > 1e-12 * self.square else 0.0


def measure_sae(
    model: PreTrainedModel,
    sae: Sae,
    items: Sequence[TokenItem],
    *,
    special: Collection[int],
    batch_size: int,
    chunk: int,
) -> dict[str, Any]:
    """Measure the SAE on items that it was not trained on; keys of `KEYS`.

    The head runs on `chunk` tokens at a time. Raises UserError where the SAE does not fit the model, an item is longer
    than its window, or no item holds a token that counts.
    """
    sae = fitted(model, sae)
    refuse_long(model, items)
    halves(model)  # tries itself on a few tokens the first time, which are none of ours
    sums = _Sums()

    def watch(hidden_BTD: Tensor, positions: Positions) -> None:
        for x_ND in hidden_BTD[positions.kept_BT].split(ENCODED_AT_ONCE):
            sums.add(sae, x_ND)

    def loss(edit: Edit) -> float:
        with editing(model, sae.layer, edit, special):
            scores = score(model, items, batch_size=batch_size, chunk=chunk, padding=0)
        return -sum(scores.of(item).logprob for item in items) / n_scored

    n_scored = sum(len(item.ids) - item.n_prompt for item in items)
    if not any(token not in frozenset(special) for item in items for token in item.ids[:-1]):
        raise UserError("the texts hold no token but special ones: give longer texts to measure the SAE on")
    losses = {"ce_clean": loss(watch)}
    mean_D = sums.mean_D.float().to(sae.b_dec_D.device)
    losses["ce_sae"] = loss(_instead(lambda x_ND: sae.decode(sae.encode(x_ND))))
    losses["ce_zero"] = loss(_instead(torch.zeros_like))
    losses["ce_mean"] = loss(_instead(lambda x_ND: mean_D.expand_as(x_ND)))
    recovered, left_out = _recovered(losses)
    fvu = sums.error / sums.variance if sums.variance else None
    return {
        "n_tokens": sums.n_tokens,
        "n_scored": n_scored,
        "l0": sums.active / sums.n_tokens,
        "fvu": fvu,
        "explained_variance": None if fvu is None else 1 - fvu,
        "dead_share": float((~sums.fired_F).double().mean()),
        **losses,
        **recovered,
        "left_out": (["fvu: all activations are equal"] if fvu is None else []) + left_out,
    }


@torch.no_grad()
def measure_scale(
    model: PreTrainedModel, sae: Sae, items: Sequence[TokenItem], *, special: Collection[int], batch_size: int
) -> Sae:
    """The SAE with its features' largest activations on these items' tokens, the unit of a clamp.

    Raises UserError where it does not fit the model, an item is longer than its window, or none holds a token that
    counts.
    """
    sae = fitted(model, sae)
    refuse_long(model, items)
    max_F, n_tokens = torch.zeros_like(sae.b_enc_F), 0
    for batch_ND in stream(model, items, layer=sae.layer, special=special, batch_size=batch_size):
        n_tokens += len(batch_ND)
        for x_ND in batch_ND.split(ENCODED_AT_ONCE):
            if len(x_ND):
                max_F = torch.maximum(max_F, sae.encode(x_ND).amax(0))
    if n_tokens == 0:
        raise UserError("the texts hold no token but special ones: give longer texts to measure the SAE's scale on")
    return replace(sae, max_F=max_F)


def _instead(made: Callable[[Tensor], Tensor]) -> Edit:
    """The edit that puts what is made of the stream in its place, where positions count."""

    def edit(hidden_BTD: Tensor, positions: Positions) -> Tensor:
        edited_BTD = hidden_BTD.clone()
        pieces = [made(x_ND) for x_ND in hidden_BTD[positions.kept_BT].split(ENCODED_AT_ONCE)]
        edited_BTD[positions.kept_BT] = torch.cat(pieces).to(hidden_BTD.dtype)
        return edited_BTD

    return edit


def _recovered(losses: dict[str, float]) -> tuple[dict[str, float | None], list[str]]:
    """Both shares of the loss recovered, and why one is null."""
    found: dict[str, float | None] = {}
    left_out = []
    for kind in ("zero", "mean"):
        raised = losses[f"ce_{kind}"] - losses["ce_clean"]
        defined = raised >= MARGIN
        found[f"loss_recovered_{kind}"] = (losses[f"ce_{kind}"] - losses["ce_sae"]) / raised if defined else None
        if not defined:
            left_out.append(f"loss_recovered_{kind}: this ablation changes the loss by {raised:.4g} nats a token")
    return found, left_out
