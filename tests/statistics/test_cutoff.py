"""Cutoffs planted in simulated answers: found where they are, and not found where there are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import expit

from menard_unlearn.statistics.clusters import Clusters, clusters
from menard_unlearn.statistics.cutoff import Cutoff, Rules, Status, answers_cutoff, changes_cutoff
from menard_unlearn.statistics.drift import correlation_within, draw_correlated, fit_linear_logit

RULES = Rules(bootstrap=200, null_bootstrap=100, alpha=0.01, max_width=20, seed=0)
YEARS = np.arange(1900, 1981)
Chance = Callable[[np.ndarray], np.ndarray]


def step(year: float, scale: float, before: float = 0.9, after: float = 0.1) -> Chance:
    return lambda years: after + (before - after) * expit((year - years) / scale)


def level(chance: float) -> Chance:
    return lambda years: np.full(len(years), chance)


def answers(chance: Chance, seed: int, *, facts: int = 10, probes: int = 2, rho: float = 0.5) -> Clusters:
    """`facts` facts a year with `probes` probes each, whose answers are correlated by `rho`."""
    rng = np.random.default_rng(seed)
    year_F = np.repeat(YEARS, facts)
    known_F = rng.random(len(year_F)) < chance(year_F)
    copied_FP = rng.random((len(year_F), probes)) < np.sqrt(rho)
    alone_FP = rng.random((len(year_F), probes)) < chance(year_F)[:, None]
    correct_FP = np.where(copied_FP, known_F[:, None], alone_FP)
    names = np.repeat([str(fact) for fact in range(len(year_F))], probes)
    return clusters(names.tolist(), np.repeat(year_F, probes).tolist(), correct_FP.ravel().tolist())


def pinned(found: Cutoff) -> tuple[float, float, float]:
    """Low end, year and high end of a cutoff that must be pinned."""
    assert found.status == "pinned"
    assert found.low is not None and found.year is not None and found.high is not None
    return found.low, found.year, found.high


@pytest.mark.parametrize(
    ("year", "scale"), [(1915.5, 1.0), (1939.5, 0.05), (1939.5, 1.0), (1939.5, 5.0), (1965.5, 2.0)]
)
def test_a_planted_cutoff_is_pinned(year: float, scale: float) -> None:
    low, found, high = pinned(answers_cutoff(answers(step(year, scale), 7), 1939, None, RULES))
    assert found == pytest.approx(year, abs=max(1.5, scale / 2))
    assert low <= found <= high
    assert high - low < 3 + 2 * scale


@pytest.mark.parametrize("scale", [0.01, 1.0])
def test_a_gold_model_with_a_perfect_step_is_pinned(scale: float) -> None:
    """All known before and nothing after is also a linear logit, though a steep one: the null must not swallow it."""
    found = answers_cutoff(answers(step(1939.5, scale, 1.0, 0.0), 1), 1939, answers(level(1.0), 2), RULES)
    assert pinned(found)[1] == pytest.approx(1939.5, abs=1)


@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_steady_drift_is_no_cutoff(rho: float) -> None:
    def drift(years: np.ndarray) -> np.ndarray:
        return expit(0.5 - (years - 1940) / 30)

    sims = 30
    found = Counter(answers_cutoff(answers(drift, seed, rho=rho), 1939, None, RULES).status for seed in range(sims))
    assert found[Status.NO_CUTOFF] >= 0.95 * sims


def test_a_fact_asked_many_times_is_one_observation() -> None:
    """With copies taken for separate answers, the chance bumps of a drift would be significant in two runs of five."""

    def drift(years: np.ndarray) -> np.ndarray:
        return expit(0.5 - (years - 1940) / 30)

    tables = [answers(drift, seed, facts=5, probes=6, rho=0.9) for seed in range(10)]
    found = [answers_cutoff(table, 1939, None, RULES).p_value for table in tables]
    assert sum(p is not None and p > RULES.alpha for p in found) >= 9


def test_drawn_answers_have_the_correlation_asked_for() -> None:
    n_F, chance_F = np.full(4000, 3.0), np.full(4000, 0.3)
    for rho in (0.0, 0.4):
        total_F = draw_correlated(n_F, chance_F, rho, 1, np.random.default_rng(1))[0]
        drawn = Clusters(np.full(4000, 1900.0), np.zeros(4000, int), n_F, total_F, ("all",))
        assert total_F.mean() / 3 == pytest.approx(0.3, abs=0.02)
        assert correlation_within(drawn, chance_F) == pytest.approx(rho, abs=0.05)


def test_the_null_cannot_become_a_step() -> None:
    years_Y, n_1KY = YEARS.astype(float), np.full((1, 1, 81), 100.0)
    slope = np.log(81) / 20
    drift_1KY = n_1KY * expit(-(slope / 2) * (years_Y - 1939.5))
    assert fit_linear_logit(years_Y, n_1KY, drift_1KY, slope)[1] == pytest.approx(drift_1KY / n_1KY, abs=1e-4)
    null_1KY = fit_linear_logit(years_Y, n_1KY, n_1KY * (years_Y < 1940), slope)[1]
    inside = years_Y[(null_1KY[0, 0] < 0.9) & (null_1KY[0, 0] > 0.1)]
    assert np.ptp(inside) == pytest.approx(20, abs=2)


def test_a_model_that_knows_both_sides_has_its_cutoff_after_the_data() -> None:
    for chance in (1.0, 0.97):
        assert answers_cutoff(answers(level(chance), 4), 1939, None, RULES).status == "right-censored"


def test_a_small_though_certain_drop_is_no_end_of_knowledge() -> None:
    table = answers(step(1950.5, 0.2, 0.99, 0.85), 4, facts=30)
    found = answers_cutoff(table, 1939, None, RULES)
    assert found.p_value is not None and found.p_value <= 0.01
    assert found.status == "right-censored" and found.year is None


def test_a_step_up_is_no_cutoff_of_knowledge() -> None:
    assert answers_cutoff(answers(step(1939.5, 1.0, 0.1, 0.45), 4), 1939, None, RULES).status == "no-cutoff"


def test_a_low_level_everywhere() -> None:
    base, low = answers(level(0.97), 1), answers(level(0.2), 2)
    assert answers_cutoff(low, 1939, base, RULES).status == "collapsed"
    assert answers_cutoff(low, 1939, None, RULES).status == "no-cutoff"


def test_a_step_below_half_of_the_base_is_still_a_collapse() -> None:
    base, fallen = answers(level(0.97), 1), answers(step(1939.5, 1.0, 0.4, 0.0), 2)
    assert answers_cutoff(fallen, 1939, base, RULES).status == "collapsed"


def test_the_drop_may_lie_at_an_end_of_the_data() -> None:
    early, late = answers(step(1900.5, 1.0), 5, facts=40), answers(step(1979.5, 1.0), 5, facts=40)
    assert answers_cutoff(early, 1939, None, RULES).status == "left-censored"
    found = answers_cutoff(late, 1939, None, RULES)
    assert found.status == "right-censored" and found.year is None


def test_what_cannot_be_read_has_no_status_but_that() -> None:
    silent = answers(level(0.0), 1)
    assert answers_cutoff(silent, 1939, None, RULES).status == "unparseable"
    assert answers_cutoff(silent, 1939, silent, RULES).status == "unparseable"
    assert answers_cutoff(silent, 1939, answers(level(0.9), 1), RULES).status == "collapsed"
    assert answers_cutoff(clusters([], [], []), 1939, None, RULES).status == "unparseable"
    few = clusters([str(i) for i in range(9)], [*range(1935, 1944)], [1] * 9)
    assert answers_cutoff(few, 1939, None, RULES).status == "unparseable"
    assert changes_cutoff(clusters([], [], []), 1939, RULES).status == "unparseable"


def test_only_a_pinned_cutoff_has_a_year() -> None:
    for chance in (level(0.3), level(0.99), step(1980.0, 1.0), step(1939.5, 1.0)):
        found = answers_cutoff(answers(chance, 3), 1939, None, RULES)
        expected = found.status is Status.PINNED
        assert [value is not None for value in (found.year, found.low, found.high)] == [expected] * 3


def test_the_same_seed_gives_the_same_cutoff() -> None:
    table = answers(step(1939.5, 2.0), 3)
    assert answers_cutoff(table, 1939, None, RULES) == answers_cutoff(table, 1939, None, RULES)


def changed(before: Chance, survives: Chance, seed: int) -> Clusters:
    """A method's changes on what the base answers; one probe a fact."""
    rng = np.random.default_rng(seed)
    year_F = np.repeat(YEARS, 20)
    year_F = year_F[rng.random(len(year_F)) < before(year_F)]
    kept_F = rng.random(len(year_F)) < survives(year_F)
    return clusters([str(fact) for fact in range(len(year_F))], year_F.tolist(), (kept_F.astype(float) - 1).tolist())


