"""AUC with ties and Wilson's interval."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from menard_unlearn.statistics.intervals import auc, auc_interval, wilson


def test_auc_counts_a_tie_as_half() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(0, 4, 30), rng.integers(0, 4, 50)
    wins = np.mean([(p > n) + 0.5 * (p == n) for p in positive for n in negative])
    assert auc(positive, negative) == pytest.approx(wins, abs=1e-12)
    assert auc([1, 1], [1]) == 0.5
    assert auc([2], [1, 0]) == 1.0


def test_auc_of_an_empty_side_is_not_a_number_but_nothing() -> None:
    assert auc([], [1.0]) is None
    assert auc([1.0], []) is None


def test_auc_of_permuted_labels_is_one_half() -> None:
    rng = np.random.default_rng(1)
    drops = np.concatenate([rng.normal(0, 1, 300), rng.normal(2, 1, 300)])
    assert auc(drops[300:], drops[:300]) == pytest.approx(0.92, abs=0.04)
    permuted = [auc(shuffled[300:], shuffled[:300]) for shuffled in (rng.permutation(drops) for _ in range(50))]
    assert np.mean(np.array(permuted, float)) == pytest.approx(0.5, abs=0.01)


def test_wilson_against_a_published_value() -> None:
    # 81 of 263 is the worked example of Newcombe (1998): 0.2553 to 0.3662 at 95%.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_wilson_stays_within_bounds_and_admits_no_data() -> None:
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(0, 0) is None


def test_the_interval_of_the_auc_covers_it_and_counts_clusters_once() -> None:
    rng = np.random.default_rng(0)
    covered, widths, repeated = 0, [], []
    for _ in range(200):
        positive, negative = rng.normal(0.5, 1, 60).round(1), rng.normal(0, 1, 80).round(1)
        values_N, positive_N = np.concatenate([positive, negative]), np.arange(140) < 60
        low, high = auc_interval(values_N, positive_N, np.arange(140), replicates=200, rng=rng) or (1, 0)
        covered += low <= norm.cdf(0.5 / np.sqrt(2)) <= high
        widths.append(high - low)
        # each value told three times by its cluster says nothing new
        found = auc_interval(
            np.repeat(values_N, 3), np.repeat(positive_N, 3), np.repeat(np.arange(140), 3), replicates=200, rng=rng
        )
        low, high = found or (1, 0)
        repeated.append(high - low)
    assert 180 <= covered <= 198
    assert np.mean(repeated) == pytest.approx(np.mean(widths), rel=0.05)
    assert auc_interval(values_N, np.ones(140, bool), np.arange(140), replicates=10, rng=rng) is None


def test_a_replicate_of_the_auc_is_that_of_the_drawn_values() -> None:
    values_N, positive_N = np.array([3.0, 1, 2, 2, 5]), np.array([True, True, False, False, False])
    rng = np.random.default_rng(1)
    found = auc_interval(values_N, positive_N, np.arange(5), replicates=2000, rng=rng)
    # the five values can be drawn so that every positive one wins, and so that none does
    assert found == (0.0, 1.0)
