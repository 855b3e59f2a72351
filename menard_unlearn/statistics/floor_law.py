"""Loss against the length of a context: four forms, fitted to many replicates at once, and where each meets a loss.

    floor        L(C) = L∞ + A · C^−β            A, L∞ ≥ 0, β > 0: what the answer is computed from
    no_floor     L(C) = A · C^−β                 every loss is met in the end
    exponential  L(C) = L∞ + A · exp(−C / s)     saturates soonest: the least hopeful
    log_linear   L(C) = a − b · log10 C          b ≥ 0; falls below every loss: the most hopeful

Least squares. For a given β (or s) the rest is a non-negative regression on two columns, which has a closed form; β is
searched on a grid and then between the best point's neighbours, so that no start has to be chosen and no optimum is
missed. A is kept as what is left of the loss above its floor at the longest length, which any β leaves in nats.

Legend: R replicates, L lengths, G grid points.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from menard_unlearn.statistics.clusters import Floats

BETA = (0.01, 4.0)
"""Slowest and fastest β: below, the law is a straight line over log C; above, its first step is all there is."""
SCALE = (0.05, 3.0)
"""Shortest and longest s, by the longest length."""
NO_FALL = 1e-9
"""Nats a decade up to which a straight line is level: less is rounding."""
GRID, ZOOMED, ZOOMS = 48, 9, 11
"""Points of the first grid and of each later one, which spans two steps of the one before."""


class Form(StrEnum):
    """What the loss is taken to do beyond the data."""

    FLOOR = "floor"
    NO_FLOOR = "no_floor"
    EXPONENTIAL = "exponential"
    LOG_LINEAR = "log_linear"


@dataclass(frozen=True, eq=False)
class Fits:
    """R fits of one form."""

    form: Form
    longest: float
    """C_max, tokens."""
    floor_R: Floats
    """L∞, nats; 0 without a floor, and for log_linear without meaning."""
    above_R: Floats
    """What the fitted loss is above that at C_max, nats."""
    rate_R: Floats
    """β; 1/s, a token; or b, nats a decade."""
    rmse_R: Floats
    """Root mean square of the residuals, nats."""

    @property
    def beta_at_bound(self) -> bool:
        """Whether the first fit's β lies at an end of the range searched: the law does not describe the curve."""
        return not BETA[0] * 1.01 < self.rate_R[0] < BETA[1] / 1.01

    @property
    def end_R(self) -> Floats:
        """The fitted loss at C_max, nats."""
        return self.floor_R + self.above_R

    @property
    def slope_R(self) -> Floats:
        """dL/dlog10 C at C_max, nats a decade; never above 0."""
        if self.form is Form.LOG_LINEAR:
            return -self.rate_R
        scale = self.longest if self.form is Form.EXPONENTIAL else 1.0
        return -np.log(10) * self.rate_R * self.above_R * scale

    def decades(self, loss: float) -> Floats:
        """log10(C* / C_max), where C* is the length at which the fit meets the loss: decades_R.

        ∞ where it never does, −∞ where every length does.
        """
        room_R = loss - self.floor_R
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.form is Form.LOG_LINEAR:
                found_R = (self.end_R - loss) / self.rate_R
                return np.where(self.rate_R > 0, found_R, np.where(self.end_R > loss, np.inf, -np.inf))
            log_R = np.log(self.above_R / room_R)
            if self.form is Form.EXPONENTIAL:
                found_R = np.log10(np.maximum(0.0, 1 + log_R / (self.rate_R * self.longest)))
            else:
                found_R = log_R / (np.log(10) * self.rate_R)
        return np.where(room_R <= 0, np.inf, np.where(self.above_R > 0, found_R, -np.inf))


