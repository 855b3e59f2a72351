"""Fit a guardrail: Dynamic SAE Guardrails (DSG, arXiv 2504.08192), features and threshold from two sets of documents.

    importance of f on a side = (mean activation over its tokens)²
    guarded: the top share by importance on forget over importance on retain, of these the most important on forget
    τ = quantile over the retain documents of ρ, the share of a document's tokens at which a guarded feature is active

τ is of whole documents, as in the paper, while the guardrail acts by the running ρ of `guardrail`, which is noisier at
a text's beginning: more than 1 − quantile of retain documents are touched somewhere. Both shares are told.

Legend: P documents, N tokens, F features, S guarded ones.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.errors import UserError
from menard_unlearn.features.clamp import fitted
from menard_unlearn.features.guardrail import Guardrail
from menard_unlearn.features.sae import Sae
from menard_unlearn.features.steering import kept_states
from menard_unlearn.statistics.intervals import auc

KEYS = {
    "features": "guarded features of the SAE",
    "tau": "threshold of ρ",
    "strength": "clamp in units of a feature's largest activation",
    "warm_up": "tokens of a text that are read before the guardrail may act",
    "n_forget": "documents that should be touched",
    "n_retain": "documents that should not",
    "auroc": "P(ρ of a forget document > ρ of a retain document), ties one half; of whole documents",
    "fires_forget": "share of forget documents whose ρ exceeds τ at their end",
    "fires_retain": "share of retain documents whose ρ does",
    "touched_forget": "share of forget documents in which the running ρ leads to a clamp at any token",
    "touched_retain": "share of retain documents in which it does",
    "tokens_forget": "share of forget tokens that are clamped, special ones aside",
    "tokens_retain": "share of retain tokens that are",
    "left_out": "sides of which nothing is held out, whose figures flatter the guardrail",
}
"""Key of guardrail.json → meaning and unit. Figures of the documents that τ was fitted on flatter the guardrail."""

WORDLESS = "the documents of a guardrail hold no token but special ones: give texts"


@dataclass(frozen=True)
class GuardrailConfig:
    """How a guardrail is fitted."""

    top_share: float
    """Features kept, by ratio of importance, as a share of those that are active on the forget documents."""
    max_features: int | None
    """At most so many of these are guarded, those of the largest importance on forget; null guards all."""
    quantile: float
    """Share of retain documents whose ρ is to lie at or below τ."""
    strength: float
    """Where guarded features are put, in units of their largest activation; negative, or 0 to take them out."""
    warm_up: int
    """Tokens of a text that are read before the guardrail may act: the running ρ of a few tokens is noise."""
    batch_size: int
    """Documents that are read at once."""

    def __post_init__(self) -> None:
        for name in ("top_share", "quantile"):
            if not 0 < (value := getattr(self, name)) <= 1:
                raise ValueError(f"{name}={value} must lie above 0 and be at most 1, as guardrail.{name}=0.95")
        if self.max_features is not None and self.max_features < 1:
            raise ValueError(
                f"max_features={self.max_features} must be null or at least 1, as guardrail.max_features=20"
            )
        if self.strength > 0:
            raise ValueError(f"strength={self.strength} must be 0 or below, as guardrail.strength=-1")
        if self.warm_up < 0:
            raise ValueError(f"warm_up={self.warm_up} must be 0 or more, as guardrail.warm_up=8")
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size} must be 1 or more, as guardrail.batch_size=16")


def fit_guardrail(
    model: PreTrainedModel,
    sae: Sae,
    forget: Sequence[TokenItem],
    retain: Sequence[TokenItem],
    special: Collection[int],
    config: GuardrailConfig,
) -> Guardrail:
    """Choose features and τ from documents. Raises UserError for a side without documents, for an SAE that does not fit
    the model or has no active feature on the forget documents."""
    sae = fitted(model, sae)
    _refuse_empty(forget, retain)
    sides = [mean_activations(model, sae, items, special, config.batch_size) for items in (forget, retain)]
    features = guarded(*sides, top_share=config.top_share, max_features=config.max_features)
    rho_P = np.array([row_N.mean() for row_N in _active(model, sae, features, retain, special, config.batch_size)])
    # "higher": never more than 1 − quantile of these documents lie above it
    return Guardrail(
        features, float(np.quantile(rho_P, config.quantile, method="higher")), config.strength, config.warm_up
    )


def measure_guardrail(
    model: PreTrainedModel,
    sae: Sae,
    guardrail: Guardrail,
    forget: Sequence[TokenItem],
    retain: Sequence[TokenItem],
    special: Collection[int],
    batch_size: int,
) -> dict:
    """How well it tells the sides apart, keys of `KEYS`; give documents that it was not fitted on.

    Errors as `fit_guardrail`.
    """
    sae = fitted(model, sae)
    _refuse_empty(forget, retain)
    forget_P, retain_P = (
        [_Fired.of(row_N, guardrail) for row_N in found]
        for found in (_active(model, sae, guardrail.features, items, special, batch_size) for items in (forget, retain))
    )
    found = guardrail.to_dict() | {"n_forget": len(forget_P), "n_retain": len(retain_P)}
    found["left_out"] = []
    found["auroc"] = auc([fired.rho for fired in forget_P], [fired.rho for fired in retain_P])
    for name, rows in (("forget", forget_P), ("retain", retain_P)):
        found[f"fires_{name}"] = float(np.mean([fired.rho > guardrail.tau for fired in rows]))
        found[f"touched_{name}"] = float(np.mean([fired.n_clamped > 0 for fired in rows]))
        found[f"tokens_{name}"] = sum(fired.n_clamped for fired in rows) / sum(fired.n_tokens for fired in rows)
    return {key: found[key] for key in KEYS}


@dataclass(frozen=True)
class _Fired:
    """What the guardrail does in a document."""

    rho: float
    n_clamped: int
    n_tokens: int

    @classmethod
    def of(cls, active_N: NDArray[np.bool_], guardrail: Guardrail) -> _Fired:
        """By the running ρ, which no clamp changes: it comes after the features are read."""
        acts_N = guardrail.acts(torch.tensor(active_N.cumsum()), torch.arange(1, len(active_N) + 1)).numpy()
        return cls(float(active_N.mean()), int((acts_N & active_N).sum()), len(active_N))


def guarded(forget_F: Tensor, retain_F: Tensor, *, top_share: float, max_features: int | None) -> tuple[int, ...]:
    """The features to guard, by their mean activations on either side, the most important first.

    A feature that is never active on retain has an infinite ratio; among such ones, and wherever ratios tie, importance
    on forget decides. Raises UserError where no feature is active on forget.
    """
    forget, retain = forget_F.double().square().numpy(), retain_F.double().square().numpy()
    live = np.flatnonzero(forget > 0)
    if not len(live):
        raise UserError("no feature of the SAE is active on the forget documents: give other documents or another SAE")
    with np.errstate(divide="ignore"):
        ratio = forget[live] / retain[live]
    best = live[np.lexsort((-forget[live], -ratio))][: math.ceil(top_share * len(live))]
    return tuple(int(feature) for feature in best[np.argsort(-forget[best], kind="stable")][:max_features])


def mean_activations(
    model: PreTrainedModel, sae: Sae, items: Sequence[TokenItem], special: Collection[int], batch_size: int
) -> Tensor:
    """mean_F over all but special tokens, float64, on the CPU. Raises UserError where there is no token."""
    total_F, n = torch.zeros(sae.n_features, dtype=torch.float64), 0
    for _, states_ND in kept_states(model, items, sae.layer, special, batch_size):
        total_F += sae.encode(states_ND).double().sum(0).cpu()
        n += len(states_ND)
    if not n:
        raise UserError(WORDLESS)
    return total_F / n


def _active(
    model: PreTrainedModel,
    sae: Sae,
    features: Sequence[int],
    items: Sequence[TokenItem],
    special: Collection[int],
    batch_size: int,
) -> list[NDArray[np.bool_]]:
    """Of each document that has any, at which of its tokens, in order, any of the features is active."""
    found: list[NDArray[np.bool_]] = [np.zeros(0, bool) for _ in items]
    for item_N, states_ND in kept_states(model, items, sae.layer, special, batch_size):
        active_N = (sae.encode_some(states_ND, features) > 0).any(-1).cpu().numpy()
        for item in np.unique(item_N):
            found[item] = active_N[item_N == item]
    if not (told := [row_N for row_N in found if len(row_N)]):
        raise UserError(WORDLESS)
    return told


def _refuse_empty(forget: Sequence[TokenItem], retain: Sequence[TokenItem]) -> None:
    for name, items in (("forget", forget), ("retain", retain)):
        if not items:
            raise UserError(f"a guardrail needs documents of both sides, and {name} has none: give texts")
