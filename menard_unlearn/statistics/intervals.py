"""Area under the ROC curve with ties, its interval over clusters, and the Wilson interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata

from menard_unlearn.statistics.clusters import Floats


def auc(positive: ArrayLike, negative: ArrayLike) -> float | None:
    """P(a positive value > a negative one), a tie counting one half. None when either side is empty.

    0.5 says that the two sides cannot be told apart, 1 that every positive value lies above every negative one.
    """
    positive_N, negative_N = np.asarray(positive, float), np.asarray(negative, float)
    n_positive, n_negative = len(positive_N), len(negative_N)
    if not n_positive or not n_negative:
        return None
    ranks_N = rankdata(np.concatenate([positive_N, negative_N]))
    wins = ranks_N[:n_positive].sum() - n_positive * (n_positive + 1) / 2
    return float(wins / (n_positive * n_negative))


def auc_interval(
    values_N: Floats,
    positive_N: NDArray[np.bool_],
    cluster_N: NDArray[np.int64],
    *,
    replicates: int,
    rng: np.random.Generator,
) -> tuple[float, float] | None:
    """95% interval of `auc`, clusters drawn with replacement on either side by itself. None when a side is empty.

    `cluster_N` numbers the cluster of each value from 0; a cluster lies on one side.
    """
    if positive_N.all() or not positive_N.any():
        return None
    order_N = np.argsort(values_N, kind="stable")
    cluster_N, positive_N, values_N = cluster_N[order_N], positive_N[order_N], values_N[order_N]
    side_C = np.zeros(cluster_N.max() + 1, bool)
    side_C[cluster_N] = positive_N
    times_RC = np.zeros((replicates, len(side_C)))
    for side in (False, True):
        places_K = np.flatnonzero(side_C == side)
        times_RC[:, places_K] = rng.multinomial(len(places_K), np.full(len(places_K), 1 / len(places_K)), replicates)
    weight_RN = times_RC[:, cluster_N]
    # A positive value beats the negative ones of smaller values, and half of those of its own.
    first_N = np.searchsorted(values_N, values_N, "left")
    last_N = np.searchsorted(values_N, values_N, "right")
    below_RN = np.pad(np.cumsum(weight_RN * ~positive_N, axis=1), ((0, 0), (1, 0)))
    wins_RN = (below_RN[:, first_N] + below_RN[:, last_N]) / 2
    total_R = (weight_RN * positive_N).sum(1) * below_RN[:, -1]
    low, high = np.quantile((weight_RN * positive_N * wins_RN).sum(1) / total_R, (0.025, 0.975))
    return float(low), float(high)


def wilson(successes: float, n: int, level: float = 0.95) -> tuple[float, float] | None:
    """Wilson's score interval of a binomial share, within [0, 1]. None when n is 0."""
    if n == 0:
        return None
    z = norm.ppf(0.5 + level / 2)
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
