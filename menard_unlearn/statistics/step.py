"""The cutoff curve p(y) = g + (h − g)·σ((τ − y)/s), fitted to the cells of many bootstrap replicates at once.

Two objectives: the binomial log-likelihood of counts (A1; g and h within (0, 1)) and least squares on cell means (A2; g
and h free). Strata add offsets δ to its logit (A1) or to itself (A2): `climb.py`. Starts come from a grid over τ and s
on which levels are linear and need one weighted regression within strata; the best τ of each s is then climbed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from menard_unlearn.statistics.climb import MAX_LOGIT, Cells, Climbed, climb
from menard_unlearn.statistics.clusters import Floats

MIN_SCALE = 0.2
"""Lower bound of s in years. Data dated by the year cannot tell sharper steps apart."""
MARGIN = 10.0
"""Years by which τ may leave the data, so that an interval can be seen to leave it."""
START_SCALES = (0.2, 1.0, 2.5, 6.0, 15.0, 40.0)
KEPT_STARTS = 3
"""How many of them are climbed: those with the best regression."""


@dataclass(frozen=True)
class StepFit:
    """Parameters of R fits."""

    before_R: Floats
    """h, the level long before the step, averaged over the strata as they are in the data."""
    after_R: Floats
    """g, the level long after it, averaged likewise."""
    year_R: Floats
    """τ, where that average is half-way between the two. With one stratum, or least squares, the curve's own τ; else an
    offset on the logit moves a steep curve along the years, and the curve's τ would depend on where offsets are 0."""
    scale_R: Floats
    """s > 0, years: 10% to 90% of the step takes 4.4 s."""
    objective_R: Floats
    """Binomial log-likelihood without its constant, or Σ total·p − n·p²/2, which falls with the squared error; less
    the strata's ridge."""
    cell_RKY: Floats
    """Fitted values by stratum and year."""


@dataclass(frozen=True)
class _Step:
    """The curve on its logit (binomial) or as it is. Parameters: g and h (their logits if binomial), τ, ln s."""

    years_Y: Floats
    binomial: bool

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        span = max(self.years_Y[-1] - self.years_Y[0], 1.0)
        level = MAX_LOGIT if self.binomial else np.inf
        low = [-level, -level, self.years_Y[0] - MARGIN, np.log(MIN_SCALE)]
        return np.array(low), np.array([level, level, self.years_Y[-1] + MARGIN, np.log(max(span, 2 * MIN_SCALE))])

    def at(self, params_RP: Floats) -> tuple[Floats, Floats]:
        level_RP = expit(params_RP[:, :2]) if self.binomial else params_RP[:, :2]
        after_R1, before_R1 = level_RP[:, :1], level_RP[:, 1:]
        scale_R1, away_RY = np.exp(params_RP[:, 3:4]), params_RP[:, 2:3] - self.years_Y
        weight_RY = expit(away_RY / scale_R1)
        curve_RY = after_R1 + (before_R1 - after_R1) * weight_RY
        bend_RY = (before_R1 - after_R1) * weight_RY * (1 - weight_RY) / scale_R1
        slopes = [1 - weight_RY, weight_RY, bend_RY, -bend_RY * away_RY]
        if self.binomial:
            slopes[0] = slopes[0] * after_R1 * (1 - after_R1)
            slopes[1] = slopes[1] * before_R1 * (1 - before_R1)
            slope_RPY = np.stack(slopes, axis=1) / (curve_RY * (1 - curve_RY))[:, None]
            return np.log(curve_RY / (1 - curve_RY)), slope_RPY
        return curve_RY, np.stack(slopes, axis=1)


def fit_step(years_Y: Floats, n_RKY: Floats, total_RKY: Floats, *, binomial: bool) -> StepFit:
    """Fit the curve to R replicates at once.

    `n_RKY` counts the probes of each cell, `total_RKY` sums their scores. With `binomial`, totals are counts of correct
    answers and the fit is maximum likelihood with g, h in (0, 1); otherwise it is least squares on cell means weighted
    by n.
    """
    shape, cells = _Step(years_Y, binomial), Cells(n_RKY.astype(float), total_RKY.astype(float), binomial)
    found = climb(shape, cells, _starts(shape, cells))
    after_R, before_R = (_average(cells, found, found.params_RP[:, place]) for place in (0, 1))
    return StepFit(
        before_R=before_R,
        after_R=after_R,
        year_R=_halfway(shape, cells, found, (after_R + before_R) / 2),
        scale_R=np.exp(found.params_RP[:, 3]),
        objective_R=found.objective_R,
        cell_RKY=cells.at(shape.at(found.params_RP)[0], found.delta_RK),
    )


