"""Scores grouped by fact: the table that every fit, bootstrap and test here starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Clusters:
    """One row a fact. A fact's probes share its year and rise or fall together, so facts are what is resampled."""

    year_F: Floats
    """Year of the fact."""
    n_F: Floats
    """Number of the fact's probes."""
    total_F: Floats
    """Sum of its probes' scores: correct answers (A1), or changes in {−1, 0, 1} (A2)."""

    @property
    def years_Y(self) -> Floats:
        """The distinct years, in order."""
        return np.unique(self.year_F)

    @property
    def n_items(self) -> int:
        """Number of probes."""
        return int(self.n_F.sum())

    def mean(self, chosen_F: NDArray[np.bool_]) -> float | None:
        """Mean score of the probes of the chosen facts; None when there are none."""
        n = self.n_F[chosen_F].sum()
        return float(self.total_F[chosen_F].sum() / n) if n else None

    def by_year(self, values_RF: Floats) -> Floats:
        """Sums over the facts of each year: (R, F) → (R, Y)."""
        order_F = np.argsort(self.year_F, kind="stable")
        starts_Y = np.searchsorted(self.year_F[order_F], self.years_Y)
        return np.add.reduceat(values_RF[:, order_F], starts_Y, axis=1)

    def resampled(self, replicates: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Counts and totals by year, each (R, Y), of facts drawn with replacement."""
        facts = len(self.year_F)
        times_RF = rng.multinomial(facts, np.full(facts, 1 / facts), size=replicates).astype(float)
        return self.by_year(times_RF * self.n_F), self.by_year(times_RF * self.total_F)


def clusters(facts: Sequence[str], years: Sequence[int], scores: Sequence[float]) -> Clusters:
    """Group probes by fact id; a fact's probes are taken to share one year."""
    _, first_F, group_N = np.unique(np.asarray(facts), return_index=True, return_inverse=True)
    return Clusters(
        year_F=np.asarray(years, float)[first_F],
        n_F=np.bincount(group_N).astype(float),
        total_F=np.bincount(group_N, weights=np.asarray(scores, float)).astype(float),
    )