def test_changes_that_drift_with_the_years_are_no_cutoff() -> None:
    def fading(years: np.ndarray) -> np.ndarray:
        return 0.95 - 0.01 * (years - 1900)

    found = Counter(changes_cutoff(changed(level(0.95), fading, seed), 1939, RULES).status for seed in range(20))
    assert found[Status.NO_CUTOFF] >= 19


def test_a_method_that_changes_nothing_has_no_cutoff() -> None:
    found = changes_cutoff(changed(level(0.95), level(1.0), 0), 1939, RULES)
    assert found.status == "no-cutoff" and found.p_value == 1.0


def test_guessing_right_now_and_then_is_not_knowing() -> None:
    """One of four is right by chance: half right is a third of what a base with 0.95 knows, and a collapse."""
    base, half, guesses = answers(level(0.95), 1), answers(level(0.5), 2), answers(level(0.25), 3)
    assert answers_cutoff(half, 1939, base, RULES).status != "collapsed"
    assert answers_cutoff(half, 1939, base, RULES, chance=0.25).status == "collapsed"
    assert answers_cutoff(guesses, 1939, answers(level(0.25), 4), RULES, chance=0.25).status == "unparseable"
    # A step down to chance is pinned; four fifths of what lies above chance is known to the end.
    fallen = answers(step(1939.5, 1.0, 0.95, 0.25), 5)
    assert pinned(answers_cutoff(fallen, 1939, base, RULES, chance=0.25))[1] == pytest.approx(1939.5, abs=1)
    assert answers_cutoff(base, 1939, None, RULES, chance=0.25).status == "right-censored"
    assert answers_cutoff(answers(level(0.25), 6), 1939, None, RULES, chance=0.25).status == "no-cutoff"
