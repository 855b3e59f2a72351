"""How far a text's nats depend on how they are computed: the numerical error bar of B1."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.evaluation.tokens import context_length
from menard_unlearn.models.long import score_long
from menard_unlearn.models.precision import in_other_precision
from menard_unlearn.models.scores import MIN_FILLED, TOKENS_AT_ONCE, score

KEYS = {
    "nats_batch_spread": "B1, nats between the text read alone and the text read beside a longer one, in a padded row",
    "nats_dtype_spread": "B1, nats between the two numeric_dtypes",
    "numeric_dtypes": "the precision of the results, and the other: bfloat16 for a model in fp32, fp32 for one in half",
    "numeric_tokens": "number of scored tokens that these are found on, from the first on",
}
"""Keys that every reproduction has. All null where config says 0 tokens; what else is null, left_out names."""

PADDING = 32
"""Tokens by which the other row is longer, at most: no more than keep both in one batch of `models.scores`."""


def numeric_error(
    model: PreTrainedModel, item: TokenItem, logprob_T: NDArray[np.float64], *, limit: int, piece: int, chunk: int
) -> tuple[dict, list[str]]:
    """Score the item's first `limit` tokens in two other ways. Returns the figures and what was left out.

    |Σ ln p − Σ ln p'|, nats, where `logprob_T` are the item's own. The batch makes a second row that runs along; the
    other precision keeps one layer's weights in fp32 beside a model in half precision, and else nothing. Both spreads
    are of arithmetic alone: a difference between two models below them means nothing. Source: the variance of
    greedy decoding over batch shapes and formats, arXiv 2506.09501.
    """
    results: dict = dict.fromkeys(KEYS)
    if limit == 0:
        return results, ["numerical error bar: evaluation.reproduction.numeric_tokens is 0"]
    longest = min(context_length(model) or TOKENS_AT_ONCE, TOKENS_AT_ONCE // 2) - PADDING
    n_scored = min(limit, len(logprob_T), longest - item.n_prompt)
    if n_scored < 1:
        return results, ["numerical error bar: the context has no room for a longer row"]
    part = TokenItem(item.id, item.ids[: item.n_prompt + n_scored], item.n_prompt)
    own = float(logprob_T[:n_scored].sum())
    beside = _beside(model, part, chunk)
    dtype = next(model.parameters()).dtype
    with in_other_precision(model) as other:
        cast = None if other is None else score_long(model, part, piece=piece, chunk=chunk).logprob
    spreads = {"nats_batch_spread": abs(own - beside), "nats_dtype_spread": None if cast is None else abs(own - cast)}
    results |= {name: spread for name, spread in spreads.items() if spread is not None and math.isfinite(spread)}
    results["numeric_dtypes"] = [str(kind).removeprefix("torch.") for kind in (dtype, other) if kind is not None]
    results["numeric_tokens"] = n_scored
    missing = {name: "no other precision" if spread is None else "not finite" for name, spread in spreads.items()}
    return results, [f"{name}: {missing[name]}" for name in spreads if results[name] is None]


def _beside(model: PreTrainedModel, item: TokenItem, chunk: int) -> float:
    """Nats of the item in a padded row, the other row being longer and different from its first token on."""
    room = int((len(item.ids) - 1) * (1 / MIN_FILLED - 1))
    other = (int(item.ids[0] == 0), *item.ids[1:], *item.ids[: max(1, min(PADDING, room))])
    longer = TokenItem("beside", other, len(other) - 1)
    return score(model, [item, longer], batch_size=2, chunk=chunk, padding=0).of(item).logprob
