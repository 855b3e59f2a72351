"""Columns agree with the plain formulas, and intervals draw clusters and not pieces."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_ind

from menard_unlearn.statistics import contrast
from menard_unlearn.statistics.contrast import auroc, auroc_interval, difference, difference_interval, enough, welch_t
from menard_unlearn.statistics.intervals import auc

Table = tuple[np.ndarray, np.ndarray]


def table(seed: int, pieces: int = 30, features: int = 17) -> Table:
    """Values with many ties, as activations are that are mostly zero, and labels."""
    rng = np.random.default_rng(seed)
    values_PF = np.maximum(rng.normal(size=(pieces, features)).round(1), 0).astype(np.float32)
    positive_P = rng.permutation(np.arange(pieces) < pieces // 3)
    return values_PF, positive_P


def pairs(positive: np.ndarray, negative: np.ndarray) -> float:
    """AUROC by its definition."""
    return float(np.mean([(p > n) + (p == n) / 2 for p in positive for n in negative]))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("at_once", [1, 100, 1 << 22])
def test_auroc_is_the_share_of_pairs_won(seed: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrast, "VALUES_AT_ONCE", at_once)
    values_PF, positive_P = table(seed)
    found_F = auroc(values_PF, positive_P)
    for column_P, found in zip(values_PF.T, found_F, strict=True):
        assert found == pytest.approx(pairs(column_P[positive_P], column_P[~positive_P]), abs=1e-12)
        assert found == pytest.approx(auc(column_P[positive_P], column_P[~positive_P]), abs=1e-12)
    np.testing.assert_allclose(auroc(values_PF, ~positive_P), 1 - found_F, atol=1e-12)


def test_auroc_of_known_columns() -> None:
    positive_P = np.array([True, True, False, False])
    values_PF = np.array([[1, 0, 0, 2, 5], [1, 0, 1, 1, 1], [0, 0, 0, 2, 3], [0, 0, 1, 1, 4]], np.float32)
    assert auroc(values_PF, positive_P).tolist() == [1.0, 0.5, 0.5, 0.5, 0.5]
    assert difference(values_PF, positive_P).tolist() == [1.0, 0.0, 0.0, 0.0, -0.5]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("at_once", [1, 1 << 22])
def test_welch_is_scipys(seed: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrast, "VALUES_AT_ONCE", at_once)
    values_PF, positive_P = table(seed)
    own_PF, others_PF = values_PF[positive_P].astype(float), values_PF[~positive_P].astype(float)
    expected_F = np.asarray(ttest_ind(own_PF, others_PF, equal_var=False)[0])
    np.testing.assert_allclose(welch_t(values_PF, positive_P), expected_F, rtol=1e-9)


def test_welch_is_undefined_where_nothing_varies() -> None:
    # Three times a tenth: their mean is not a tenth, and a variance of rounding errors would make t enormous
    values_PF = np.array([[0.1, 1.0], [0.1, 1.5], [0.1, 1.0], [0.7, 0.0], [0.7, 0.0], [0.7, 0.0]])
    positive_P = np.arange(6) < 3
    assert np.isnan(welch_t(values_PF, positive_P)).tolist() == [True, False]
    assert np.isnan(welch_t(values_PF[2:], positive_P[2:])).all()


def test_an_empty_side_is_a_mistake_of_the_caller() -> None:
    values_PF, positive_P = table(0)
    for nobody_P in (np.zeros_like(positive_P), np.ones_like(positive_P)):
        for statistic in (auroc, difference, welch_t):
            with pytest.raises(ValueError, match="both sides need one"):
                statistic(values_PF, nobody_P)


def clustered(seed: int, clusters: int, pieces: int, shift: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values of which clusters explain most, labels, clusters."""
    rng = np.random.default_rng(seed)
    cluster_P = np.repeat(np.arange(2 * clusters), pieces)
    positive_P = cluster_P < clusters
    value_P = rng.normal(size=2 * clusters)[cluster_P] + 0.1 * rng.normal(size=len(cluster_P)) + shift * positive_P
    return value_P, positive_P, cluster_P


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """With twenty clusters a side; drawn by the piece they would cover it half as often."""
    inside = {"clusters": 0, "pieces": 0}
    for seed in range(200):
        value_P, positive_P, cluster_P = clustered(seed, 20, 8, shift=0.5)
        for kind, drawn_P in (("clusters", cluster_P), ("pieces", np.arange(len(cluster_P)))):
            interval = difference_interval(
                value_P, np.ones(len(value_P)), positive_P, drawn_P, replicates=200, seed=seed
            )
            assert interval is not None
            inside[kind] += interval[0] <= 0.5 <= interval[1]
    assert 0.88 <= inside["clusters"] / 200 <= 0.98
    assert inside["pieces"] / 200 < 0.7


def test_an_interval_of_sums_weighs_them() -> None:
    """Nats by tokens: what a long piece says counts for its length."""
    rng = np.random.default_rng(0)
    tokens_P = rng.integers(1, 50, 24).astype(float)
    positive_P, cluster_P = np.arange(24) < 12, np.arange(24) // 3
    settings = {"replicates": 300, "seed": 1}
    per_token = difference_interval(tokens_P * (2.0 * positive_P + 1), tokens_P, positive_P, cluster_P, **settings)
    assert per_token == pytest.approx((2.0, 2.0))


def test_the_same_seed_draws_the_same_clusters_for_every_column() -> None:
    value_P, positive_P, cluster_P = clustered(0, 5, 4, shift=0.0)
    ones_P, settings = np.ones(len(value_P)), {"replicates": 100, "seed": 3}
    low, high = difference_interval(value_P, ones_P, positive_P, cluster_P, **settings) or (0, 0)
    shifted = difference_interval(value_P + positive_P, ones_P, positive_P, cluster_P, **settings)
    assert shifted == pytest.approx((low + 1, high + 1))


@pytest.mark.parametrize("clusters", [(1, 5), (5, 1), (1, 1), (2, 2)])
def test_one_cluster_has_no_interval(clusters: tuple[int, int]) -> None:
    own, others = clusters
    cluster_P = np.repeat(np.arange(own + others) + 7, 3)  # numbers need not begin at 0
    positive_P = cluster_P < own + 7
    value_P = np.random.default_rng(0).normal(size=len(cluster_P))
    settings = {"replicates": 50, "seed": 0}
    found = (
        auroc_interval(value_P, positive_P, cluster_P, **settings),
        difference_interval(value_P, np.ones(len(value_P)), positive_P, cluster_P, **settings),
    )
    assert [interval is not None for interval in found] == [min(clusters) > 1] * 2
    assert enough(positive_P, cluster_P) is (min(clusters) > 1)


def test_an_auroc_interval_holds_the_auroc_and_knows_no_overlap() -> None:
    value_P, positive_P, cluster_P = clustered(1, 6, 5, shift=1.0)
    point = auroc(value_P[:, None], positive_P)[0]
    low, high = auroc_interval(value_P, positive_P, cluster_P, replicates=300, seed=0) or (1, 0)
    assert 0 <= low < point < high <= 1
    assert auroc_interval(value_P + 99 * positive_P, positive_P, cluster_P, replicates=50, seed=0) == (1.0, 1.0)
