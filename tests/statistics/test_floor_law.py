"""The fits find the law that losses were made from, and meet a loss where the law does."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls

from menard_unlearn.statistics.clusters import Floats
from menard_unlearn.statistics.floor_law import BETA, Fits, Form, fit

LENGTHS_L: Floats = np.array([2.0**power for power in range(10, 19)])
LONGEST = LENGTHS_L[-1]


def floor_law(floor: float, above: float, beta: float) -> Floats:
    return floor + above * (LENGTHS_L / LONGEST) ** -beta


def one(form: Form, loss_L: Floats) -> Fits:
    return fit(form, LENGTHS_L, loss_L[None])


@pytest.mark.parametrize("floor", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("above", [0.05, 1.5])
@pytest.mark.parametrize("beta", [0.05, 0.3, 0.85, 2.0])
def test_a_law_without_noise_is_found(floor: float, above: float, beta: float) -> None:
    loss_L = floor_law(floor, above, beta)
    found = one(Form.FLOOR, loss_L)
    assert found.floor_R[0] == pytest.approx(floor, abs=2e-4)
    assert found.above_R[0] == pytest.approx(above, abs=2e-4)
    assert found.rate_R[0] == pytest.approx(beta, rel=1e-3)
    assert found.rmse_R[0] < 1e-6 + 1e-8 * loss_L.max()
    at_end, before = (floor + above * 10 ** (-beta * d) for d in (0.0, -1e-4))
    assert found.slope_R[0] == pytest.approx((at_end - before) / 1e-4, rel=1e-3)


@pytest.mark.parametrize(("above", "beta", "decades"), [(1.5, 0.8, 5.0), (0.4, 0.2, 1.3), (2.0, 0.5, 0.0)])
def test_a_loss_is_met_where_the_law_meets_it(above: float, beta: float, decades: float) -> None:
    loss = above * 10 ** (-beta * decades)
    for form in (Form.FLOOR, Form.NO_FLOOR):
        assert one(form, floor_law(0, above, beta)).decades(loss)[0] == pytest.approx(decades, abs=0.01)
    floor = 0.3
    assert one(Form.FLOOR, floor_law(floor, above, beta)).decades(floor + loss)[0] == pytest.approx(decades, abs=0.02)
    assert one(Form.FLOOR, floor_law(floor, above, beta)).decades(floor - 0.01)[0] == np.inf
    assert np.isfinite(one(Form.NO_FLOOR, floor_law(floor, above, beta)).decades(floor - 0.01)[0])


def test_a_straight_line_over_decades_is_met_by_its_own_form() -> None:
    loss_L = 2.0 - 0.25 * np.log10(LENGTHS_L / LONGEST)
    found = one(Form.LOG_LINEAR, loss_L)
    assert found.slope_R[0] == pytest.approx(-0.25) and found.end_R[0] == pytest.approx(2.0)
    assert found.decades(1.0)[0] == pytest.approx(4.0) and found.rmse_R[0] < 1e-12


def test_a_saturating_curve_is_met_by_its_own_form() -> None:
    scale = 0.4 * LONGEST
    loss_L = 0.5 + 2.0 * np.exp(-(LENGTHS_L - LONGEST) / scale)
    found = one(Form.EXPONENTIAL, loss_L)
    assert found.rmse_R[0] < 1e-5 and found.rate_R[0] == pytest.approx(1 / scale, rel=1e-3)
    longer = LONGEST + scale * np.log(4)  # where what is above the floor is a quarter
    assert found.decades(1.0)[0] == pytest.approx(np.log10(longer / LONGEST), abs=1e-3)
    assert found.decades(0.4)[0] == np.inf


@pytest.mark.parametrize("form", list(Form))
def test_a_level_curve_is_met_at_once_or_never(form: Form) -> None:
    found = one(form, np.full(len(LENGTHS_L), 1.0))
    if form is not Form.NO_FLOOR:
        assert found.decades(0.9)[0] == np.inf and found.decades(1.1)[0] == -np.inf
    assert found.decades(1.1)[0] <= 0 < found.decades(0.9)[0]


@pytest.mark.parametrize("form", list(Form))
def test_a_rising_curve_never_falls_below_its_level(form: Form) -> None:
    loss_L = 1 + 0.1 * np.log10(LENGTHS_L)
    found = one(form, loss_L)
    assert found.slope_R[0] <= 0 and (form is Form.NO_FLOOR or found.decades(0.5)[0] == np.inf)


def test_replicates_are_fitted_as_each_by_itself() -> None:
    rng = np.random.default_rng(0)
    loss_RL = floor_law(0.3, 1.0, 0.4) + rng.normal(0, 0.02, (7, len(LENGTHS_L)))
    for form in Form:
        together, alone = fit(form, LENGTHS_L, loss_RL), [fit(form, LENGTHS_L, loss_L[None]) for loss_L in loss_RL]
        for column in ("floor_R", "above_R", "rate_R", "rmse_R"):
            assert getattr(together, column) == pytest.approx([getattr(one, column)[0] for one in alone], rel=1e-9)


def test_no_other_law_of_the_form_is_nearer() -> None:
    """Against scipy's non-negative least squares at every β of a fine grid."""
    rng = np.random.default_rng(1)
    for _ in range(5):
        loss_L = floor_law(rng.uniform(0, 0.1), 1.0, rng.uniform(0.1, 1.5)) + rng.normal(0, 0.05, len(LENGTHS_L))
        best = min(
            nnls(np.stack([np.ones_like(LENGTHS_L), (LENGTHS_L / LONGEST) ** -beta], 1), loss_L)[1]
            for beta in np.geomspace(*BETA, 400)
        )
        assert one(Form.FLOOR, loss_L).rmse_R[0] * np.sqrt(len(LENGTHS_L)) <= best * (1 + 1e-9)


def test_too_few_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="allow no fit"):
        fit(Form.FLOOR, np.array([16.0]), np.ones((1, 1)))
    with pytest.raises(ValueError, match="allow no fit"):
        fit(Form.FLOOR, np.array([0.0, 16.0]), np.ones((1, 2)))
