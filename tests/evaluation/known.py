"""Scores written by hand, as a model would give them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.models.scores import ItemTokens, Scores


def given(nats: Iterable[tuple[TokenItem, float]]) -> Scores:
    """What a pass would have found where each item has this log-probability, spread over its tokens."""
    found = {}
    for item, value in nats:
        length = len(item.ids) - item.n_prompt
        ones_T = np.ones(length, np.int64)
        found[item.ids, item.n_prompt] = ItemTokens(
            np.full(length, value / length), ones_T, ones_T, np.ones(length), ones_T
        )
    return Scores(found, 0, 0)
