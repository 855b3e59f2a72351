"""How far values of two sides lie apart, a column a feature, and intervals over clusters.

Two windows of one book say nearly the same, so it is works and authors that intervals draw with replacement, either
side by itself. A percentile interval over few clusters is too narrow and jumps (of three clusters, a ninth of the draws
hold one alone), and one cluster would give no width at all: with fewer than two on either side there is no interval.

Legend: P pieces, F features, C clusters, R replicates.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from menard_unlearn.statistics.clusters import Floats, Whole
from menard_unlearn.statistics.intervals import auc_interval

VALUES_AT_ONCE = 1 << 22
"""Of a table that is worked on in float64; a dictionary may have a hundred thousand columns."""

Bools = NDArray[np.bool_]


def auroc(values_PF: NDArray[np.floating], positive_P: Bools) -> Floats:
    """auroc_F: P(a positive piece's value > a negative one's), a tie counting one half (Mann–Whitney).

    Raises ValueError where a side is empty, as do the others here.
    """
    n_positive, n_negative = _sizes(positive_P)
    found_F = np.empty(values_PF.shape[1])
    for columns in _blocks(values_PF):
        rank_PK = rankdata(values_PF[:, columns].astype(np.float64), axis=0)
        wins_K = rank_PK[positive_P].sum(0) - n_positive * (n_positive + 1) / 2
        found_F[columns] = wins_K / (n_positive * n_negative)
    return found_F


def difference(values_PF: NDArray[np.floating], positive_P: Bools) -> Floats:
    """difference_F of the means over pieces, positive minus negative."""
    _sizes(positive_P)
    means = [values_PF[side_P].mean(0, dtype=np.float64) for side_P in (positive_P, ~positive_P)]
    return means[0] - means[1]


def welch_t(values_PF: NDArray[np.floating], positive_P: Bools) -> Floats:
    """t_F, the difference by its standard error without assuming equal variances (Welch 1947).

    NaN where a side has one piece, or neither side varies.
    """
    sizes = _sizes(positive_P)
    difference_F = difference(values_PF, positive_P)
    if min(sizes) < 2:
        return np.full_like(difference_F, np.nan)
    squared_F = np.zeros_like(difference_F)
    for side_P, size in zip((positive_P, ~positive_P), sizes, strict=True):
        for columns in _blocks(values_PF):
            side_PK = values_PF[side_P, columns].astype(np.float64)
            # Of equal values the mean may differ from them by rounding, and t would be enormous instead of undefined
            squared_F[columns] += side_PK.var(0, ddof=1) * (side_PK.max(0) > side_PK.min(0)) / size
    varies_F = squared_F > 0
    return np.divide(difference_F, np.sqrt(squared_F), out=np.full_like(difference_F, np.nan), where=varies_F)


def auroc_interval(
    values_P: NDArray[np.floating], positive_P: Bools, cluster_P: Whole, *, replicates: int, seed: int
) -> tuple[float, float] | None:
    """95% interval of one column's AUROC; a cluster lies on one side. None with fewer than two clusters a side.

    Where the sides do not overlap at all it is [1, 1], which says that no draw could have found an overlap and not
    that there is none.
    """
    number_P = np.unique(cluster_P, return_inverse=True)[1].astype(np.int64)
    if not enough(positive_P, number_P):
        return None
    rng = np.random.default_rng(seed)
    return auc_interval(values_P.astype(np.float64), positive_P, number_P, replicates=replicates, rng=rng)


def difference_interval(
    value_P: NDArray[np.floating],
    weight_P: NDArray[np.floating],
    positive_P: Bools,
    cluster_P: Whole,
    *,
    replicates: int,
    seed: int,
) -> tuple[float, float] | None:
    """95% interval of Σ value / Σ weight over the positive clusters minus the same over the negative ones.

    `value_P` are sums and `weight_P` what they are sums over: a piece's nats and tokens, or its value and 1. The same
    seed draws the same clusters, so columns are comparable. None with fewer than two clusters a side.
    """
    if not enough(positive_P, cluster_P):
        return None
    rng = np.random.default_rng(seed)
    sides_R = []
    for side_P in (positive_P, ~positive_P):
        number_N = np.unique(cluster_P[side_P], return_inverse=True)[1]
        value_C = np.bincount(number_N, weights=value_P[side_P].astype(np.float64))
        weight_C = np.bincount(number_N, weights=weight_P[side_P].astype(np.float64))
        times_RC = rng.multinomial(len(value_C), np.full(len(value_C), 1 / len(value_C)), size=replicates)
        sides_R.append((times_RC @ value_C) / (times_RC @ weight_C))
    low, high = np.quantile(sides_R[0] - sides_R[1], (0.025, 0.975))
    return float(low), float(high)


def enough(positive_P: Bools, cluster_P: Whole) -> bool:
    """Whether each side has two clusters or more."""
    return min(len(np.unique(cluster_P[side_P])) for side_P in (positive_P, ~positive_P)) > 1


def _sizes(positive_P: Bools) -> tuple[int, int]:
    n_positive = int(positive_P.sum())
    if not 0 < n_positive < len(positive_P):
        raise ValueError(f"{n_positive} of {len(positive_P)} pieces are positive: both sides need one")
    return n_positive, len(positive_P) - n_positive


def _blocks(values_PF: NDArray[np.floating]) -> Iterator[slice]:
    """Columns to be worked on together."""
    size = max(1, VALUES_AT_ONCE // len(values_PF))
    return (slice(at, at + size) for at in range(0, values_PF.shape[1], size))