def fit(form: Form, lengths_L: Floats, loss_RL: Floats) -> Fits:
    """Fit a form to the losses at these lengths, replicate by replicate.

    Args:
        form: which.
        lengths_L: tokens of context, above 0.
        loss_RL: nats a token, not below 0.

    Raises:
        ValueError: fewer lengths than two, or one that is not above 0.
    """
    if len(lengths_L) < 2 or min(lengths_L) <= 0:
        raise ValueError(f"lengths {list(lengths_L)} allow no fit: two or more above 0 are needed")
    longest = float(max(lengths_L))
    if form is Form.LOG_LINEAR:
        return _log_linear(lengths_L, loss_RL, longest)
    low, high = (1 / (longest * SCALE[1]), 1 / (longest * SCALE[0])) if form is Form.EXPONENTIAL else BETA
    log_rate_RG = np.broadcast_to(np.linspace(np.log(low), np.log(high), GRID), (len(loss_RL), GRID))
    for _ in range(ZOOMS):
        log_rate_RG = _between_neighbours(log_rate_RG, _solve(form, lengths_L, loss_RL, log_rate_RG)[2])
    floor_RG, above_RG, sse_RG = _solve(form, lengths_L, loss_RL, log_rate_RG)
    best_R1 = sse_RG.argmin(1)[:, None]
    floor_R, above_R, log_rate_R, sse_R = (
        np.take_along_axis(column_RG, best_R1, 1)[:, 0] for column_RG in (floor_RG, above_RG, log_rate_RG, sse_RG)
    )
    return Fits(form, longest, floor_R, above_R, np.exp(log_rate_R), np.sqrt(sse_R / len(lengths_L)))


def _between_neighbours(place_RG: Floats, sse_RG: Floats) -> Floats:
    """A finer grid around the best place of each replicate."""
    best_R = sse_RG.argmin(1)
    rows_R, last = np.arange(len(best_R)), place_RG.shape[1] - 1
    low_R = place_RG[rows_R, np.maximum(best_R - 1, 0)]
    high_R = place_RG[rows_R, np.minimum(best_R + 1, last)]
    return low_R[:, None] + (high_R - low_R)[:, None] * np.linspace(0, 1, ZOOMED)


def _solve(form: Form, lengths_L: Floats, loss_RL: Floats, log_rate_RG: Floats) -> tuple[Floats, Floats, Floats]:
    """Floor, what is above it at C_max, and the sum of squares, for each rate: (R, G) each."""
    rate_RG1 = np.exp(log_rate_RG)[..., None]
    if form is Form.EXPONENTIAL:
        x_RGL = np.exp(-(lengths_L - lengths_L.max()) * rate_RG1)
    else:
        x_RGL = (lengths_L / lengths_L.max()) ** -rate_RG1
    y_R1L = loss_RL[:, None]
    # through the origin: no floor
    steep_RG = np.maximum(0.0, (x_RGL * y_R1L).sum(-1) / (x_RGL**2).sum(-1))
    without = (np.zeros_like(steep_RG), steep_RG, ((y_R1L - steep_RG[..., None] * x_RGL) ** 2).sum(-1))
    if form is Form.NO_FLOOR:
        return without
    x_mean_RG, y_mean_R1 = x_RGL.mean(-1), y_R1L.mean(-1)
    centred_RGL = x_RGL - x_mean_RG[..., None]
    above_RG = np.maximum(0.0, (centred_RGL * y_R1L).sum(-1) / (centred_RGL**2).sum(-1))  # 0: a floor and nothing else
    floor_RG = y_mean_R1 - above_RG * x_mean_RG
    fitted_RGL = floor_RG[..., None] + above_RG[..., None] * x_RGL
    free = (floor_RG, above_RG, ((y_R1L - fitted_RGL) ** 2).sum(-1))
    negative_RG = floor_RG < 0
    return tuple(np.where(negative_RG, bound, own) for bound, own in zip(without, free, strict=True))  # pyright: ignore


def _log_linear(lengths_L: Floats, loss_RL: Floats, longest: float) -> Fits:
    x_L = np.log10(lengths_L / longest)
    centred_L = x_L - x_L.mean()
    fall_R = -(loss_RL @ centred_L) / (centred_L**2).sum()
    fall_R = np.where(fall_R > NO_FALL, fall_R, 0.0)
    end_R = loss_RL.mean(1) + fall_R * x_L.mean()
    rmse_R = np.sqrt(((loss_RL - (end_R[:, None] - fall_R[:, None] * x_L)) ** 2).mean(1))
    return Fits(Form.LOG_LINEAR, longest, np.zeros_like(end_R), end_R, fall_R, rmse_R)
