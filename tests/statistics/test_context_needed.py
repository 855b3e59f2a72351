"""The status says what a planted law allows to be said, and the claim of five orders is tested against it."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest

from menard_unlearn.statistics.context_needed import Losses, Rules, Status, Sweep, needed
from menard_unlearn.statistics.orders_claim import claim_of_orders

LENGTHS_L = 2 ** np.arange(10, 19)
RULES = Rules(block=50, bootstrap=200, max_decades=1.0, claim_orders=5.0, seed=0)


def planted(
    floor: float,
    above: float,
    beta: float,
    *,
    noise: float = 0.01,
    draws: int = 5,
    blocks: int = 100,
    tokens: int = 50,
    seed: int = 0,
) -> Sweep:
    """Losses of that law; `noise` is the standard deviation of a length's mean, nats a token."""
    rng = np.random.default_rng(seed)
    law_L = floor + above * (LENGTHS_L / LENGTHS_L[-1]) ** -beta
    each = rng.normal(0, noise * math.sqrt(draws * blocks), (draws, len(LENGTHS_L), blocks))
    nats_DLK = tokens * (law_L[None, :, None] + each)
    return Sweep(Losses(LENGTHS_L, nats_DLK, np.full(blocks, tokens)), RULES)


def test_losses_of_tokens_are_summed_in_blocks() -> None:
    nats_DLT = np.arange(2 * 3 * 23, dtype=float).reshape(2, 3, 23)
    losses = Losses.of_tokens(np.array([1, 2, 4]), nats_DLT, 5)
    assert losses.tokens_K.tolist() == [5, 5, 5, 5, 3] and losses.n_tokens == 23
    assert losses.nats_DLK.sum(2) == pytest.approx(nats_DLT.sum(2))
    assert losses.nats_DLK[1, 2, 4] == nats_DLT[1, 2, 20:].sum()
    assert losses.mean_L == pytest.approx(nats_DLT.mean((0, 2)))
    assert Losses.of_tokens(np.array([1, 2, 4]), nats_DLT, 10).tokens_K.tolist() == [10, 13]


def test_draws_and_blocks_are_both_drawn() -> None:
    """A replicate is what some draws and blocks give: with one of either left to vary, its spread is that of a mean of
    so many, however few."""
    rng = np.random.default_rng(0)
    n, value_N = 6, rng.normal(0, 1, 6)
    for axis in (0, 2):
        shape = [1, 1, 1]
        shape[axis] = n
        losses = Losses(np.array([1]), value_N.reshape(shape), np.ones(shape[2], int))
        spread = losses.resampled(4000, np.random.default_rng(1)).std()
        assert spread == pytest.approx(value_N.std(ddof=1) / math.sqrt(n), rel=0.04)


def test_a_curve_that_the_law_does_not_describe_is_never_pinned() -> None:
    losses = planted(0.0, 2.0, 0.004, noise=1e-6).losses
    sweep = Sweep(losses, replace(RULES, max_decades=1e6))
    assert sweep.points["floor"].beta_at_bound
    assert needed(sweep, 0.5).status is not Status.PINNED


@pytest.mark.parametrize(
    ("law", "status"),
    [
        ((0.5, 1.0, 0.3), Status.INFINITE),
        ((0.0, 2.0, 0.5), Status.RIGHT_CENSORED),  # eight decades off: nobody can tell a floor of 1e-4 from none
        ((0.0, 1e-9, 1.0), Status.REACHED),
        ((1.0, 0.0, 0.5), Status.FLAT),
        ((1.0, -0.3, 0.5), Status.RISING),
    ],
)
def test_the_status_of_a_law(law: tuple[float, float, float], status: Status) -> None:
    noise = 1e-6 if status is Status.REACHED else 0.01
    found = needed(planted(*law, noise=noise), 0.5)
    assert found.status is status
    assert found.decades is None and found.length is None
    assert (found.first is not None) == (status is Status.REACHED)
    assert found.p_infinite is not None and found.quantiles is not None


def test_a_length_is_given_where_it_is_pinned() -> None:
    """A short text is soon met: L* of ten tokens is 0.069 nats."""
    sweep = planted(0.0, 0.15, 0.4, noise=0.0004, blocks=10, tokens=1)
    found = needed(sweep, 0.5)
    truth = math.log10(0.15 / (math.log(2) / 10)) / 0.4
    assert found.status is Status.PINNED and found.quantiles is not None and found.p_infinite == 0
    assert found.decades is not None and found.decades == pytest.approx(truth, abs=0.1)
    assert found.length == pytest.approx(LENGTHS_L[-1] * 10**found.decades)
    assert found.quantiles[0] <= truth <= found.quantiles[-1]
    # the same curve held against a text that is harder to meet, or under a stricter rule, is not pinned
    assert needed(sweep, 1 - 1e-6).status is not Status.PINNED
    strict = Sweep(sweep.losses, Rules(50, 200, 0.001, 5.0, 0))
    assert needed(strict, 0.5).status is Status.RIGHT_CENSORED


