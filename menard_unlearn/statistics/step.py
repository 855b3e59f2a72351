"""The cutoff curve p(y) = g + (h − g)·σ((τ − y)/s), fitted to yearly sums of many bootstrap replicates at once.

Two objectives share one optimiser: the binomial log-likelihood of counts (A1; g and h within [0, 1]) and least
squares on year means (A2; g and h free). Starts come from a grid over τ and s on which g and h are linear and need
one weighted regression; the best τ of each s is then climbed with damped Fisher scoring.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, xlogy

from menard_unlearn.statistics.clusters import Floats

MIN_SCALE = 0.2
"""Lower bound of s in years. Data dated by the year cannot tell sharper steps apart."""
MARGIN = 10.0
"""Years by which τ may leave the data, so that an interval can be seen to leave it."""
START_SCALES = (0.2, 1.0, 2.5, 6.0, 15.0, 40.0)
KEPT_STARTS = 3
"""How many of them are climbed: those with the best objective."""
MAX_LOGIT = 14.0
MAX_STEPS = 60


@dataclass(frozen=True)
class StepFit:
    """Parameters of R fits."""

    before_R: Floats
    """h, the level long before the step."""
    after_R: Floats
    """g, the level long after it."""
    year_R: Floats
    """τ."""
    scale_R: Floats
    """s > 0, years: 10% to 90% of the step takes 4.4 s."""
    objective_R: Floats
    """Binomial log-likelihood without its constant, or Σ total·p − n·p²/2, which falls with the squared error."""

    def at(self, years_Y: Floats) -> Floats:
        """The curve, (R, Y)."""
        weight_RY = expit((self.year_R[:, None] - years_Y) / self.scale_R[:, None])
        return self.after_R[:, None] + (self.before_R - self.after_R)[:, None] * weight_RY


@dataclass(frozen=True)
class _Problem:
    """Yearly sums of R replicates, and which of the two objectives is climbed."""

    years_Y: Floats
    n_RY: Floats
    total_RY: Floats
    binomial: bool

    def rows(self, rows_R: np.ndarray) -> _Problem:
        return _Problem(self.years_Y, self.n_RY[rows_R], self.total_RY[rows_R], self.binomial)

    def bounds(self) -> tuple[Floats, Floats]:
        span = max(self.years_Y[-1] - self.years_Y[0], 1.0)
        level = MAX_LOGIT if self.binomial else np.inf
        low = [-level, -level, self.years_Y[0] - MARGIN, np.log(MIN_SCALE)]
        return np.array(low), np.array([level, level, self.years_Y[-1] + MARGIN, np.log(max(span, 2 * MIN_SCALE))])

    def levels(self, params_RP: Floats) -> tuple[Floats, Floats]:
        """g and h, (R, 1) each."""
        free_RP = params_RP[:, :2]
        level_RP = expit(free_RP) if self.binomial else free_RP
        return level_RP[:, :1], level_RP[:, 1:]

    def weight(self, params_RP: Floats) -> Floats:
        """σ((τ − y)/s), (R, Y)."""
        return expit((params_RP[:, 2:3] - self.years_Y) * np.exp(-params_RP[:, 3:4]))

    def objective(self, params_RP: Floats) -> Floats:
        after_R1, before_R1 = self.levels(params_RP)
        p_RY = after_R1 + (before_R1 - after_R1) * self.weight(params_RP)
        if self.binomial:
            return log_likelihood(self.n_RY, self.total_RY, p_RY)
        return (p_RY * (self.total_RY - 0.5 * self.n_RY * p_RY)).sum(1)

    def score(self, params_RP: Floats) -> tuple[Floats, Floats]:
        """Gradient (R, P) and Fisher information (R, P, P); both are exact for least squares up to curvature of p."""
        after_R1, before_R1 = self.levels(params_RP)
        weight_RY = self.weight(params_RP)
        p_RY = after_R1 + (before_R1 - after_R1) * weight_RY
        bend_RY = (before_R1 - after_R1) * weight_RY * (1 - weight_RY) * np.exp(-params_RP[:, 3:4])
        slope_after_RY, slope_before_RY = 1 - weight_RY, weight_RY
        precision_RY = np.ones_like(p_RY)
        if self.binomial:
            slope_after_RY = slope_after_RY * after_R1 * (1 - after_R1)
            slope_before_RY = slope_before_RY * before_R1 * (1 - before_R1)
            precision_RY = 1 / (p_RY * (1 - p_RY))
        slopes = [slope_after_RY, slope_before_RY, bend_RY, -bend_RY * (params_RP[:, 2:3] - self.years_Y)]
        slope_RPY = np.stack(slopes, axis=1)
        residual_RY = (self.total_RY - self.n_RY * p_RY) * precision_RY
        information_RPP = (slope_RPY * (self.n_RY * precision_RY)[:, None]) @ slope_RPY.transpose(0, 2, 1)
        return (slope_RPY @ residual_RY[:, :, None])[:, :, 0], information_RPP


def log_likelihood(n_RY: Floats, total_RY: Floats, p_RY: Floats) -> Floats:
    """Binomial log-likelihood of the years' counts without the binomial coefficient, (R,)."""
    return (xlogy(total_RY, p_RY) + xlogy(n_RY - total_RY, 1 - p_RY)).sum(1)


