"""Tests of a step against steady drift, calibrated by parametric bootstraps that keep a fact's probes together.

A1 (answers right or wrong): the null is a linear logit, logit p = α + β·y + δ of the stratum. A linear logit steep
enough *is* a step (the curve with g = 0, h = 1), so the null's slope is bounded: a drift takes at least `fastest_drift`
years from 10% to 90%. A2 (changes of score): the null is linear in the year, plus δ, its residuals resampled by fact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logit

from menard_unlearn.statistics.climb import MAX_LOGIT, Cells, Climbed, climb
from menard_unlearn.statistics.clusters import Clusters, Floats
from menard_unlearn.statistics.step import StepFit, fit_step

LOGIT_10_90 = 2 * float(np.log(9))
"""logit 0.9 − logit 0.1."""


@dataclass(frozen=True)
class _Line:
    """A line over the years, on the scale that offsets are added on. Parameters: level and rise over half the span."""

    years_Y: Floats
    max_slope: float

    @property
    def x_Y(self) -> Floats:
        """Years, −1 to 1."""
        return (self.years_Y - (self.years_Y[0] + self.years_Y[-1]) / 2) / self.half_span

    @property
    def half_span(self) -> float:
        return max(float(np.ptp(self.years_Y)), 1.0) / 2

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        slope = self.max_slope * self.half_span
        high_P = np.array([2 * MAX_LOGIT if np.isfinite(slope) else np.inf, slope])
        return -high_P, high_P

    def at(self, params_RP: Floats) -> tuple[Floats, Floats]:
        curve_RY = params_RP[:, :1] + params_RP[:, 1:] * self.x_Y
        slope_PY = np.stack([np.ones_like(self.x_Y), self.x_Y])
        return curve_RY, np.broadcast_to(slope_PY, (len(params_RP), *slope_PY.shape))


def p_value(observed: float, simulated_R: Floats) -> float:
    """Share of replicates at least as extreme, the observation counted among them, so never 0."""
    return float((1 + (simulated_R >= observed).sum()) / (1 + len(simulated_R)))


def drift_of_answers(
    facts: Clusters, fit: StepFit, *, replicates: int, fastest_drift: float, rng: np.random.Generator
) -> float:
    """p-value of the likelihood-ratio test of `fit` (one replicate, on all facts) against a linear logit.

    Replicates draw every fact's number of correct answers at the null's probability for its cell, the answers of a fact
    being correlated as much as they are around the fitted step.
    """
    max_slope = LOGIT_10_90 / fastest_drift
    years_Y, n_1KY = facts.years_Y, facts.by_cell(facts.n_F[None])
    null, null_1KY = fit_linear_logit(years_Y, n_1KY, facts.by_cell(facts.total_F[None]), max_slope)
    rho = correlation_within(facts, facts.of_cell(fit.cell_RKY[0]))
    total_RF = draw_correlated(facts.n_F, facts.of_cell(null_1KY[0]), rho, replicates, rng)
    n_RKY, total_RKY = np.repeat(n_1KY, replicates, 0), facts.by_cell(total_RF)
    null_R = fit_linear_logit(years_Y, n_RKY, total_RKY, max_slope)[0].objective_R
    alternative_R = fit_step(years_Y, n_RKY, total_RKY, binomial=True).objective_R
    return p_value(fit.objective_R[0] - null.objective_R[0], alternative_R - null_R)


def drift_of_changes(facts: Clusters, fit: StepFit, *, replicates: int, rng: np.random.Generator) -> float:
    """p-value of the log ratio of squared errors of `fit` (one replicate, on all facts) against a line in the year."""
    years_Y, n_1KY, total_1KY = facts.years_Y, facts.by_cell(facts.n_F[None]), facts.by_cell(facts.total_F[None])
    null_1KY = fit_line(years_Y, n_1KY, total_1KY)
    observed = _log_error_ratio(n_1KY, total_1KY, null_1KY, fit.cell_RKY)[0]
    line_F = facts.of_cell(null_1KY[0])
    residual_F = facts.total_F / facts.n_F - line_F
    drawn_RF = residual_F[rng.integers(len(residual_F), size=(replicates, len(residual_F)))]
    n_RKY, total_RKY = np.repeat(n_1KY, replicates, 0), facts.by_cell(facts.n_F * (line_F + drawn_RF))
    alternative_RKY = fit_step(years_Y, n_RKY, total_RKY, binomial=False).cell_RKY
    simulated_R = _log_error_ratio(n_RKY, total_RKY, fit_line(years_Y, n_RKY, total_RKY), alternative_RKY)
    return p_value(observed, simulated_R)


def fit_linear_logit(years_Y: Floats, n_RKY: Floats, total_RKY: Floats, max_slope: float) -> tuple[Climbed, Floats]:
    """Maximum likelihood of logit p = α + β·y + δ with |β| ≤ max_slope (per year), and its probabilities (R, K, Y)."""
    line, cells = _Line(years_Y, max_slope), Cells(n_RKY, total_RKY, binomial=True)
    share_R = total_RKY.sum((1, 2)) / n_RKY.sum((1, 2))
    start_RP = np.stack([logit(np.clip(share_R, 1e-6, 1 - 1e-6)), np.zeros(len(n_RKY))], axis=1)
    found = climb(line, cells, np.clip(start_RP, -MAX_LOGIT, MAX_LOGIT)[None])
    return found, cells.at(line.at(found.params_RP)[0], found.delta_RK)


def fit_line(years_Y: Floats, n_RKY: Floats, total_RKY: Floats) -> Floats:
    """Least squares of cell means on the year plus δ, weighted by n; fitted values, (R, K, Y)."""
    line, cells = _Line(years_Y, np.inf), Cells(n_RKY, total_RKY, binomial=False)
    share_R = total_RKY.sum((1, 2)) / n_RKY.sum((1, 2))
    found = climb(line, cells, np.stack([share_R, np.zeros(len(n_RKY))], axis=1)[None])
    return cells.at(line.at(found.params_RP)[0], found.delta_RK)


def correlation_within(facts: Clusters, chance_F: Floats) -> float:
    """Correlation of one fact's answers around their probabilities, by moments, in [0, 1]; 0 for lone probes."""
    n_F, total_F = facts.n_F, facts.total_F
    squares_F = total_F * (1 - chance_F) ** 2 + (n_F - total_F) * chance_F**2
    pairs = ((total_F - n_F * chance_F) ** 2 - squares_F).sum()
    variance = (n_F * (n_F - 1) * chance_F * (1 - chance_F)).sum()
    return float(np.clip(pairs / variance, 0, 1)) if variance > 0 else 0.0


