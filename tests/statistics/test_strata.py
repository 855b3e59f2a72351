"""Kinds of facts that differ in level, mixed unevenly over the years: no cutoff comes of it, and none goes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit, xlogy

from menard_unlearn.statistics.clusters import Clusters, clusters
from menard_unlearn.statistics.cutoff import Cutoff, Rules, Status, answers_cutoff, changes_cutoff
from menard_unlearn.statistics.step import fit_step

RULES = Rules(bootstrap=100, null_bootstrap=99, alpha=0.01, max_width=20, seed=0)
YEARS = np.arange(1900, 1981)


def late_kind(years: np.ndarray, change: float) -> np.ndarray:
    return 0.1 + 0.8 * expit((years - change) / 4)


def chance(years: np.ndarray, hard: np.ndarray, *, cutoff: bool, binomial: bool) -> np.ndarray:
    """On the scale on which offsets are additive the two kinds are 2 logits, or 0.3, apart."""
    kept = 0.1 + 0.8 * expit((1939.5 - years) / 1.0) if cutoff else np.full(len(years), 0.6)
    return expit(logit(kept) + 1 - 2 * hard) if binomial else 0.15 + 0.7 * kept + 0.15 - 0.3 * hard


def halfway(*, binomial: bool) -> float:
    """The year in which the two kinds, as frequent as they are over all years, are half-way down together."""
    hard, year_G = late_kind(YEARS, 1955).mean(), np.arange(1800, 2100, 0.01)
    easy_G, hard_G = (chance(year_G, np.full(len(year_G), kind), cutoff=True, binomial=binomial) for kind in (0.0, 1.0))
    level_G = (1 - hard) * easy_G + hard * hard_G
    return float(year_G[np.abs(level_G - (level_G[0] + level_G[-1]) / 2).argmin()])


def mixed(seed: int, *, cutoff: bool, binomial: bool, known: bool = True) -> Clusters:
    """Ten facts a year of two probes. Easy facts give way to hard ones around 1950, or 1955 where there is a cutoff."""
    rng = np.random.default_rng(seed)
    year_F = np.repeat(YEARS, 10)
    hard_F = rng.random(len(year_F)) < late_kind(year_F, 1955 if cutoff else 1950)
    total_F = rng.binomial(2, chance(year_F, hard_F, cutoff=cutoff, binomial=binomial)).astype(float)
    kinds = np.where(hard_F, "hard", "easy") if known else np.full(len(year_F), "all")
    names, stratum_F = np.unique(kinds, return_inverse=True)
    n_F = np.full(len(year_F), 2.0)
    return Clusters(year_F.astype(float), stratum_F, n_F, total_F if binomial else total_F - 2, tuple(map(str, names)))


def cutoff_of(facts: Clusters, *, binomial: bool) -> Cutoff:
    return answers_cutoff(facts, 1939, None, RULES) if binomial else changes_cutoff(facts, 1939, RULES)


@pytest.mark.parametrize("binomial", [True, False])
def test_a_shifting_mix_is_no_cutoff_once_its_kinds_are_known(binomial: bool) -> None:
    known = [mixed(s, cutoff=False, binomial=binomial) for s in range(20)]
    found = Counter(cutoff_of(table, binomial=binomial).status for table in known)
    assert found[Status.NO_CUTOFF] + found[Status.RIGHT_CENSORED] >= 19
    unknown = [cutoff_of(mixed(s, cutoff=False, binomial=binomial, known=False), binomial=binomial) for s in range(10)]
    assert sum(one.status is Status.PINNED for one in unknown) >= 4


@pytest.mark.parametrize("binomial", [True, False])
def test_a_planted_cutoff_is_found_in_a_shifting_mix(binomial: bool) -> None:
    found = [cutoff_of(mixed(s, cutoff=True, binomial=binomial), binomial=binomial) for s in range(25)]
    truth = halfway(binomial=binomial)
    assert truth == pytest.approx(1939.5, abs=0.5)
    errors = np.array([one.year for one in found if one.year is not None]) - truth
    assert len(errors) >= 24
    assert abs(errors.mean()) < 3 * errors.std() / np.sqrt(len(errors)) + 0.05
    covered = sum(one.low <= truth <= one.high for one in found if one.low is not None and one.high is not None)
    assert covered >= 21


def test_one_stratum_is_the_fit_without_strata() -> None:
    rng = np.random.default_rng(0)
    years = np.repeat(YEARS, 6).tolist()
    names = [str(i) for i in range(len(years))]
    right = (rng.random(len(years)) < 0.1 + 0.8 * expit((1939.5 - np.array(years)) / 2)).tolist()
    alone, named = clusters(names, years, right), clusters(names, years, right, ["c"] * len(years))
    assert answers_cutoff(alone, 1939, None, RULES) == answers_cutoff(named, 1939, None, RULES)


def test_no_other_optimiser_finds_a_better_likelihood_with_strata() -> None:
    rng = np.random.default_rng(1)
    years_Y, n_KY = YEARS.astype(float), rng.integers(0, 12, (3, len(YEARS))).astype(float)
    delta_K = np.array([1.0, 0.0, -1.5])
    total_KY = rng.binomial(n_KY.astype(int), expit(4 * expit((1939.5 - years_Y) / 2) - 2 + delta_K[:, None]))
    fit = fit_step(years_Y, n_KY[None], total_KY[None].astype(float), binomial=True)

    def loss(parameters: np.ndarray) -> float:
        after, before, year, log_scale = parameters[:4]
        step_Y = expit(after) + (expit(before) - expit(after)) * expit((year - years_Y) * np.exp(-log_scale))
        p_KY = expit(np.log(step_Y / (1 - step_Y)) + parameters[4:, None])
        likelihood = (xlogy(total_KY, p_KY) + xlogy(n_KY - total_KY, 1 - p_KY)).sum()
        return -float(likelihood - 0.125 * (parameters[4:] ** 2).sum())

    start = np.array([-2, 2, 1939.5, 0.7, 0, 0, 0])
    assert fit.objective_R[0] == pytest.approx(-minimize(loss, start, method="BFGS").fun, abs=1e-2)


def test_least_squares_with_strata_gives_back_a_noiseless_curve() -> None:
    rng = np.random.default_rng(2)
    years_Y, n_KY = YEARS.astype(float), rng.integers(0, 12, (3, len(YEARS))).astype(float)
    cell_KY = -0.1 - 0.6 * expit((years_Y - 1939.5) / 3) + np.array([[0.1], [0.0], [-0.2]])
    fit = fit_step(years_Y, n_KY[None] * 1e4, (n_KY * cell_KY)[None] * 1e4, binomial=False)
    assert (fit.year_R[0], fit.scale_R[0]) == pytest.approx((1939.5, 3), abs=1e-2)
    assert fit.cell_RKY[0] == pytest.approx(cell_KY, abs=1e-3)
    share_K = n_KY.sum(1) / n_KY.sum()
    assert fit.before_R[0] == pytest.approx(-0.1 + share_K @ [0.1, 0.0, -0.2], abs=1e-3)


def test_replicates_do_not_disturb_each_other_with_strata() -> None:
    rng = np.random.default_rng(5)
    years_Y, n_RKY = YEARS.astype(float), rng.integers(0, 9, (5, 2, len(YEARS))).astype(float)
    total_RKY = rng.binomial(n_RKY.astype(int), 0.1 + 0.8 * expit((1930 - years_Y) / 2)).astype(float)
    together = fit_step(years_Y, n_RKY, total_RKY, binomial=True)
    for r in range(5):
        alone = fit_step(years_Y, n_RKY[r : r + 1], total_RKY[r : r + 1], binomial=True)
        assert together.year_R[r] == pytest.approx(alone.year_R[0], abs=1e-6)


def test_strata_on_one_side_are_left_out_and_named() -> None:
    facts = mixed(0, cutoff=True, binomial=True)
    late = Clusters(facts.year_F, np.where(facts.year_F > 1970, 2, facts.stratum_F), facts.n_F, facts.total_F, ())
    late = Clusters(late.year_F, late.stratum_F, late.n_F, late.total_F, ("easy", "hard", "late"))
    found = answers_cutoff(late, 1939, None, RULES)
    assert found.status == "pinned"
    assert found.left_out == ("late",) and found.n_left_out == 200
    sides = Clusters(facts.year_F, (facts.year_F > 1939).astype(int), facts.n_F, facts.total_F, ("old", "new"))
    found = answers_cutoff(sides, 1939, None, RULES)
    assert found.status == "unparseable"
    assert found.left_out == ("old", "new") and found.n_left_out == 2 * len(facts.year_F)
