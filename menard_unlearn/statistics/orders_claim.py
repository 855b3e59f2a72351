"""The claim that a context is so many orders of magnitude too small, as a law that the measured losses can contradict.

A claim of N orders says that the loss falls without a floor to L* at C* = 10^N · C_max. With L(C) = A · C^−β that is

    β_claim = log10(L(C_max) / L*) / N,        L* = −ln q / T

(for T = 5,000, q = 1/2 and 1.5 to 3 nats at C_max, five orders need β of 0.81 to 0.87). It is tested against the β of
that same law fitted to the losses: in each replicate of the nested bootstrap both are computed, and their difference is
asked whether it lies on one side of 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from menard_unlearn.statistics.context_needed import ENDS, Sweep
from menard_unlearn.statistics.floor_law import Form, fit


@dataclass(frozen=True)
class Claim:
    """What the claim says, what the losses say, and whether the two can be reconciled."""

    orders: float
    """N."""
    implied: float
    """β_claim."""
    fitted: float
    """β of the law without a floor; `floor_law.BETA`'s lower end where the losses do not fall."""
    low: float
    """Lower end of the 95% interval of fitted − implied."""
    high: float
    """Upper end."""
    p_value: float
    """Two-sided: twice the share of replicates on the smaller side of 0, at least 2/(replicates + 1)."""
    verdict: str
    """too hopeful: the losses fall more slowly than it says. too gloomy: faster. not contradicted."""


def claim_of_orders(sweep: Sweep, loss: float, orders: float) -> Claim | None:
    """Test the claim of so many orders for the target loss L*, nats a token.

    None where no interval can be had, where L(C_max) is already below L*, or for a claim of no orders. A claim that is
    not contradicted is not confirmed: see the forms of `Sweep.points`.
    """
    mean = float(sweep.losses.mean_L[-1])
    if not sweep.measured or mean <= loss or orders <= 0:
        return None
    implied_R = np.log10(np.maximum(sweep.curve_RL[:, -1], loss) / loss) / orders
    fitted_R = fit(Form.NO_FLOOR, sweep.losses.lengths_L.astype(float), sweep.curve_RL).rate_R
    apart_R = fitted_R - implied_R
    low, high = (float(end) for end in np.quantile(apart_R, ENDS))
    side = min(int((apart_R <= 0).sum()), int((apart_R >= 0).sum()))
    return Claim(
        orders=orders,
        implied=float(np.log10(mean / loss) / orders),
        fitted=float(sweep.points["no_floor"].rate_R[0]),
        low=low,
        high=high,
        p_value=min(1.0, 2 * (side + 1) / (len(apart_R) + 1)),
        verdict="too hopeful" if high < 0 else "too gloomy" if low > 0 else "not contradicted",
    )
