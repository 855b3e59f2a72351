"""A jump in a yearly series, without a form for its noise (A4, surprisal of dated texts).

The series is a line in the year plus a jump δ between two years: m(y) = a + b·y + δ·1[y > τ]. The line is part of the
null too, so steady drift is no jump. What drifts along a bent curve does look like one: remove such drift first (the
same series of an untouched model).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from menard_unlearn.statistics.clusters import Floats

MIN_YEARS = 10
MIN_SIDE = 3
"""Years on either side of a jump: fewer are outliers."""


@dataclass(frozen=True)
class ChangePoint:
    """Where a series jumps, and whether it does."""

    year: float | None
    """τ, half-way between two years, whatever the p-value; None with fewer than 10 years or a series without noise."""
    low: float | None
    """Lower end of its 95% interval."""
    high: float | None
    """Upper end."""
    p_value: float | None
    """Of no jump; 1/(replicates + 1) at least; None where the year is."""


def change_point(
    years_Y: Floats, mean_Y: Floats, weight_Y: Floats, *, replicates: int, rng: np.random.Generator
) -> ChangePoint:
    """The likeliest jump of a series of yearly means, weighted least squares over all places at once.

    The statistic is the largest share, over τ, of the line's squared error that a jump takes away. Its p-value comes
    from permuting the line's residuals (times √weight) over the years, the line fitted anew to each permutation
    (Freedman and Lane, 1983): nothing is assumed of the noise but that years are exchangeable once the line is gone.
    The interval takes the fitted line and jump with residuals drawn with replacement. `weight_Y` says how sure a
    year's mean is (number of texts, or bytes); years of weight 0 are left out. It fails where neighbouring years share
    their noise (p too small), and the interval knows nothing of that either.
    """
    order_Y = np.argsort(years_Y, kind="stable")
    order_Y = order_Y[weight_Y[order_Y] > 0]
    years_Y, root_Y = years_Y[order_Y].astype(float), np.sqrt(weight_Y[order_Y].astype(float))
    if len(years_Y) < MIN_YEARS:
        return ChangePoint(None, None, None, None)
    value_1Y = (root_Y * mean_Y[order_Y])[None]
    line_YP = _orthonormal(np.stack([np.ones(len(years_Y)), years_Y - years_Y.mean()], axis=1) * root_Y[:, None])
    jump_KY, year_K = _jumps(years_Y, root_Y, line_YP)
    residual_1Y = _without(value_1Y, line_YP)
    if (residual_1Y**2).sum() <= 1e-20 * (value_1Y**2).sum():
        return ChangePoint(None, None, None, None)
    observed_1, best_1 = _largest(residual_1Y, jump_KY)
    drawn_RY = rng.permuted(np.repeat(residual_1Y, replicates, 0), axis=1)
    simulated_R, _ = _largest(_without(drawn_RY, line_YP), jump_KY)
    found_Y = jump_KY[best_1[0]]
    size = float(residual_1Y[0] @ found_Y)
    noise_Y = residual_1Y[0] - size * found_Y
    # Three numbers were fitted and a place chosen: what is left is smaller than the noise.
    noise_Y = noise_Y * np.sqrt(len(noise_Y) / (len(noise_Y) - 4))
    again_RY = size * found_Y + noise_Y[rng.integers(len(noise_Y), size=(replicates, len(noise_Y)))]
    _, place_R = _largest(_without(again_RY, line_YP), jump_KY)
    low, high = np.quantile(year_K[place_R], (0.025, 0.975))
    # Permutations that repeat the order itself differ from it by rounding alone.
    p = (1 + (simulated_R >= observed_1[0] * (1 - 1e-9)).sum()) / (1 + replicates)
    return ChangePoint(float(year_K[best_1[0]]), float(low), float(high), float(p))


def _orthonormal(columns_YP: Floats) -> Floats:
    return np.linalg.qr(columns_YP)[0]


def _without(values_RY: Floats, basis_YP: Floats) -> Floats:
    """What a basis does not explain."""
    return values_RY - (values_RY @ basis_YP) @ basis_YP.T


def _jumps(years_Y: Floats, root_Y: Floats, line_YP: Floats) -> tuple[Floats, Floats]:
    """Each jump's direction beside the line, of length 1, (K, Y), and its year, (K,)."""
    after_K = np.arange(MIN_SIDE, len(years_Y) - MIN_SIDE + 1)
    step_KY = _without((np.arange(len(years_Y)) >= after_K[:, None]) * root_Y, line_YP)
    return step_KY / np.linalg.norm(step_KY, axis=1, keepdims=True), (years_Y[after_K - 1] + years_Y[after_K]) / 2


def _largest(residual_RY: Floats, jump_KY: Floats) -> tuple[Floats, np.ndarray]:
    """The largest share of the squared error that a jump explains, and which jump, (R,) each."""
    gain_RK = (residual_RY @ jump_KY.T) ** 2
    return gain_RK.max(1) / np.maximum((residual_RY**2).sum(1), 1e-300), gain_RK.argmax(1)
