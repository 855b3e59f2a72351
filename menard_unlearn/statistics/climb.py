"""Fit a curve over the years plus one offset a stratum to the cells of many bootstrap replicates at once.

    answers (binomial)       logit p(k, y) = curve(y) + δ_k      maximum likelihood of counts of correct answers
    changes (not binomial)         p(k, y) = curve(y) + δ_k      least squares on cell means weighted by their counts

δ lets kinds of facts differ in level, so that a mix of kinds that changes over the years is not taken for a change of
knowledge. Each δ costs a ridge worth one probe, which also decides how level is shared between curve and offsets;
with one stratum there is no δ. Damped Fisher scoring, each replicate with its own damping: the offsets' information
is diagonal, so they are eliminated and a step solves only as many equations as the curve has parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import expit

from menard_unlearn.statistics.clusters import Floats

MAX_LOGIT = 14.0
MAX_STEPS = 60
FIRST_STEPS = 6
"""Steps from every start; the best is climbed on."""
TOLERANCE = 1e-7
"""Of the objective, relative: gains below it end a climb."""
BLOCK = 150_000
"""Cells held at once, for the processor's cache."""


class Shape(Protocol):
    """A curve over years with P parameters, on the scale that offsets are added on."""

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """Lowest and highest values, (P,) each."""
        ...

    def at(self, params_RP: Floats) -> tuple[Floats, Floats]:
        """The curve (R, Y) and its derivatives (R, P, Y)."""
        ...


@dataclass(frozen=True)
class Cells:
    """Counts and sums of R replicates, and which of the two objectives is climbed."""

    n_RKY: Floats
    """Number of probes."""
    total_RKY: Floats
    """Sum of their scores."""
    binomial: bool
    """Whether totals are counts of correct answers."""

    @property
    def ridge(self) -> float:
        """Information of one probe, at most."""
        return 0.25 if self.binomial else 1.0

    def rows(self, rows_R: np.ndarray | slice) -> Cells:
        """Some of the replicates."""
        return Cells(self.n_RKY[rows_R], self.total_RKY[rows_R], self.binomial)

    def at(self, curve_RY: Floats, delta_RK: Floats) -> Floats:
        """Fitted values of the cells, (R, K, Y)."""
        sum_RKY = curve_RY[:, None] + delta_RK[:, :, None]
        return expit(sum_RKY) if self.binomial else sum_RKY


@dataclass(frozen=True)
class Climbed:
    """R optima."""

    params_RP: Floats
    """Of the curve."""
    delta_RK: Floats
    """Of the strata."""
    objective_R: Floats
    """Log-likelihood without its constant, or Σ total·p − n·p²/2, which falls with the squared error; less ridge."""


@dataclass(frozen=True)
class _Slope:
    """Value, gradient and information at one place of parameter space."""

    value_R: Floats
    param_RP: Floats
    delta_RK: Floats
    param_RPP: Floats
    cross_RKP: Floats
    diagonal_RK: Floats


