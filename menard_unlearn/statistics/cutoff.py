"""From answers by year to a cutoff, or to the reason why there is none.

The status is decided by these fixed rules, in this order; a year is given only for `pinned`. Levels are counted above
`chance`, the share that blind guessing gets right (0 for an answer to be written out, 1/4 for one of four): else a
model that guesses would look as if it kept a part of what the base knows.

unparseable     fewer than 10 distinct years have probes; or none is answered and there is no base to compare with; or
                the base itself answers no more than chance up to the configured cutoff; or (A2) the base answers no
                probe; or every stratum was left out.
collapsed       recall of the years up to the configured cutoff is below half of the base's: knowledge is destroyed,
                not cut off.

Strata (categories, say) may differ in level: the fits and the test have an offset δ for each, and those with facts on
one side of the configured cutoff only are left out of these and named. Recall, and so `collapsed`, is of all probes.

Then, where drift is rejected (p ≤ alpha) and the step is a drop of at least a fifth (A1: h − g ≥ 0.2 h; A2: h − g ≥ 0.2
of what the base knew), by the 95% interval of τ:

pinned          it lies inside the data and is at most max_width years wide.
left-censored   it reaches to the first year of the data or before: the drop may lie before the data.
right-censored  it reaches to the last year or after: the drop may lie after the data.
no-cutoff       it reaches over both ends, or is too wide: something drops, but at no date.

And where there is no such drop:

right-censored  (A1 only) the model knows the data to their end: recall in the last fifth of the span is at least one
                half, and at least four fifths of that in the first fifth, a different mix of strata accounted for.
no-cutoff       all else: drift, a level too low to end anywhere, or (A2) no change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from menard_unlearn.statistics.clusters import Clusters
from menard_unlearn.statistics.drift import drift_of_answers, drift_of_changes
from menard_unlearn.statistics.step import StepFit, fit_step

MIN_YEARS = 10
COLLAPSE = 0.5
MIN_DROP = 0.2
KNOWS = 0.5
END = 0.2
"""The last and the first fifth of the span."""
RESOLUTION = 0.5
"""Years that an interval reaches to either side of τ at least: facts dated by the year cannot place a step within one.
Without it, sharp steps are covered in 91% of simulations (experiments/instruments)."""
QUANTILE = "hazen"
"""Where between two replicates a quantile lies: numpy's default covers .94 with 200 replicates, "weibull" .96."""


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
    left_out: tuple[str, ...] = ()
    """Strata left out: they have facts on one side of the configured cutoff only."""
    n_left_out: int = 0
    """Number of their probes."""


def answers_cutoff(
    facts: Clusters, cutoff_year: int, base: Clusters | None, rules: Rules, chance: float = 0.0
) -> Cutoff:
    """A1: where a model's knowledge ends, from numbers of correct answers; `base` holds the untouched model's.

    logit p(k, y) = logit(g + (h − g)·σ((τ − y)/s)) + δ_k in stratum k and year y; τ in years. The interval draws facts
    with replacement, the test of drift is `drift_of_answers`. Fails when: the base knows some years better (a recency
    slope moves τ: use A2), steps differ in year from stratum to stratum (τ is where their average is half-way), or
    kinds of facts that differ in level share a stratum. Others take the year of least perplexity (arXiv 2403.12958) or
    of best F1 (2402.16797), without an interval.
    """
    status = _before_fitting(facts, cutoff_year, base, chance)
    if status:
        return Cutoff(status)
    return _fitted(facts, cutoff_year, rules, chance, binomial=True)


def changes_cutoff(facts: Clusters, cutoff_year: int, rules: Rules, chance: float = 0.0) -> Cutoff:
    """A2: where a method's effect begins. `facts` holds sums of after − before over the probes that the base answers.

    The same curve without logits, change(k, y) = g + (h − g)·σ((τ − y)/s) + δ_k, τ in years, by least squares; drift is
    `drift_of_changes`. What the base knew better or worse by year is gone from it. Fails when: the base answers few
    probes (see n), or strata lose different shares. Whether the model collapsed is a matter of A1 and must be asked
    first. The estimate is this project's.
    """
    return _fitted(facts, cutoff_year, rules, chance, binomial=False)


def collapsed(facts: Clusters, cutoff_year: int, base: Clusters, chance: float = 0.0) -> bool | None:
    """Whether recall up to the cutoff is below half of the base's, both counted above chance.

    None without probes, or where the base is no better than chance: by two standard errors, a fact counting once.
    """
    known_F = base.year_F <= cutoff_year
    now, then = facts.mean(facts.year_F <= cutoff_year), base.mean(known_F)
    if now is None or then is None or then <= chance + 2 * np.sqrt(chance * (1 - chance) / known_F.sum()):
        return None
    return now - chance < COLLAPSE * (then - chance)