def test_a_length_that_no_number_holds_is_told_in_decades_alone() -> None:
    lengths_L = 2 ** np.arange(4, 13)
    noise_DLT = np.random.default_rng(0).normal(0, 1e-7, (8, 9, 500))
    nats_DLT = 3 * (lengths_L / lengths_L[-1])[:, None] ** -0.0105 + noise_DLT
    found = needed(Sweep(Losses.of_tokens(lengths_L, nats_DLT, 50), RULES), 0.5)
    assert found.status is Status.PINNED and found.decades is not None and found.decades > 308
    assert found.length is None


def test_reached_names_the_first_length_after_which_it_stays_so() -> None:
    nats_DLK = np.ones((3, 9, 6)) * np.array([9, 9, 0.001, 9, 0.001, 0.001, 0.001, 0.001, 0.001])[None, :, None]
    losses = Losses(LENGTHS_L, nats_DLK, np.full(6, 10))
    assert needed(Sweep(losses, RULES), 0.5).first == LENGTHS_L[4]


@pytest.mark.parametrize(("draws", "blocks", "lengths"), [(1, 10, 9), (5, 4, 9), (5, 10, 3)])
def test_without_an_interval_nothing_is_said(draws: int, blocks: int, lengths: int) -> None:
    full = planted(0.5, 1.0, 0.3, draws=draws, blocks=blocks).losses
    sweep = Sweep(Losses(full.lengths_L[:lengths], full.nats_DLK[:, :lengths], full.tokens_K), RULES)
    found = needed(sweep, 0.5)
    assert found.status is Status.UNDETERMINED
    assert (found.decades, found.length, found.p_infinite, found.quantiles, found.least) == (None,) * 5
    assert claim_of_orders(sweep, found.loss, 5.0) is None


def test_the_lower_bound_lies_below_a_curve_that_flattens() -> None:
    sweep = planted(0.0, 2.0, 0.5, noise=1e-9)
    found = needed(sweep, 0.5)
    slope = 2.0 * 0.5 * math.log(10)
    assert found.least == pytest.approx((2.0 - found.loss) / slope, rel=1e-3)
    assert found.least is not None and found.quantiles is not None and found.least < found.quantiles[0]


@pytest.mark.parametrize(("end", "beta"), [(1.5, 0.807), (3.0, 0.867)])
def test_five_orders_imply_a_rate(end: float, beta: float) -> None:
    """The essay's claim for 5,000 tokens, an even chance and 1.5 to 3 nats a token after 256K tokens."""
    sweep = planted(0.0, end, 0.3, noise=1e-6)
    claim = claim_of_orders(sweep, needed(sweep, 0.5).loss, 5.0)
    assert claim is not None and claim.implied == pytest.approx(beta, abs=5e-4)
    assert claim.verdict == "too hopeful" and claim.fitted == pytest.approx(0.3, abs=1e-3)
    assert claim.high < 0 and claim.p_value == pytest.approx(2 / 201)


@pytest.mark.parametrize(("beta", "verdict"), [(0.5, "too hopeful"), (1.2, "too gloomy")])
def test_a_claim_is_contradicted_on_either_side(beta: float, verdict: str) -> None:
    sweep = planted(0.0, 2.0, beta)
    claim = claim_of_orders(sweep, needed(sweep, 0.5).loss, 5.0)
    assert claim is not None and claim.verdict == verdict


def test_a_true_claim_is_rarely_contradicted() -> None:
    beta = math.log10(2.0 / (math.log(2) / 5000)) / 5
    claims = [claim_of_orders(planted(0.0, 2.0, beta, seed=seed), math.log(2) / 5000, 5.0) for seed in range(24)]
    contradicted = sum(claim is not None and claim.verdict != "not contradicted" for claim in claims)
    assert contradicted <= 5  # of 24 at 5%; five draws make the interval somewhat narrow


def test_what_is_said_of_many_laws_is_mostly_true() -> None:
    """A small version of experiments/context_needed: the interval holds, and a floor is not taken for none."""
    runs, truths = 16, ((0.0, 2.0, 0.5), (0.3, 1.0, 0.3))
    held = dict.fromkeys(truths, 0)
    said_infinite = dict.fromkeys(truths, 0)
    for law in truths:
        for seed in range(runs):
            sweep = planted(*law, seed=seed)
            found = needed(sweep, 0.5)
            truth = math.inf if law[0] > 0 else math.log10(law[1] / found.loss) / law[2]
            assert found.quantiles is not None and found.status is not Status.PINNED
            held[law] += found.quantiles[0] <= truth <= found.quantiles[-1]
            said_infinite[law] += math.isinf(sweep.decades("floor", found.loss))
    assert min(held.values()) >= 13
    assert 2 <= said_infinite[truths[0]] <= 14 and said_infinite[truths[1]] == runs


def test_a_thousand_replicates_take_no_time() -> None:
    sweep = Sweep(planted(0.3, 1.0, 0.3).losses, Rules(50, 1000, 1.0, 5.0, 0))
    started = time.process_time()
    needed(sweep, 0.5)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("q", [0.0, 1.0, -0.5])
def test_a_probability_that_is_none_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="no probability"):
        needed(planted(0.3, 1.0, 0.3), q)


@pytest.mark.parametrize("name", ["block", "bootstrap", "max_decades", "claim_orders"])
def test_rules_without_sense_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} -1 must be at least"):
        Rules(**{**vars(RULES), name: -1})