def fit_step(years_Y: Floats, n_RY: Floats, total_RY: Floats, *, binomial: bool) -> StepFit:
    """Fit the curve to R replicates at once.

    `n_RY` counts the probes of each year, `total_RY` sums their scores. With `binomial`, totals are counts of correct
    answers and the fit is maximum likelihood with g, h in (0, 1); otherwise it is least squares on year means
    weighted by n.
    """
    problem = _Problem(years_Y, n_RY.astype(float), total_RY.astype(float), binomial)
    start_SRP = _starts(problem)
    starts, replicates = start_SRP.shape[:2]
    every_start = problem.rows(np.tile(np.arange(replicates), starts))
    params_RP, objective_R = _climb(every_start, start_SRP.reshape(starts * replicates, 4))
    best_R = objective_R.reshape(starts, replicates).argmax(0)
    best_RP = params_RP.reshape(starts, replicates, 4)[best_R, np.arange(replicates)]
    after_R1, before_R1 = problem.levels(best_RP)
    return StepFit(
        before_R=before_R1[:, 0],
        after_R=after_R1[:, 0],
        year_R=best_RP[:, 2],
        scale_R=np.exp(best_RP[:, 3]),
        objective_R=problem.objective(best_RP),
    )


def _starts(problem: _Problem) -> Floats:
    """Of each start scale the τ of a half-year grid with the largest regression gain; the best few, (S, R, P)."""
    years_Y, n_RY, total_RY = problem.years_Y, problem.n_RY, problem.total_RY
    year_G = np.arange(years_Y[0] - MARGIN, years_Y[-1] + MARGIN + 0.25, 0.5)
    n_R1, total_R1 = n_RY.sum(1, keepdims=True), total_RY.sum(1, keepdims=True)
    rows_R = np.arange(len(n_RY))
    starts = []
    for scale in START_SCALES:
        weight_YG = expit((year_G - years_Y[:, None]) / scale)
        mean_RG = n_RY @ weight_YG / n_R1
        spread_RG = n_RY @ weight_YG**2 - n_R1 * mean_RG**2
        shared_RG = total_RY @ weight_YG - total_R1 * mean_RG
        # A τ so far out that the weight is constant has no regression: it gains nothing.
        slope_RG = np.where(spread_RG > 1e-9 * n_R1, shared_RG / np.maximum(spread_RG, 1e-9 * n_R1), 0.0)
        best_R = (slope_RG * shared_RG).argmax(1)
        drop_R = slope_RG[rows_R, best_R]
        after_R = total_R1[:, 0] / n_R1[:, 0] - drop_R * mean_RG[rows_R, best_R]
        levels_RP = np.stack([after_R, after_R + drop_R], axis=1)
        if problem.binomial:
            levels_RP = logit(np.clip(levels_RP, 0.002, 0.998))
        shape_RP = np.stack([year_G[best_R], np.full(len(rows_R), np.log(scale))], axis=1)
        starts.append(np.concatenate([levels_RP, shape_RP], axis=1))
    start_SRP = np.clip(np.stack(starts), *problem.bounds())
    value_SR = np.stack([problem.objective(start_RP) for start_RP in start_SRP])
    best_SR = np.argsort(-value_SR, axis=0, kind="stable")[:KEPT_STARTS]
    return start_SRP[best_SR, rows_R]


def _climb(problem: _Problem, start_RP: Floats) -> tuple[Floats, Floats]:
    """Damped Fisher scoring, each replicate with its own damping; replicates that stopped improving leave the loop."""
    low_P, high_P = problem.bounds()
    params_RP, value_R = start_RP.copy(), problem.objective(start_RP)
    damping_R = np.full(len(params_RP), 1e-2)
    active_R = np.arange(len(params_RP))
    diagonal = np.arange(4)
    for _ in range(MAX_STEPS):
        if not len(active_R):
            break
        part = problem.rows(active_R)
        score_RP, information_RPP = part.score(params_RP[active_R])
        information_RPP[:, diagonal, diagonal] *= 1 + damping_R[active_R, None]
        information_RPP[:, diagonal, diagonal] += 1e-8
        step_RP = np.linalg.solve(information_RPP, score_RP[:, :, None])[:, :, 0]
        proposal_RP = np.clip(params_RP[active_R] + step_RP, low_P, high_P)
        proposed_R, current_R = part.objective(proposal_RP), value_R[active_R]
        better_R = proposed_R > current_R
        params_RP[active_R[better_R]] = proposal_RP[better_R]
        value_R[active_R[better_R]] = proposed_R[better_R]
        damping_R[active_R] *= np.where(better_R, 0.2, 8.0)
        settled_R = better_R & (proposed_R - current_R < 1e-7 * (1 + np.abs(current_R)))
        active_R = active_R[~settled_R & (damping_R[active_R] < 1e6)]
    return params_RP, value_R