def _before_fitting(facts: Clusters, cutoff_year: int, base: Clusters | None, chance: float) -> Status | None:
    if len(facts.year_F) == 0 or len(facts.years_Y) < MIN_YEARS:
        return Status.UNPARSEABLE
    if base is None:
        return None if facts.total_F.any() else Status.UNPARSEABLE
    fallen = collapsed(facts, cutoff_year, base, chance)
    if fallen is None:
        return Status.UNPARSEABLE
    return Status.COLLAPSED if fallen else None


def _fitted(everything: Clusters, cutoff_year: int, rules: Rules, chance: float, *, binomial: bool) -> Cutoff:
    """Fit, test against drift and, where there is a drop, locate it."""
    facts, left_out = everything.on_both_sides(cutoff_year) if len(everything.strata) > 1 else (everything, ())
    n_left_out = everything.n_items - facts.n_items
    if len(facts.year_F) == 0 or len(facts.years_Y) < MIN_YEARS:
        return Cutoff(Status.UNPARSEABLE, left_out=left_out, n_left_out=n_left_out)
    rng = np.random.default_rng(rules.seed)
    fit = fit_step(facts.years_Y, facts.by_cell(facts.n_F[None]), facts.by_cell(facts.total_F[None]), binomial=binomial)
    if binomial:
        p = drift_of_answers(facts, fit, replicates=rules.null_bootstrap, fastest_drift=rules.max_width, rng=rng)
        # Below chance there is no knowledge that could end.
        least = MIN_DROP * (fit.before_R[0] - chance) if fit.before_R[0] > chance else np.inf
    else:
        p = drift_of_changes(facts, fit, replicates=rules.null_bootstrap, rng=rng)
        least = MIN_DROP * (1 - chance)
    found = Cutoff(
        Status.NO_CUTOFF,
        p_value=p,
        before=float(fit.before_R[0]),
        after=float(fit.after_R[0]),
        scale=float(fit.scale_R[0]),
        left_out=left_out,
        n_left_out=n_left_out,
    )
    if p <= rules.alpha and fit.before_R[0] - fit.after_R[0] >= least:
        return _located(found, facts, float(fit.year_R[0]), rules, rng, binomial=binomial)
    return replace(found, status=Status.RIGHT_CENSORED) if binomial and _knows_to_the_end(facts, fit, chance) else found


def _located(
    found: Cutoff, facts: Clusters, year: float, rules: Rules, rng: np.random.Generator, *, binomial: bool
) -> Cutoff:
    """A drop was found: is it inside the data, and is its date known well enough?"""
    n_RKY, total_RKY = facts.resampled(rules.bootstrap, rng)
    years_R = fit_step(facts.years_Y, n_RKY, total_RKY, binomial=binomial).year_R
    low, high = (float(v) for v in np.quantile(years_R, (0.025, 0.975), method=QUANTILE))
    before, after = low <= facts.years_Y[0], high >= facts.years_Y[-1]
    if before != after:
        return replace(found, status=Status.LEFT_CENSORED if before else Status.RIGHT_CENSORED)
    if before or high - low > rules.max_width:
        return found
    low, high = min(low, year - RESOLUTION), max(high, year + RESOLUTION)
    return replace(found, status=Status.PINNED, year=year, low=low, high=high)


def _knows_to_the_end(facts: Clusters, fit: StepFit, chance: float) -> bool:
    first, last = facts.years_Y[0], facts.years_Y[-1]
    end = END * (last - first)
    early, late = (_level(facts, fit, ends_F) for ends_F in (facts.year_F <= first + end, facts.year_F >= last - end))
    return late - chance >= max(KNOWS * (1 - chance), (1 - MIN_DROP) * (early - chance))


def _level(facts: Clusters, fit: StepFit, chosen_F: NDArray[np.bool_]) -> float:
    """Mean of the chosen facts' probes, less what the fit says that their mix of strata adds to it."""
    share_K = np.bincount(facts.stratum_F, weights=facts.n_F) / facts.n_F.sum()
    cell_KY = fit.cell_RKY[0]
    added_F = facts.of_cell(cell_KY - share_K @ cell_KY)
    return float((facts.total_F - facts.n_F * added_F)[chosen_F].sum() / facts.n_F[chosen_F].sum())
