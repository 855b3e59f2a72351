"""A jump in a series: found where planted, and not found in drift or noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, kstest

from menard_unlearn.statistics.change import ChangePoint, change_point

YEARS_Y = np.arange(1900.0, 1981.0)


def found(mean_Y: np.ndarray, seed: int, weight_Y: np.ndarray | None = None, replicates: int = 199) -> ChangePoint:
    weight_Y = np.ones(len(YEARS_Y)) if weight_Y is None else weight_Y
    return change_point(YEARS_Y, mean_Y, weight_Y, replicates=replicates, rng=np.random.default_rng(seed))


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(1000 + seed).standard_t(4, len(YEARS_Y))


@pytest.mark.parametrize("year", [1915.5, 1939.5, 1960.5])
@pytest.mark.parametrize("slope", [0.0, 0.05])
def test_a_planted_jump_is_found_on_top_of_drift(year: float, slope: float) -> None:
    sims, covered, places = 40, 0, []
    for seed in range(sims):
        change = found(noise(seed) + slope * (YEARS_Y - 1900) + 4.5 * (year < YEARS_Y), seed)
        assert change.year is not None and change.low is not None and change.high is not None
        assert change.p_value is not None and change.p_value <= 0.01
        places.append(change.year)
        covered += change.low <= year <= change.high
    assert np.median(places) == year
    assert covered >= binom.ppf(0.005, sims, 0.95)


def test_drift_is_no_jump() -> None:
    for slope in (-0.2, 0.02, 0.2):
        called = [found(noise(seed) + slope * YEARS_Y, seed).p_value for seed in range(60)]
        assert sum(p is not None and p <= 0.01 for p in called) <= 3


def test_p_values_of_noise_are_uniform() -> None:
    p_N = np.array([found(noise(seed), seed, replicates=99).p_value for seed in range(300)], float)
    assert kstest(p_N, "uniform").pvalue > 0.01


def test_weights_count_and_years_without_texts_do_not() -> None:
    mean_Y = noise(0) * 0.1 + (YEARS_Y > 1939)
    weight_Y = np.where((YEARS_Y >= 1950) & (YEARS_Y < 1953), 0.0, 2.0)
    mean_Y[weight_Y == 0] = 1e6
    some = weight_Y > 0
    whole = found(mean_Y, 3, weight_Y)
    assert whole.year == 1939.5
    rng = np.random.default_rng(3)
    assert whole == change_point(YEARS_Y[some], mean_Y[some], weight_Y[some], replicates=199, rng=rng)
    # The order of the years and the unit of weights say nothing.
    shuffled_Y = np.random.default_rng(0).permutation(len(YEARS_Y))
    rng = np.random.default_rng(3)
    again = change_point(YEARS_Y[shuffled_Y], mean_Y[shuffled_Y], 7 * weight_Y[shuffled_Y], replicates=199, rng=rng)
    assert again == whole


def test_too_few_years_or_no_noise_at_all_is_nothing() -> None:
    nothing = ChangePoint(None, None, None, None)
    rng = np.random.default_rng(0)
    assert change_point(YEARS_Y[:9], noise(0)[:9], np.ones(9), replicates=99, rng=rng) == nothing
    assert found(0.5 * YEARS_Y, 0) == nothing
    assert found(np.zeros(81), 0) == nothing
