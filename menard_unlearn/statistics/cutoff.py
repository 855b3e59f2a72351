"""From answers by year to a cutoff, or to the reason why there is none.

The status is decided by these fixed rules, in this order; a year is given only for `pinned`.

unparseable     fewer than 10 distinct years have probes; or none is answered and there is no base to compare with; or
                the base itself answers none up to the configured cutoff; or (A2) the base answers no probe.
collapsed       recall of the years up to the configured cutoff is below half of the base's: knowledge is destroyed,
                not cut off.

Then, where drift is rejected (p ≤ alpha) and the step is a drop of at least a fifth (A1: h − g ≥ 0.2 h; A2: h − g ≥ 0.2
of what the base knew), by the 95% interval of τ:

pinned          it lies inside the data and is at most max_width years wide.
left-censored   it reaches to the first year of the data or before: the drop may lie before the data.
right-censored  it reaches to the last year or after: the drop may lie after the data.
no-cutoff       it reaches over both ends, or is too wide: something drops, but at no date.

And where there is no such drop:

right-censored  (A1 only) the model knows the data to their end: recall in the last fifth of the span is at least one
                half, and at least four fifths of that in the first fifth.
no-cutoff       all else: drift, a level too low to end anywhere, or (A2) no change.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from menard_unlearn.statistics.clusters import Clusters
from menard_unlearn.statistics.drift import drift_of_answers, drift_of_changes
from menard_unlearn.statistics.step import StepFit, fit_step

MIN_YEARS = 10
COLLAPSE = 0.5
MIN_DROP = 0.2
KNOWS = 0.5
END = 0.2
"""The last and the first fifth of the span."""


class Status(StrEnum):
    """What can be said about a cutoff."""

    PINNED = "pinned"
    LEFT_CENSORED = "left-censored"
    RIGHT_CENSORED = "right-censored"
    NO_CUTOFF = "no-cutoff"
    COLLAPSED = "collapsed"
    UNPARSEABLE = "unparseable"


@dataclass(frozen=True)
class Rules:
    """The numbers of the procedure that a user may choose."""

    bootstrap: int
    """Replicates of the interval of τ."""
    null_bootstrap: int
    """Replicates of the drift test; 1/(replicates + 1) must not exceed alpha."""
    alpha: float
    """Level of the drift test."""
    max_width: float
    """Widest interval of a pinned cutoff, years; also the fastest that a drift may go from 10% to 90%."""
    seed: int
    """Seed of both bootstraps."""


@dataclass(frozen=True)
class Cutoff:
    """A status and what it was decided on."""

    status: Status
    year: float | None = None
    """τ, only when pinned. A step between two years lies half-way: 1939 known and 1940 not is 1939.5."""
    low: float | None = None
    """Lower end of τ's 95% interval, only when pinned."""
    high: float | None = None
    """Upper end."""
    p_value: float | None = None
    """Of the drift test; None where the status was decided before it."""
    before: float | None = None
    """h, fitted level before the step."""
    after: float | None = None
    """g, fitted level after it."""
    scale: float | None = None
    """s, years."""


def answers_cutoff(facts: Clusters, cutoff_year: int, base: Clusters | None, rules: Rules) -> Cutoff:
    """A1: where a model's knowledge ends, from numbers of correct answers; `base` holds the untouched model's."""
    status = _before_fitting(facts, cutoff_year, base)
    if status:
        return Cutoff(status)
    rng = np.random.default_rng(rules.seed)
    fit = fit_step(facts.years_Y, facts.by_year(facts.n_F[None]), facts.by_year(facts.total_F[None]), binomial=True)
    p = drift_of_answers(facts, fit, replicates=rules.null_bootstrap, fastest_drift=rules.max_width, rng=rng)
    drop = fit.before_R[0] - fit.after_R[0]
    if p <= rules.alpha and drop >= MIN_DROP * fit.before_R[0]:
        return _located(facts, fit, p, rules, rng, binomial=True)
    return _cutoff(Status.RIGHT_CENSORED if _knows_to_the_end(facts) else Status.NO_CUTOFF, fit, p)


def changes_cutoff(facts: Clusters, rules: Rules) -> Cutoff:
    """A2: where a method's effect begins. `facts` holds sums of after − before over the probes that the base answers.

    Whether the model collapsed is a matter of A1 and must be asked first.
    """
    if len(facts.year_F) == 0 or len(facts.years_Y) < MIN_YEARS:
        return Cutoff(Status.UNPARSEABLE)
    rng = np.random.default_rng(rules.seed)
    fit = fit_step(facts.years_Y, facts.by_year(facts.n_F[None]), facts.by_year(facts.total_F[None]), binomial=False)
    p = drift_of_changes(facts, fit, replicates=rules.null_bootstrap, rng=rng)
    if p <= rules.alpha and fit.before_R[0] - fit.after_R[0] >= MIN_DROP:
        return _located(facts, fit, p, rules, rng, binomial=False)
    return _cutoff(Status.NO_CUTOFF, fit, p)


def collapsed(facts: Clusters, cutoff_year: int, base: Clusters) -> bool | None:
    """Whether recall up to the cutoff is below half of the base's; None without probes or without a base that knows."""
    now, then = facts.mean(facts.year_F <= cutoff_year), base.mean(base.year_F <= cutoff_year)
    return None if now is None or not then else now < COLLAPSE * then


def _before_fitting(facts: Clusters, cutoff_year: int, base: Clusters | None) -> Status | None:
    if len(facts.year_F) == 0 or len(facts.years_Y) < MIN_YEARS:
        return Status.UNPARSEABLE
    if base is None:
        return None if facts.total_F.any() else Status.UNPARSEABLE
    fallen = collapsed(facts, cutoff_year, base)
    if fallen is None:
        return Status.UNPARSEABLE
    return Status.COLLAPSED if fallen else None


def _located(
    facts: Clusters, fit: StepFit, p: float, rules: Rules, rng: np.random.Generator, *, binomial: bool
) -> Cutoff:
    """A drop was found: is it inside the data, and is its date known well enough?"""
    n_RY, total_RY = facts.resampled(rules.bootstrap, rng)
    years_R = fit_step(facts.years_Y, n_RY, total_RY, binomial=binomial).year_R
    low, high = (float(v) for v in np.quantile(years_R, (0.025, 0.975)))
    first, last = facts.years_Y[0], facts.years_Y[-1]
    if low <= first or high >= last:
        both = low <= first and high >= last
        one = Status.LEFT_CENSORED if low <= first else Status.RIGHT_CENSORED
        return _cutoff(Status.NO_CUTOFF if both else one, fit, p)
    if high - low > rules.max_width:
        return _cutoff(Status.NO_CUTOFF, fit, p)
    return _cutoff(Status.PINNED, fit, p, year=float(fit.year_R[0]), low=low, high=high)


def _cutoff(
    status: Status,
    fit: StepFit,
    p: float,
    year: float | None = None,
    low: float | None = None,
    high: float | None = None,
) -> Cutoff:
    before, after, scale = float(fit.before_R[0]), float(fit.after_R[0]), float(fit.scale_R[0])
    return Cutoff(status, year, low, high, p, before, after, scale)


def _knows_to_the_end(facts: Clusters) -> bool:
    first, last = facts.years_Y[0], facts.years_Y[-1]
    end = END * (last - first)
    early, late = facts.mean(facts.year_F <= first + end), facts.mean(facts.year_F >= last - end)
    return early is not None and late is not None and late >= max(KNOWS, (1 - MIN_DROP) * early)