def draw_correlated(n_F: Floats, chance_F: Floats, rho: float, replicates: int, rng: np.random.Generator) -> Floats:
    """Numbers of correct answers, (R, F), of n_F answers of probability chance_F and correlation rho within a fact.

    Each answer copies one draw shared by its fact with probability √rho, and is drawn alone otherwise.
    """
    shape = (replicates, len(n_F))
    n_RF, chance_RF = np.broadcast_to(n_F.astype(int), shape), np.broadcast_to(chance_F, shape)
    copies_RF = rng.binomial(n_RF, np.sqrt(rho))
    shared_RF = rng.random(shape) < chance_RF
    return (copies_RF * shared_RF + rng.binomial(n_RF - copies_RF, chance_RF)).astype(float)


def _log_error_ratio(n_RKY: Floats, total_RKY: Floats, null_RKY: Floats, alternative_RKY: Floats) -> Floats:
    """ln of the squared error of cell means under the null over that under the alternative, (R,)."""
    mean_RKY = total_RKY / np.maximum(n_RKY, 1)
    null_R, alternative_R = (
        (n_RKY * (mean_RKY - fitted_RKY) ** 2).sum((1, 2)) for fitted_RKY in (null_RKY, alternative_RKY)
    )
    # Exact fits on both sides (nothing changed at all) are a ratio of 1.
    floor = 1e-9 * n_RKY.sum((1, 2))
    return np.log((null_R + floor) / (alternative_R + floor))
