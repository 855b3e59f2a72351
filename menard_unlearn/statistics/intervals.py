"""Area under the ROC curve with ties, and the Wilson interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm, rankdata


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


def wilson(successes: float, n: int, level: float = 0.95) -> tuple[float, float] | None:
    """Wilson's score interval of a binomial share, within [0, 1]. None when n is 0."""
    if n == 0:
        return None
    z = norm.ppf(0.5 + level / 2)
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
