"""Simulated answers with a known truth, and what the instruments say of them.

A world is drawn in two layers, as a method makes them: the base answers a probe or not, and what it answers is kept or
not. The probes of a fact are alike: each copies a draw that its fact has in common with probability √rho. A1 sees the
answers that are left, A2 the changes of what the base answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from menard_unlearn.statistics.clusters import Clusters
from menard_unlearn.statistics.cutoff import Cutoff, Rules, Status, answers_cutoff, changes_cutoff
from menard_unlearn.statistics.intervals import wilson

Floats = NDArray[np.float64]
Chance = Callable[[Floats, Floats], Floats]
"""Chance by year and kind (0 or 1) of each fact."""

YEARS_Y = np.arange(1900.0, 1981.0)
CONFIGURED = 1939
SEED = 1
"""0 was used while the method was worked on."""
RULES = Rules(bootstrap=200, null_bootstrap=99, alpha=0.01, max_width=20, seed=0)


@dataclass(frozen=True)
class World:
    """What is true in a simulation."""

    answered: Chance
    """By the base."""
    kept: Chance
    """By the method, of what the base answers."""
    facts: int
    """Facts a year."""
    probes: int
    """Probes a fact."""
    rho: float
    """Correlation of a fact's answers."""
    mixed: bool
    """Whether facts are of two kinds, the second ever more frequent: a tenth of the facts in 1900, nine in 1980."""


def level(chance: float, by_kind: float = 0.0) -> Chance:
    """The same in all years; the second kind's logit is lower by `by_kind`."""
    return lambda year_F, kind_F: expit(logit(chance) - by_kind * kind_F + 0 * year_F)


def step(year: float, scale: float, before: float = 0.95, after: float = 0.05, by_kind: float = 0.0) -> Chance:
    """A cutoff; the second kind is lower by `by_kind` on either side of it."""
    return lambda year_F, kind_F: after + (before - after) * expit((year - year_F) / scale) - by_kind * kind_F


def recency(slope: float) -> Chance:
    """A base that knows later facts better: 0.5 in 1900, rising by `slope` a year."""
    return lambda year_F, kind_F: 0.5 + slope * (year_F - 1900) + 0 * kind_F


def logit_drift(years: float, by_kind: float = 0.0) -> Chance:
    """A logit that falls from 90% to 10% in so many years, half-way in 1940."""
    return lambda year_F, kind_F: expit((1940 - year_F) * 2 * np.log(9) / years - by_kind * kind_F)


def linear_drift(fall: float, by_kind: float = 0.0) -> Chance:
    """A share that falls by `fall` from 1900 to 1980."""
    return lambda year_F, kind_F: 0.97 - fall * (year_F - 1900) / 80 - by_kind * kind_F


def draw(world: World, rng: np.random.Generator) -> tuple[Clusters, Clusters]:
    """Answers after the method, and changes of what the base answered."""
    year_F = np.repeat(YEARS_Y, world.facts)
    late_F = 0.1 + 0.8 * expit((year_F - 1950) / 4) if world.mixed else 0 * year_F
    kind_F = (rng.random(len(year_F)) < late_F).astype(float)
    base_FP = _alike(world, world.answered(year_F, kind_F), rng)
    after_FP = base_FP & _alike(world, world.kept(year_F, kind_F), rng)
    names = ("early kind", "late kind") if world.mixed else ("all",)
    n_F, kept_F, stratum_F = base_FP.sum(1).astype(float), after_FP.sum(1).astype(float), kind_F.astype(np.int64)
    known_F = n_F > 0
    return (
        Clusters(year_F, stratum_F, np.full(len(year_F), float(world.probes)), kept_F, names),
        Clusters(year_F[known_F], stratum_F[known_F], n_F[known_F], (kept_F - n_F)[known_F], names),
    )


def _alike(world: World, chance_F: Floats, rng: np.random.Generator) -> NDArray[np.bool_]:
    shape = (len(chance_F), world.probes)
    shared_FP = rng.random(shape) < np.sqrt(world.rho)
    together_F1 = rng.random((len(chance_F), 1)) < chance_F[:, None]
    return np.where(shared_FP, together_F1, rng.random(shape) < chance_F[:, None])


def without_strata(facts: Clusters) -> Clusters:
    """As if kinds were not known."""
    return replace(facts, stratum_F=np.zeros_like(facts.stratum_F), strata=("all",))


def found(world: World, which: str, simulations: int, seed: int, *, strata: bool = True) -> list[Cutoff]:
    """What A1 or A2 says of so many draws of a world. Every simulation has a seed of its own for all that is random."""
    results = []
    for simulation in range(simulations):
        number = int(np.random.SeedSequence([SEED, seed, simulation]).generate_state(1)[0])
        answers, changes = draw(world, np.random.default_rng(number))
        facts = answers if which == "A1" else changes
        facts, rules = facts if strata else without_strata(facts), replace(RULES, seed=number)
        one = (
            answers_cutoff(facts, CONFIGURED, None, rules)
            if which == "A1"
            else changes_cutoff(facts, CONFIGURED, rules)
        )
        results.append(one)
    return results


@dataclass(frozen=True)
class Tally:
    """Pinned cutoffs against the truth."""

    pinned: float
    """Share of the simulations."""
    bias: float
    """Mean error, years."""
    sd: float
    """Standard deviation of the errors, years."""
    width: float
    """Mean width of the intervals, years."""
    coverage: float
    """Share of the pinned whose interval holds the truth."""
    low: float
    """Lower end of coverage's 99% interval."""
    high: float
    """Upper end."""

    @property
    def holds(self) -> bool:
        """Whether that interval contains 0.95."""
        return self.low <= 0.95 <= self.high


def tally(results: list[Cutoff], truth: float) -> Tally:
    """Of at least one pinned cutoff."""
    triples = [
        (one.year, one.low, one.high)
        for one in results
        if one.year is not None and one.low is not None and one.high is not None
    ]
    year_N, low_N, high_N = np.array(triples).T
    covered = int(((low_N <= truth) & (truth <= high_N)).sum())
    low, high = wilson(covered, len(triples), 0.99) or (0.0, 1.0)
    return Tally(
        pinned=len(triples) / len(results),
        bias=float(np.mean(year_N - truth)),
        sd=float(np.std(year_N)),
        width=float(np.mean(high_N - low_N)),
        coverage=covered / len(triples),
        low=low,
        high=high,
    )


def statuses(results: list[Cutoff]) -> dict[Status, float]:
    """Share of each status."""
    counts = Counter(one.status for one in results)
    return {status: counts[status] / len(results) for status in Status}
