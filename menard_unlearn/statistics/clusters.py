"""Scores grouped by fact: the table that every fit, bootstrap and test here starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Clusters:
    """One row a fact. A fact's probes share its year and rise or fall together, so facts are what is resampled."""

    year_F: Floats
    """Year of the fact."""
    stratum_F: Whole
    """Place of its stratum in `strata`."""
    n_F: Floats
    """Number of the fact's probes."""
    total_F: Floats
    """Sum of its probes' scores: correct answers (A1), or changes in {−1, 0, 1} (A2)."""
    strata: tuple[str, ...]
    """Names of the strata, each with at least one fact: kinds of facts that may differ in level."""

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

    def of_cell(self, values_KY: Floats) -> Floats:
        """Each fact's value in a table by stratum and year, (F,)."""
        return values_KY[self.stratum_F, np.searchsorted(self.years_Y, self.year_F)]

    def by_cell(self, values_RF: Floats) -> Floats:
        """Sums over the facts of each stratum and year: (R, F) → (R, K, Y)."""
        years_Y = self.years_Y
        cell_F = self.stratum_F * len(years_Y) + np.searchsorted(years_Y, self.year_F)
        order_F = np.argsort(cell_F, kind="stable")
        filled, starts = np.unique(cell_F[order_F], return_index=True)
        sums = np.zeros((len(values_RF), len(self.strata) * len(years_Y)))
        sums[:, filled] = np.add.reduceat(values_RF[:, order_F], starts, axis=1)
        return sums.reshape(len(values_RF), len(self.strata), len(years_Y))

    def resampled(self, replicates: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Counts and totals by cell, each (R, K, Y), of facts drawn with replacement."""
        facts = len(self.year_F)
        times_RF = rng.multinomial(facts, np.full(facts, 1 / facts), size=replicates).astype(float)
        return self.by_cell(times_RF * self.n_F), self.by_cell(times_RF * self.total_F)

    def on_both_sides(self, year: float) -> tuple[Clusters, tuple[str, ...]]:
        """The facts of the strata that have some up to `year` and some after it; and the names of the others.

        A stratum that lies on one side says nothing of a drop that its own level does not explain as well.
        """
        before_K, after_K = (
            np.bincount(self.stratum_F[side_F], minlength=len(self.strata)) > 0
            for side_F in (self.year_F <= year, self.year_F > year)
        )
        kept_K = before_K & after_K
        place_K, chosen_F = np.cumsum(kept_K) - 1, kept_K[self.stratum_F]
        kept = Clusters(
            self.year_F[chosen_F],
            place_K[self.stratum_F[chosen_F]],
            self.n_F[chosen_F],
            self.total_F[chosen_F],
            tuple(name for name, is_kept in zip(self.strata, kept_K, strict=True) if is_kept),
        )
        return kept, tuple(name for name, is_kept in zip(self.strata, kept_K, strict=True) if not is_kept)


def clusters(
    facts: Sequence[str], years: Sequence[int], scores: Sequence[float], strata: Sequence[str] | None = None
) -> Clusters:
    """Group probes by fact id; a fact's probes share one year and one stratum. Without strata there is one for all."""
    _, first_F, group_N = np.unique(np.asarray(facts), return_index=True, return_inverse=True)
    named_N = np.asarray(["all"] * len(facts) if strata is None else strata)
    names_K, stratum_F = np.unique(named_N[first_F], return_inverse=True)
    return Clusters(
        year_F=np.asarray(years, float)[first_F],
        stratum_F=stratum_F.astype(np.int64),
        n_F=np.bincount(group_N).astype(float),
        total_F=np.bincount(group_N, weights=np.asarray(scores, float)).astype(float),
        strata=tuple(str(name) for name in names_K),
    )