def climb(shape: Shape, cells: Cells, start_SRP: Floats) -> Climbed:
    """The best optimum of each replicate over its starts."""
    starts, replicates, n_params = start_SRP.shape
    per_block = max(1, BLOCK // (starts * cells.n_RKY[0].size))
    parts = []
    for first in range(0, replicates, per_block):
        block = slice(first, first + per_block)
        part, start_SBP = cells.rows(block), start_SRP[:, block]
        rows_B = np.arange(start_SBP.shape[1])
        if starts > 1:
            flat = start_SBP.reshape(-1, n_params)
            tried = _climb(shape, part.rows(np.tile(rows_B, starts)), flat, _flat_delta(cells, len(flat)), FIRST_STEPS)
            best_B = tried.objective_R.reshape(starts, -1).argmax(0) * len(rows_B) + rows_B
            parts.append(_climb(shape, part, tried.params_RP[best_B], tried.delta_RK[best_B], MAX_STEPS))
        else:
            parts.append(_climb(shape, part, start_SBP[0], _flat_delta(cells, len(rows_B)), MAX_STEPS))
    return Climbed(
        np.concatenate([part.params_RP for part in parts]),
        np.concatenate([part.delta_RK for part in parts]),
        np.concatenate([part.objective_R for part in parts]),
    )


def _flat_delta(cells: Cells, rows: int) -> Floats:
    return np.zeros((rows, cells.n_RKY.shape[1]))


def _climb(shape: Shape, cells: Cells, start_RP: Floats, start_RK: Floats, steps: int) -> Climbed:
    """Damped Fisher scoring from one start; replicates that stopped improving are taken out."""
    low_P, high_P = shape.bounds
    params_RP, delta_RK = np.clip(start_RP, low_P, high_P), start_RK.copy()
    damping_R = np.full(len(params_RP), 1e-2)
    active_R = np.arange(len(params_RP))
    part, here = cells, _slope(shape, cells, params_RP, delta_RK)
    value_R = here.value_R.copy()
    for _ in range(steps):
        step_RP, step_RK, gain_R = _step(here, params_RP[active_R], damping_R[active_R], low_P, high_P)
        moving_R = gain_R > TOLERANCE * (1 + np.abs(here.value_R))
        if not moving_R.all():
            active_R, part, here = active_R[moving_R], part.rows(moving_R), _rows(here, moving_R)
            step_RP, step_RK = step_RP[moving_R], step_RK[moving_R]
        if not len(active_R):
            break
        new_RP = np.clip(params_RP[active_R] + step_RP, low_P, high_P)
        new_RK = np.clip(delta_RK[active_R] + step_RK, -MAX_LOGIT, MAX_LOGIT)
        there = _slope(shape, part, new_RP, new_RK)
        better_R = there.value_R > here.value_R
        moved_R = active_R[better_R]
        params_RP[moved_R], delta_RK[moved_R] = new_RP[better_R], new_RK[better_R]
        value_R[moved_R] = there.value_R[better_R]
        here = _either(better_R, there, here)
        damping_R[active_R] *= np.where(better_R, 0.2, 8.0)
        going_R = damping_R[active_R] < 1e6
        if not going_R.all():
            active_R, part, here = active_R[going_R], part.rows(going_R), _rows(here, going_R)
    return Climbed(params_RP, delta_RK, value_R)


def _step(
    here: _Slope, params_RP: Floats, damping_R: Floats, low_P: Floats, high_P: Floats
) -> tuple[Floats, Floats, Floats]:
    """A damped step of curve and offsets, and the gain that it promises. Parameters pressed on a bound stay."""
    pressed_RP = ((params_RP <= low_P) & (here.param_RP < 0)) | ((params_RP >= high_P) & (here.param_RP > 0))
    free_RP = np.where(pressed_RP, 0.0, 1.0)
    score_RP, cross_RKP = here.param_RP * free_RP, here.cross_RKP * free_RP[:, None]
    information_RPP = here.param_RPP * free_RP[:, None] * free_RP[:, :, None]
    places = np.arange(score_RP.shape[1])
    information_RPP[:, places, places] *= 1 + damping_R[:, None]
    information_RPP[:, places, places] += np.where(pressed_RP, 1.0, 1e-8)
    diagonal_RK = here.diagonal_RK * (1 + damping_R[:, None])
    step_RK = np.zeros_like(here.delta_RK)
    strata = step_RK.shape[1] > 1
    if strata:
        share_RKP = cross_RKP / diagonal_RK[:, :, None]
        information_RPP -= cross_RKP.transpose(0, 2, 1) @ share_RKP
        score_RP = score_RP - (here.delta_RK[:, None] @ share_RKP)[:, 0]
    step_RP = np.asarray(np.linalg.solve(information_RPP, score_RP[:, :, None])[:, :, 0], np.float64) * free_RP
    if strata:
        step_RK = (here.delta_RK - (cross_RKP @ step_RP[:, :, None])[:, :, 0]) / diagonal_RK
    gain_R = (here.param_RP * step_RP).sum(1) + (here.delta_RK * step_RK).sum(1)
    return step_RP, step_RK, gain_R


def _slope(shape: Shape, cells: Cells, params_RP: Floats, delta_RK: Floats) -> _Slope:
    curve_RY, slope_RPY = shape.at(params_RP)
    total_RY, total_RK = cells.total_RKY.sum(1), cells.total_RKY.sum(2)
    fitted_RY, fitted_RK, weight_RKY, value_R = (_logistic if cells.binomial else _linear)(cells, curve_RY, delta_RK)
    value_R = value_R + (total_RY * curve_RY).sum(1) + (total_RK * delta_RK).sum(1)
    return _Slope(
        value_R=value_R - cells.ridge / 2 * (delta_RK**2).sum(1),
        param_RP=(slope_RPY @ (total_RY - fitted_RY)[:, :, None])[:, :, 0],
        delta_RK=total_RK - fitted_RK - cells.ridge * delta_RK,
        param_RPP=(slope_RPY * weight_RKY.sum(1)[:, None]) @ slope_RPY.transpose(0, 2, 1),
        cross_RKP=weight_RKY @ slope_RPY.transpose(0, 2, 1),
        diagonal_RK=weight_RKY.sum(2) + cells.ridge,
    )


def _logistic(cells: Cells, curve_RY: Floats, delta_RK: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Expected totals by year and by stratum, weights, and the part of the objective that is not linear in totals."""
    odds_RKY = np.exp(curve_RY)[:, None] * np.exp(delta_RK)[:, :, None]
    all_RKY = 1 + odds_RKY
    value_R = -(cells.n_RKY * np.log(all_RKY)).sum((1, 2))
    odds_RKY /= all_RKY
    expected_RKY = cells.n_RKY * odds_RKY
    odds_RKY *= expected_RKY
    return expected_RKY.sum(1), expected_RKY.sum(2), expected_RKY - odds_RKY, value_R


def _linear(cells: Cells, curve_RY: Floats, delta_RK: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    n_RKY = cells.n_RKY
    by_year_RY = n_RKY.sum(1) * curve_RY + (delta_RK[:, None] @ n_RKY)[:, 0]
    by_stratum_RK = (n_RKY @ curve_RY[:, :, None])[:, :, 0] + n_RKY.sum(2) * delta_RK
    value_R = -((by_year_RY * curve_RY).sum(1) + (by_stratum_RK * delta_RK).sum(1)) / 2
    return by_year_RY, by_stratum_RK, n_RKY, value_R


def _rows(slope: _Slope, rows_R: np.ndarray) -> _Slope:
    return _Slope(
        slope.value_R[rows_R],
        slope.param_RP[rows_R],
        slope.delta_RK[rows_R],
        slope.param_RPP[rows_R],
        slope.cross_RKP[rows_R],
        slope.diagonal_RK[rows_R],
    )


def _either(first_R: np.ndarray, first: _Slope, second: _Slope) -> _Slope:
    """Rows of the first where it is chosen, of the second elsewhere."""
    one, two = first_R[:, None], first_R[:, None, None]
    return _Slope(
        np.where(first_R, first.value_R, second.value_R),
        np.where(one, first.param_RP, second.param_RP),
        np.where(one, first.delta_RK, second.delta_RK),
        np.where(two, first.param_RPP, second.param_RPP),
        np.where(two, first.cross_RKP, second.cross_RKP),
        np.where(one, first.diagonal_RK, second.diagonal_RK),
    )
