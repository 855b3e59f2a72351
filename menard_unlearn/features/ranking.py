"""Which features tell the author's pieces from the others': chosen on one side of the split, judged on the other.

    score = max(AUROC − ½, 0) · (mean over the author's pieces − mean over the others')

of document-pooled activations. Candidates are only that: a feature that tells authors apart need not do anything, and
`causal` asks what it does.

Legend: P pieces, F features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from menard_unlearn.errors import UserError
from menard_unlearn.features.pieces import Pieces, PiecesConfig
from menard_unlearn.features.pooling import PooledActivations
from menard_unlearn.statistics.contrast import auroc, auroc_interval, difference, difference_interval, welch_t

LEAST_RANDOM = 10
"""Fewer random features say little of what a feature of no author does."""


@dataclass(frozen=True)
class RankingConfig:
    """How a feature is chosen. Raises UserError for a value that is not allowed."""

    pieces: PiecesConfig
    """How works are cut and divided."""
    n_candidates: int
    """Features that are tried causally."""
    min_frequency: float
    """Share of tokens at which a feature must be active, or it is as good as dead: of the author's for a candidate, of
    all for a random feature."""
    k: float
    """Strength of the clamp by which candidates are tried, in largest activations."""
    causal_per_work: int
    """Most pieces of a work that are scored under each clamp."""
    n_random: int
    """Random live features that are tried beside them, 10 or more."""
    replicates: int
    """Of the bootstraps."""
    seed: int
    """Of these, and of the random features."""

    def __post_init__(self) -> None:
        least = {"n_candidates": 1, "causal_per_work": 1, "n_random": LEAST_RANDOM, "replicates": 1}
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                raise UserError(f"ranking.{name} {getattr(self, name)} is not allowed: give {lowest} or more")
        if not 0 < self.min_frequency < 1:
            raise UserError(f"ranking.min_frequency {self.min_frequency} is not between 0 and 1: give 0.001")
        if self.k <= 0:
            raise UserError(f"ranking.k {self.k} would not turn a feature up: give a number above 0, as 0.5")


@dataclass(frozen=True)
class FeatureRow:
    """A candidate. The first four numbers chose it; those on held-out pieces took no part in that."""

    feature: int
    """Its index in the autoencoder."""
    auroc: float
    """P(a piece of the author's has a larger mean activation than another's), on the training side."""
    difference: float
    """Mean activation in the author's pieces minus that in the others', on the training side."""
    welch_t: float | None
    """That difference by its standard error; null where neither side varies. Pieces of a work are no independent
    draws: it ranks, and is no test."""
    auroc_heldout: float
    """AUROC on held-out works of the author against held-out authors; 0.5 is chance."""
    auroc_heldout_low: float | None
    """Lower end of its 95% interval, works and authors drawn with replacement; null with fewer than two of either, too
    narrow with few, and of no width where the sides do not overlap."""
    auroc_heldout_high: float | None
    """Upper end."""
    difference_heldout: float
    """The difference of means on the held-out side."""
    difference_heldout_low: float | None
    """Lower end of its 95% interval, as above."""
    difference_heldout_high: float | None
    """Upper end."""
    frequency_own: float
    """Share of the tokens of the author's pieces, on the training side, at which it is active."""
    frequency_others: float
    """The same of the others' pieces."""
    max_activation: float | None
    """The autoencoder's largest activation of it, the unit of a clamp; null where nobody measured it."""


def rank(pooled: PooledActivations, pieces: Pieces, config: RankingConfig) -> list[FeatureRow]:
    """The best candidates, best first; fewer than `n_candidates`, or none, where no more of them lean to the author.

    The training side alone decides which, and in which order.
    """
    train_P, own_P = pieces.on("train"), pieces.own_P
    values_PF, positive_P = pooled.mean_PF[train_P], own_P[train_P]
    auroc_F, difference_F = auroc(values_PF, positive_P), difference(values_PF, positive_P)
    score_F = np.maximum(auroc_F - 0.5, 0) * difference_F
    frequency_own_F = pooled.frequency(train_P & own_P)
    frequency_others_F = pooled.frequency(train_P & ~own_P)
    score_F[frequency_own_F < config.min_frequency] = 0
    order_F = np.argsort(-score_F, kind="stable")
    best = [int(feature) for feature in order_F[: config.n_candidates] if score_F[feature] > 0]
    if not best:
        return []
    welch_K = welch_t(values_PF[:, best], positive_P)
    judged = _judged(pooled.mean_PF[:, best], pieces, config)
    return [
        FeatureRow(
            feature=feature,
            auroc=float(auroc_F[feature]),
            difference=float(difference_F[feature]),
            welch_t=None if math.isnan(welch_K[place]) else float(welch_K[place]),
            **judged[place],
            frequency_own=float(frequency_own_F[feature]),
            frequency_others=float(frequency_others_F[feature]),
            max_activation=None if pooled.max_F is None else float(pooled.max_F[feature]),
        )
        for place, feature in enumerate(best)
    ]


def _judged(mean_PK: NDArray[np.floating], pieces: Pieces, config: RankingConfig) -> list[dict[str, Any]]:
    """What held-out pieces say of some columns: the fields of `FeatureRow` that end in heldout, and their intervals."""
    held_P = pieces.on("heldout")
    values_PK, positive_P, cluster_P = mean_PK[held_P], pieces.own_P[held_P], pieces.cluster_P[held_P]
    auroc_K, difference_K = auroc(values_PK, positive_P), difference(values_PK, positive_P)
    settings = {"replicates": config.replicates, "seed": config.seed}
    found = []
    for place, column_P in enumerate(values_PK.T):
        spread = auroc_interval(column_P, positive_P, cluster_P, **settings)
        apart = difference_interval(column_P, np.ones(len(column_P)), positive_P, cluster_P, **settings)
        found.append(
            {
                "auroc_heldout": float(auroc_K[place]),
                **dict(zip(("auroc_heldout_low", "auroc_heldout_high"), spread or (None, None), strict=True)),
                "difference_heldout": float(difference_K[place]),
                **dict(zip(("difference_heldout_low", "difference_heldout_high"), apart or (None, None), strict=True)),
            }
        )
    return found


def live_features(pooled: PooledActivations, pieces: Pieces, config: RankingConfig) -> list[int]:
    """Features that are active often enough on the training side, whoever wrote it."""
    return np.flatnonzero(pooled.frequency(pieces.on("train")) >= config.min_frequency).tolist()
