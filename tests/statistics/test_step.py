"""The step curve: its optimum, its two objectives, its vectorisation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, xlogy

from menard_unlearn.statistics.step import StepFit, fit_step

YEARS_Y = np.arange(1900.0, 1981.0)


def curve(before: float, after: float, year: float, scale: float) -> np.ndarray:
    return after + (before - after) * expit((year - YEARS_Y) / scale)


def fitted(n_RY: np.ndarray, total_RY: np.ndarray, *, binomial: bool) -> StepFit:
    """With one stratum."""
    return fit_step(YEARS_Y, n_RY[:, None], total_RY[:, None], binomial=binomial)


@pytest.mark.parametrize(("year", "scale"), [(1920.5, 1.0), (1939.5, 1.0), (1939.5, 4.0), (1960.5, 2.0)])
def test_noiseless_counts_give_back_the_curve(year: float, scale: float) -> None:
    n_1Y = np.full((1, 81), 1000.0)
    fit = fitted(n_1Y, n_1Y * curve(0.9, 0.1, year, scale), binomial=True)
    found = (fit.before_R[0], fit.after_R[0], fit.year_R[0], fit.scale_R[0])
    assert found == pytest.approx((0.9, 0.1, year, scale), rel=1e-3)
    assert fit.cell_RKY[0, 0] == pytest.approx(curve(0.9, 0.1, year, scale), abs=2e-3)


def test_least_squares_takes_levels_outside_of_zero_and_one() -> None:
    n_1Y = np.random.default_rng(0).integers(1, 30, (1, 81)).astype(float)
    fit = fitted(n_1Y, n_1Y * curve(0.05, -0.8, 1939.5, 2.0), binomial=False)
    found = (fit.before_R[0], fit.after_R[0], fit.year_R[0], fit.scale_R[0])
    assert found == pytest.approx((0.05, -0.8, 1939.5, 2.0), rel=1e-3)


@pytest.mark.parametrize("scale", [0.5, 3.0, 10.0])
def test_no_other_optimiser_finds_a_better_likelihood(scale: float) -> None:
    rng = np.random.default_rng(3)
    n_1Y = np.full((1, 81), 20.0)
    total_1Y = rng.binomial(20, curve(0.8, 0.2, 1945.0, scale))[None].astype(float)
    fit = fitted(n_1Y, total_1Y, binomial=True)

    def loss(parameters: np.ndarray) -> float:
        before, after, year, log_scale = parameters
        p_Y = curve(np.clip(before, 1e-6, 1 - 1e-6), np.clip(after, 1e-6, 1 - 1e-6), year, np.exp(log_scale))
        return -float((xlogy(total_1Y, p_Y) + xlogy(n_1Y - total_1Y, 1 - p_Y)).sum())

    others = [
        minimize(loss, [0.8, 0.2, year, np.log(width)], method="Nelder-Mead", options={"maxiter": 2000}).fun
        for year in (1940, 1945, 1950)
        for width in (0.5, 3, 10)
    ]
    # Scales below the bound of the fit may gain a little.
    assert fit.objective_R[0] > -min(others) - 0.05


def test_replicates_do_not_disturb_each_other() -> None:
    rng = np.random.default_rng(5)
    n_RY = rng.integers(5, 30, (6, 81)).astype(float)
    p_RY = np.stack([curve(0.9, 0.1, 1925 + 5 * r, 1 + r) for r in range(6)])
    total_RY = rng.binomial(n_RY.astype(int), p_RY).astype(float)
    together = fitted(n_RY, total_RY, binomial=True)
    for r in range(6):
        alone = fitted(n_RY[r : r + 1], total_RY[r : r + 1], binomial=True)
        assert together.objective_R[r] == pytest.approx(alone.objective_R[0], abs=1e-6)
        assert together.year_R[r] == pytest.approx(alone.year_R[0], abs=1e-3)


def test_years_without_probes_in_a_replicate_are_allowed() -> None:
    n_1Y = np.full((1, 81), 50.0)
    n_1Y[0, ::3] = 0
    fit = fitted(n_1Y, n_1Y * curve(1.0, 0.0, 1939.5, 1.0), binomial=True)
    assert fit.year_R[0] == pytest.approx(1939.5, abs=0.2)
