"""How long a context would have to be for a text to be reproduced, or the reason why no length can be given.

L(C) is the mean loss of the target's T tokens after C tokens of context; the target is reproduced with probability q
where L falls to L* = −ln q / T. The floor law of `floor_law` is extrapolated to C*, in decades: log10(C* / C_max). Its
interval is a nested bootstrap: contexts (draws) with replacement, and blocks of neighbouring target tokens.

The status is decided by these fixed rules, in this order; a length is given only for `pinned`.

undetermined    fewer than 4 lengths, 2 draws or 5 blocks: no interval can be had.
reached         the 97.5% quantile of L(C_max) is not above L*: a measured length is enough.
rising          the 2.5% quantile of L(C_max) − L(C_min) is above 0: context harms.
flat            its 97.5% quantile is not below 0: no effect of context can be told from none.

And where the loss falls:

infinite        P(C* = ∞), the share of replicates with L∞ ≥ L*, is at least .95: no length will do.
pinned          P(C* = ∞) is at most .025, the interval of the decades is at most `max_decades` wide, without the
                longest length the law says a finite length inside that interval, and β is not at an end of what is
                searched, where the law does not describe the curve.
right-censored  the 2.5% quantile of the decades is above 0: more than C_max is needed, how much more cannot be said.
undetermined    all else.

Legend: R replicates, D draws, L lengths, K blocks, T tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np

from menard_unlearn.statistics.clusters import Floats, Whole
from menard_unlearn.statistics.floor_law import Fits, Form, fit

LEAST_LENGTHS, LEAST_DRAWS, LEAST_BLOCKS = 4, 2, 5
SURELY, HARDLY = 0.95, 0.025
"""P(∞) from which on nothing else is said, and up to which a length may be given."""
TELLABLE = 290
"""Decades above C_max from which on no floating-point number holds a length."""
ENDS = (0.025, 0.975)
QUANTILES = (0.025, 0.25, 0.5, 0.75, 0.975)


class Status(StrEnum):
    """What can be said about the context needed."""

    PINNED = "pinned"
    INFINITE = "infinite"
    RIGHT_CENSORED = "right-censored"
    REACHED = "reached"
    FLAT = "flat"
    RISING = "rising"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True)
class Rules:
    """The numbers of the procedure that a user may choose."""

    block: int
    """Neighbouring tokens of the target that are drawn together."""
    bootstrap: int
    """Replicates of the nested bootstrap."""
    max_decades: float
    """Widest interval of a pinned log10(C*/C_max)."""
    claim_orders: float
    """Orders of magnitude by which the tested claim has the context too small."""
    seed: int
    """Seed of the bootstrap."""

    def __post_init__(self) -> None:
        for name, least in (("block", 1), ("bootstrap", 40), ("claim_orders", 0), ("max_decades", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} {getattr(self, name)} must be at least {least}")


@dataclass(frozen=True, eq=False)
class Losses:
    """What the target cost after each context, in blocks of its tokens."""

    lengths_L: Whole
    """Tokens of context, ascending, above 0."""
    nats_DLK: Floats
    """−ln P of each block, summed."""
    tokens_K: Whole
    """Scored tokens of each block."""

    @classmethod
    def of_tokens(cls, lengths_L: Whole, nats_DLT: Floats, block: int) -> Losses:
        """Blocks of `block` neighbours; a last one of less than half of that belongs to the one before it."""
        n_tokens = nats_DLT.shape[2]
        edges = np.arange(max(1, math.floor(n_tokens / block + 0.5))) * block
        return cls(lengths_L, np.add.reduceat(nats_DLT, edges, axis=2), np.diff(edges, append=n_tokens))

    @property
    def n_tokens(self) -> int:
        """T."""
        return int(self.tokens_K.sum())

    @property
    def mean_L(self) -> Floats:
        """L(C): nats a token, over all draws."""
        return self.nats_DLK.sum(2).mean(0) / self.n_tokens

    def resampled(self, replicates: int, rng: np.random.Generator) -> Floats:
        """L(C) of draws and blocks drawn with replacement: (R, L). The same draws and blocks for every length.

        One fewer than there are is drawn of each (Rao and Wu 1988): as many would make five draws vary by a tenth less
        than their mean does.
        """
        n_draws, _, n_blocks = self.nats_DLK.shape
        times_RD, times_RK = (
            rng.multinomial(max(1, n - 1), np.full(n, 1 / n), replicates) for n in (n_draws, n_blocks)
        )
        total_RLK = np.einsum("rd,dlk->rlk", times_RD, self.nats_DLK, optimize=True)
        return np.einsum("rlk,rk->rl", total_RLK, times_RK) / (times_RD.sum(1) * (times_RK @ self.tokens_K))[:, None]

    def without(self, place: int) -> Losses:
        """The same but for one length."""
        return Losses(np.delete(self.lengths_L, place), np.delete(self.nats_DLK, place, 1), self.tokens_K)


@dataclass(frozen=True, eq=False)
class Sweep:
    """Losses over lengths with everything that is fitted to them; fitted once, whatever is asked of it."""

    losses: Losses
    rules: Rules

    @cached_property
    def curve_RL(self) -> Floats:
        """Bootstrap replicates of L(C)."""
        return self.losses.resampled(self.rules.bootstrap, np.random.default_rng(self.rules.seed))

    @property
    def measured(self) -> bool:
        """Whether there is enough for an interval."""
        n_draws, n_lengths, n_blocks = self.losses.nats_DLK.shape
        return n_lengths >= LEAST_LENGTHS and n_draws >= LEAST_DRAWS and n_blocks >= LEAST_BLOCKS

    @cached_property
    def replicates(self) -> Fits:
        """The floor law of each replicate."""
        return fit(Form.FLOOR, self.losses.lengths_L.astype(float), self.curve_RL)

    @cached_property
    def points(self) -> dict[str, Fits]:
        """Each form on all of the data, and the floor law without the shortest and without the longest length."""
        lengths_L, losses = self.losses.lengths_L.astype(float), self.losses
        found = {str(form): fit(form, lengths_L, losses.mean_L[None]) for form in Form}
        for name, place in (("without_shortest", 0), ("without_longest", len(lengths_L) - 1)):
            fewer = losses.without(place)
            if len(fewer.lengths_L) >= LEAST_LENGTHS - 1:
                found[name] = fit(Form.FLOOR, fewer.lengths_L.astype(float), fewer.mean_L[None])
        return found

    def decades(self, name: str, loss: float) -> float:
        """log10(C*/C_max) of one of `points`, C_max being the longest of all lengths."""
        own = self.points[name]
        return float(own.decades(loss)[0]) + math.log10(own.longest / self.losses.lengths_L[-1])


@dataclass(frozen=True)
class Needed:
    """A status and what it was decided on. Decades are log10(C*/C_max): ∞ never, 0 at C_max or before."""

    status: Status
    q: float
    loss: float
    """L*, nats a token."""
    decades: float | None
    """Only when pinned."""
    length: float | None
    """C*, tokens, only when pinned; None also from 10^`TELLABLE` times C_max on."""
    p_infinite: float | None
    """Share of replicates with L∞ ≥ L*; None where no interval can be had."""
    p_reached: float | None
    """Share of replicates that meet L* at C_max or before."""
    quantiles: tuple[float, ...] | None
    """Of the decades on [0, ∞], at `QUANTILES`."""
    least: float | None
    """Lower bound of the decades: (L(C_max) − L*) / |dL/dlog10 C|, the slope at C_max going on for ever."""
    least_low: float | None
    """Its 2.5% quantile."""
    first: int | None
    """The shortest measured length from which on the loss is not above L*; only when reached."""


def needed(sweep: Sweep, q: float) -> Needed:
    """The context after which the target has probability q, by the rules above. ValueError for a q outside (0, 1)."""
    if not 0 < q < 1:
        raise ValueError(f"q {q} is no probability between 0 and 1")
    loss = -math.log(q) / sweep.losses.n_tokens
    empty = Needed(Status.UNDETERMINED, q, loss, None, None, None, None, None, None, None, None)
    if not sweep.measured:
        return empty
    decades_R = np.maximum(0.0, sweep.replicates.decades(loss))
    # sorted values, since numpy would interpolate between a number and ∞
    quantiles = tuple(float(v) for v in np.quantile(decades_R, QUANTILES, method="inverted_cdf"))
    p_infinite = float(np.isinf(decades_R).mean())
    status = _status(sweep, loss, p_infinite, quantiles)
    pinned, reached = status is Status.PINNED, status is Status.REACHED
    point = max(0.0, sweep.decades("floor", loss)) if pinned else None
    least_R = _least(sweep.replicates, loss)
    return Needed(
        status=status,
        q=q,
        loss=loss,
        decades=point,
        length=None if point is None or point >= TELLABLE else float(sweep.losses.lengths_L[-1] * 10**point),
        p_infinite=p_infinite,
        p_reached=float((decades_R == 0).mean()),
        quantiles=quantiles,
        least=float(_least(sweep.points["floor"], loss)[0]),
        least_low=float(np.quantile(least_R, ENDS[0], method="inverted_cdf")),
        first=_first(sweep.losses, loss) if reached else None,
    )


def _status(sweep: Sweep, loss: float, p_infinite: float, quantiles: tuple[float, ...]) -> Status:
    end_R, change_R = sweep.curve_RL[:, -1], sweep.curve_RL[:, -1] - sweep.curve_RL[:, 0]
    if np.quantile(end_R, ENDS[1]) <= loss:
        return Status.REACHED
    low, high = np.quantile(change_R, ENDS)
    if low > 0:
        return Status.RISING
    if high >= 0:
        return Status.FLAT
    if p_infinite >= SURELY:
        return Status.INFINITE
    least, most = quantiles[0], quantiles[-1]
    narrow = most - least <= sweep.rules.max_decades
    if p_infinite <= HARDLY and narrow and not sweep.points["floor"].beta_at_bound:
        shorter = max(0.0, sweep.decades("without_longest", loss))
        if least <= shorter <= most:
            return Status.PINNED
    return Status.RIGHT_CENSORED if least > 0 else Status.UNDETERMINED


def _least(fits: Fits, loss: float) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(fits.end_R <= loss, 0.0, (fits.end_R - loss) / -fits.slope_R)


def _first(losses: Losses, loss: float) -> int:
    above_L = losses.mean_L > loss
    return int(losses.lengths_L[np.flatnonzero(above_L)[-1] + 1 if above_L.any() else 0])