def _average(cells: Cells, found: Climbed, curve_R: Floats) -> Floats:
    """What the strata, as they are in the data, average to where the curve has a value, (R,)."""
    share_RK = cells.n_RKY.sum(2) / cells.n_RKY.sum((1, 2))[:, None]
    return (share_RK * cells.at(curve_R[:, None], found.delta_RK)[:, :, 0]).sum(1)


def _halfway(shape: _Step, cells: Cells, found: Climbed, half_R: Floats) -> Floats:
    """The year in which the average over strata passes a level, by bisection within the bounds of τ."""
    year_R = found.params_RP[:, 2]
    if not cells.binomial or cells.n_RKY.shape[1] == 1:
        return year_R
    low_R, high_R = (np.full(len(year_R), bound[2]) for bound in shape.bounds)
    falls_R = found.params_RP[:, 1] > found.params_RP[:, 0]
    for _ in range(40):
        middle_R = (low_R + high_R) / 2
        curve_R = _Step(middle_R[:, None], binomial=True).at(found.params_RP)[0][:, 0]
        later_R = (_average(cells, found, curve_R) > half_R) == falls_R
        low_R, high_R = np.where(later_R, middle_R, low_R), np.where(later_R, high_R, middle_R)
    return (low_R + high_R) / 2


def _starts(shape: _Step, cells: Cells) -> Floats:
    """Of each start scale the τ of a yearly grid that explains most within strata; the best few, (S, R, P)."""
    years_Y, n_RKY = shape.years_Y, cells.n_RKY
    year_G = np.arange(years_Y[0] - MARGIN + 0.5, years_Y[-1] + MARGIN, 1.0)
    n_RY, total_RY, n_RK, total_RK = (sums.sum(axis) for axis in (1, 2) for sums in (n_RKY, cells.total_RKY))
    weight_RK = 1 / np.maximum(n_RK, 1e-9)
    n_R, total_R = n_RK.sum(1), total_RK.sum(1)
    starts, gains = [], []
    for scale in START_SCALES:
        weight_YG = expit((year_G - years_Y[:, None]) / scale)
        sum_RKG = n_RKY @ weight_YG
        spread_RG = n_RY @ weight_YG**2 - (weight_RK[:, None] @ sum_RKG**2)[:, 0]
        shared_RG = total_RY @ weight_YG - ((weight_RK * total_RK)[:, None] @ sum_RKG)[:, 0]
        # A τ so far out that the weight is constant has no regression: it gains nothing.
        floor_R1 = 1e-9 * n_R[:, None]
        drop_RG = np.where(spread_RG > floor_R1, shared_RG / np.maximum(spread_RG, floor_R1), 0.0)
        gain_RG = drop_RG * shared_RG
        best_R1 = gain_RG.argmax(1)[:, None]
        drop_R, gain_R, sum_R = (
            np.take_along_axis(values_RG, best_R1, 1)[:, 0] for values_RG in (drop_RG, gain_RG, sum_RKG.sum(1))
        )
        after_R = (total_R - drop_R * sum_R) / n_R
        level_RP = np.stack([after_R, after_R + drop_R], axis=1)
        if cells.binomial:
            level_RP = logit(np.clip(level_RP, 0.002, 0.998))
        shape_RP = np.stack([year_G[best_R1[:, 0]], np.full(len(n_R), np.log(scale))], axis=1)
        starts.append(np.concatenate([level_RP, shape_RP], axis=1))
        gains.append(gain_R)
    best_SR = np.argsort(-np.stack(gains), axis=0, kind="stable")[:KEPT_STARTS]
    return np.stack(starts)[best_SR, np.arange(len(n_R))]
