"""Tests of a step against steady drift, calibrated by parametric bootstraps that keep a fact's probes together.

A1 (answers right or wrong): the null is a linear logit, logit p = α + β·y. A linear logit steep enough *is* a step (the
curve with g = 0, h = 1), so the null's slope is bounded: a drift takes at least `fastest_drift` years from 10% to 90%.
A2 (changes of score): the null is linear in the year, its residuals resampled by fact.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit

from menard_unlearn.statistics.clusters import Clusters, Floats
from menard_unlearn.statistics.step import StepFit, fit_step, log_likelihood

LOGIT_10_90 = 2 * float(np.log(9))
"""logit 0.9 − logit 0.1."""


def p_value(observed: float, simulated_R: Floats) -> float:
    """Share of replicates at least as extreme, the observation counted among them, so never 0."""
    return float((1 + (simulated_R >= observed).sum()) / (1 + len(simulated_R)))


def drift_of_answers(
    facts: Clusters, fit: StepFit, *, replicates: int, fastest_drift: float, rng: np.random.Generator
) -> float:
    """p-value of the likelihood-ratio test of `fit` (one replicate, on all facts) against a linear logit.

    Replicates draw every fact's number of correct answers at the null's probability for its year, the answers of a fact
    being correlated as much as they are around the fitted step.
    """
    max_slope = LOGIT_10_90 / fastest_drift
    years_Y, n_1Y = facts.years_Y, facts.by_year(facts.n_F[None])
    null_1Y = fit_linear_logit(years_Y, n_1Y, facts.by_year(facts.total_F[None]), max_slope)
    observed = fit.objective_R[0] - log_likelihood(n_1Y, facts.by_year(facts.total_F[None]), null_1Y)[0]
    chance_F = null_1Y[0, np.searchsorted(years_Y, facts.year_F)]
    step_F = fit.at(facts.year_F)[0]
    total_RF = draw_correlated(facts.n_F, chance_F, correlation_within(facts, step_F), replicates, rng)
    n_RY, total_RY = np.repeat(n_1Y, replicates, 0), facts.by_year(total_RF)
    null_RY = fit_linear_logit(years_Y, n_RY, total_RY, max_slope)
    alternative_R = fit_step(years_Y, n_RY, total_RY, binomial=True).objective_R
    return p_value(observed, alternative_R - log_likelihood(n_RY, total_RY, null_RY))


def drift_of_changes(facts: Clusters, fit: StepFit, *, replicates: int, rng: np.random.Generator) -> float:
    """p-value of the log ratio of squared errors of `fit` (one replicate, on all facts) against a line in the year."""
    years_Y, n_1Y, total_1Y = facts.years_Y, facts.by_year(facts.n_F[None]), facts.by_year(facts.total_F[None])
    null_1Y = fit_line(years_Y, n_1Y, total_1Y)
    observed = _log_error_ratio(n_1Y, total_1Y, null_1Y, fit.at(years_Y))[0]
    line_F = null_1Y[0, np.searchsorted(years_Y, facts.year_F)]
    residual_F = facts.total_F / facts.n_F - line_F
    drawn_RF = residual_F[rng.integers(len(residual_F), size=(replicates, len(residual_F)))]
    n_RY, total_RY = np.repeat(n_1Y, replicates, 0), facts.by_year(facts.n_F * (line_F + drawn_RF))
    alternative_RY = fit_step(years_Y, n_RY, total_RY, binomial=False).at(years_Y)
    simulated_R = _log_error_ratio(n_RY, total_RY, fit_line(years_Y, n_RY, total_RY), alternative_RY)
    return p_value(observed, simulated_R)


def fit_linear_logit(years_Y: Floats, n_RY: Floats, total_RY: Floats, max_slope: float) -> Floats:
    """Maximum likelihood of logit p = α + β·y with |β| ≤ max_slope (per year); probabilities, (R, Y)."""
    middle = years_Y.mean()
    x_Y = (years_Y - middle) / max(float(np.ptp(years_Y)), 1.0)
    limit = max_slope * max(float(np.ptp(years_Y)), 1.0)
    share_R = total_RY.sum(1) / n_RY.sum(1)
    intercept_R, slope_R = logit(np.clip(share_R, 1e-6, 1 - 1e-6)), np.zeros(len(n_RY))
    for _ in range(30):
        p_RY = expit(intercept_R[:, None] + slope_R[:, None] * x_Y)
        weight_RY, residual_RY = n_RY * p_RY * (1 - p_RY), total_RY - n_RY * p_RY
        a_R, b_R, c_R = weight_RY.sum(1) + 1e-6, (weight_RY * x_Y).sum(1), (weight_RY * x_Y**2).sum(1) + 1e-6
        u_R, v_R = residual_RY.sum(1), (residual_RY * x_Y).sum(1)
        slope_step_R = (a_R * v_R - b_R * u_R) / (a_R * c_R - b_R**2)
        moved_R = np.clip(slope_R + np.clip(slope_step_R, -2, 2), -limit, limit)
        # With the slope at its bound the intercept is climbed alone.
        intercept_step_R = (u_R - b_R * (moved_R - slope_R)) / a_R
        slope_R, intercept_R = moved_R, np.clip(intercept_R + np.clip(intercept_step_R, -2, 2), -50, 50)
    return expit(intercept_R[:, None] + slope_R[:, None] * x_Y)


def fit_line(years_Y: Floats, n_RY: Floats, total_RY: Floats) -> Floats:
    """Least squares of year means on the year, weighted by n; fitted values, (R, Y)."""
    n_R1 = n_RY.sum(1, keepdims=True)
    x_RY = years_Y - n_RY @ years_Y[:, None] / n_R1
    slope_R1 = (total_RY * x_RY).sum(1, keepdims=True) / np.maximum((n_RY * x_RY**2).sum(1, keepdims=True), 1e-12)
    return total_RY.sum(1, keepdims=True) / n_R1 + slope_R1 * x_RY


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


def _log_error_ratio(n_RY: Floats, total_RY: Floats, null_RY: Floats, alternative_RY: Floats) -> Floats:
    """ln of the squared error of year means under the null over that under the alternative, (R,)."""
    mean_RY = total_RY / np.maximum(n_RY, 1)
    null_R = (n_RY * (mean_RY - null_RY) ** 2).sum(1)
    alternative_R = (n_RY * (mean_RY - alternative_RY) ** 2).sum(1)
    # Exact fits on both sides (nothing changed at all) are a ratio of 1.
    floor = 1e-9 * n_RY.sum(1)
    return np.log((null_R + floor) / (alternative_R + floor))
