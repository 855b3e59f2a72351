"""What a dose does to the target and to control texts, with intervals, and which dose is the best: pure arithmetic.

Pieces of one author move together, so it is whole authors that the intervals of S draw with replacement.

Legend: T tokens of the target, K blocks of them, J control texts, C clusters of these, R replicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from menard_unlearn.features.steering import Intervention

Floats = NDArray[np.float64]

MIN_BLOCKS = 5
"""Fewer say nothing of how the text varies."""
MIN_CLUSTERS = 2
"""One would give no width at all."""

CHOICE_KEYS = {
    "status": "of the best dose. found: it is. no_gain: S is not above 0 at any dose within the limit. "
    "not_better_than_random: at that dose random controls do as well too often (`p_value`). none_within_limit: at "
    "every dose the model writes what it would not, or nothing",
    "best_k": "the k of the largest S among the feature's rows within the limit, whatever the status says of it; null "
    "where none is within",
    "random_features_at_least": "share of the random features whose S at best_k is the feature's or more",
    "random_directions_at_least": "share of the random directions, likewise",
    "p_value": "(1 + number of both that do as well) / (1 + number of both); all three null without best_k",
}
"""Key of dose_response.json → meaning and unit."""


@dataclass(frozen=True, eq=False)
class Effect:
    """What an intervention changes against none."""

    intervention: Intervention
    change_norm: float
    """Mean norm of the change of the stream, a token."""
    change_T: Floats
    """Of the log-probability of each scored token of the target, nats."""
    control_J: Floats
    """Of the log-probability a token of each control text, nats."""

    @property
    def delta(self) -> float:
        """Δ ln p(target) a token."""
        return float(self.change_T.mean())

    @property
    def steering(self) -> float:
        """S, nats a token."""
        return self.delta - float(self.control_J.mean())


@dataclass(frozen=True, eq=False)
class Replicates:
    """How often each block of the target and each cluster of control texts is drawn; the same for all effects: they are
    paired."""

    begin_K: NDArray[np.int64]
    """First token of each block."""
    times_RK: NDArray[np.int64]
    number_J: NDArray[np.int64]
    """Cluster of each control text, from 0."""
    times_RC: NDArray[np.int64]

    @classmethod
    def of(
        cls, n_tokens: int, cluster_J: Sequence[int], *, block: int, replicates: int, seed: int
    ) -> Replicates | None:
        """Blocks of about `block` tokens, and the cluster of each control text, any numbers; None where the target has
        too few blocks."""
        n_blocks = max(1, round(n_tokens / block))
        if n_blocks < MIN_BLOCKS:
            return None
        rng = np.random.default_rng([seed, 2])
        begin_K = np.linspace(0, n_tokens, n_blocks + 1).round().astype(np.int64)[:-1]
        names_C, number_J = np.unique(cluster_J, return_inverse=True)
        drawn = (rng.multinomial(n, np.full(n, 1 / n), size=replicates) for n in (n_blocks, len(names_C)))
        times_RK, times_RC = drawn
        return cls(begin_K, times_RK, number_J.astype(np.int64), times_RC)

    @property
    def n_clusters(self) -> int:
        """Of the control texts."""
        return self.times_RC.shape[1]

    def intervals(self, effect: Effect) -> dict[str, float | None]:
        """95% intervals of Δ and S; those of S null with fewer than `MIN_CLUSTERS` clusters."""
        sum_K = np.add.reduceat(effect.change_T, self.begin_K)
        size_K = np.diff(np.append(self.begin_K, len(effect.change_T)))
        delta_R = (self.times_RK @ sum_K) / (self.times_RK @ size_K)
        found = _ends("delta", delta_R)
        if self.n_clusters < MIN_CLUSTERS:
            return found | {"steering_low": None, "steering_high": None}
        sum_C, size_C = np.bincount(self.number_J, effect.control_J), np.bincount(self.number_J)
        control_R = (self.times_RC @ sum_C) / (self.times_RC @ size_C)
        return found | _ends("steering", delta_R - control_R)


def _ends(name: str, values_R: Floats) -> dict[str, float | None]:
    low, high = np.quantile(values_R, (0.025, 0.975))
    return {f"{name}_low": float(low), f"{name}_high": float(high)}


def best_dose(rows: Sequence[dict], plain: float | None, limit: float) -> float | None:
    """The k of the largest S among the feature's rows whose coherence is at most `limit` above the unclamped one's;
    the smaller of two that tie. None where there is none."""
    if plain is None:
        return None
    within = [row for row in rows if row["coherence"] is not None and row["coherence"] <= plain + limit]
    return max(within, key=lambda row: (row["steering"], -abs(row["k"])))["k"] if within else None


def choice(effects: Sequence[Effect], best_k: float | None, significance: float) -> dict:
    """The feature at its best dose against the random controls at that dose; keys of `CHOICE_KEYS`."""
    if best_k is None:
        return {**dict.fromkeys(CHOICE_KEYS), "status": "none_within_limit"}
    at_best = [effect for effect in effects if effect.intervention.k == best_k]
    (own,) = (effect.steering for effect in at_best if effect.intervention.kind == "feature")
    as_good = {
        kind: np.array([effect.steering >= own for effect in at_best if effect.intervention.kind == kind])
        for kind in ("random_feature", "random_direction")
    }
    both = np.concatenate(list(as_good.values()))
    p_value = float((1 + both.sum()) / (1 + len(both)))
    status = "no_gain" if own <= 0 else "found" if p_value <= significance else "not_better_than_random"
    return {
        "status": status,
        "best_k": best_k,
        "random_features_at_least": float(as_good["random_feature"].mean()),
        "random_directions_at_least": float(as_good["random_direction"].mean()),
        "p_value": p_value,
    }
