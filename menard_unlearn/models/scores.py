"""One pass over many items: every sequence that anyone asks about is run once, and each reads its own tokens off it.

An item's last token is predicted and never read, so what has to be run of an item is its context, all tokens but the
last. By causality a context that begins another one is scored by the way: a choice of letters after one question is one
row, and so are all one-token years after one prompt.

What holds: scores do not depend on batch size, order, padding or on what else is asked, to 1e-9 relative in a float64
model; in fp32 to about 1e-5, since matrix products of other shapes round otherwise; in bf16 to about 1e-2, where close
ranks may swap.

Legend: B rows, T tokens of an item or row, V vocabulary, D width, P scored tokens of a batch, K tokens of a chunk, N
all scored tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.models.likelihood import evaluating, score_states
from menard_unlearn.models.predictions import halves

TOKENS_AT_ONCE = 1 << 14
"""Tokens of a batch, padding included; a batch of long rows holds fewer than `batch_size`."""

MIN_FILLED = 0.75
"""Share of a batch's longest row that every other must have: one text of many tokens would pad twenty short ones."""

Context = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ItemTokens:
    """The scored tokens of an item, each given all before it."""

    logprob_T: NDArray[np.float64]
    """Nats."""
    rank_best_T: NDArray[np.int64]
    """1 + the number of tokens with a larger logit, so ties are read in the model's favour."""
    rank_worst_T: NDArray[np.int64]
    """The number of tokens with at least this logit; 1 means the only argmax."""
    margin_T: NDArray[np.float64]
    """Logit minus the largest other logit; above 0 only for the only argmax."""
    top_T: NDArray[np.int64]
    """Id of the argmax, one of them where they tie."""
    logprob_topk_T: NDArray[np.float64] | None = None
    """Nats under top-k sampling: renormalised over the k likeliest tokens and whatever ties with the last of them, −∞
    for another token. None where the pass was not asked for it."""

    @property
    def logprob(self) -> float:
        """Nats, summed over the tokens."""
        return float(self.logprob_T.sum())

    @property
    def n_tokens(self) -> int:
        """Number of scored tokens."""
        return len(self.logprob_T)

    @property
    def correct(self) -> bool:
        """Whether each is the only argmax given those before it; a tie is not an answer."""
        return bool((self.rank_worst_T == 1).all())


@dataclass(frozen=True, eq=False)
class Scores:
    """What a pass found."""

    found: Mapping[tuple[Context, int], ItemTokens]
    """(ids, n_prompt) of an item → its tokens; ids of items do not matter."""
    n_rows: int
    """Sequences that went through the model."""
    n_tokens: int
    """Tokens of these, padding left out."""

    def of(self, item: TokenItem) -> ItemTokens:
        """The scores of an item that the pass was asked for. Raises KeyError for another."""
        return self.found[item.ids, item.n_prompt]

    def with_others(self, others: Scores) -> Scores:
        """What both passes found; where both scored an item, the others' word counts."""
        return Scores({**self.found, **others.found}, self.n_rows + others.n_rows, self.n_tokens + others.n_tokens)


@torch.inference_mode()
def score(
    model: PreTrainedModel,
    items: Iterable[TokenItem],
    *,
    batch_size: int,
    chunk: int,
    padding: int,
    top_k: int | None = None,
) -> Scores:
    """Score the unmasked tokens of items, `batch_size` rows at a time and the head on `chunk` tokens at a time.

    The model is in eval mode for the call. `padding` is any token id; nothing depends on it. With `top_k`, at least 1,
    every token's log-probability under top-k sampling is found as well.
    """
    asked = {(item.ids, item.n_prompt): None for item in items}
    row_of = cover(ids[:-1] for ids, _ in asked)
    # (context, place, token) → number of the scored token: what two items share is scored once
    wanted: dict[Context, dict[tuple[int, int], int]] = {}
    numbers: dict[tuple[Context, int], list[int]] = {}
    n_scored = 0
    for ids, n_prompt in asked:
        row = wanted.setdefault(row_of[ids[:-1]], {})
        own = numbers[ids, n_prompt] = []
        for place in range(n_prompt, len(ids)):
            number = row.setdefault((place - 1, ids[place]), n_scored)
            n_scored += number == n_scored
            own.append(number)
    columns = _run(model, wanted, n_scored, batch_size=batch_size, chunk=chunk, padding=padding, top_k=top_k)
    found = {key: ItemTokens(*(column_N[own] for column_N in columns)) for key, own in numbers.items()}
    return Scores(found, len(wanted), sum(map(len, wanted)))


def cover(contexts: Iterable[Context]) -> dict[Context, Context]:
    """Of each context the one to run for it: itself, or a longer one that begins with it."""
    rows: dict[Context, Context] = {}
    longer: Context = ()
    # In order, whatever begins with a context comes right after it.
    for context in sorted(set(contexts), reverse=True):
        if longer[: len(context)] != context:
            longer = context
        rows[context] = longer
    return rows


def _run(
    model: PreTrainedModel,
    wanted: Mapping[Context, Mapping[tuple[int, int], int]],
    n_scored: int,
    *,
    batch_size: int,
    chunk: int,
    padding: int,
    top_k: int | None,
) -> tuple[NDArray, ...]:
    """The columns of `ItemTokens` for every scored token; the last only with `top_k`."""
    columns = (np.zeros(n_scored), *(np.zeros(n_scored, np.int64) for _ in range(2)), np.zeros(n_scored))
    columns = (*columns, np.zeros(n_scored, np.int64), *([] if top_k is None else [np.zeros(n_scored)]))
    parts, device = halves(model), next(model.parameters()).device
    with evaluating(model):
        for rows in _batches(wanted, batch_size):
            inputs = {name: tensor.to(device) for name, tensor in _inputs(rows, padding).items()}
            places = [(row, *place) for row, context in enumerate(rows) for place in wanted[context]]
            row_P, place_P, token_P = torch.tensor(places, device=device).unbind(1)
            hidden_PD = parts.decoder(inputs)[row_P, place_P]
            number_P = [number for context in rows for number in wanted[context].values()]
            scored = score_states(parts, hidden_PD, token_P, chunk, top_k)
            for column_N, values_P in zip(columns, scored, strict=True):
                column_N[number_P] = values_P.cpu().numpy()
    return columns


def _batches(wanted: Mapping[Context, object], batch_size: int) -> Iterator[Sequence[Context]]:
    """Rows of like length, the longest first."""
    order = sorted(wanted, key=len, reverse=True)
    start = 0
    while start < len(order):
        longest = len(order[start])
        size = max(1, min(batch_size, TOKENS_AT_ONCE // longest))
        rows = [row for row in order[start : start + size] if len(row) >= MIN_FILLED * longest]
        yield rows
        start += len(rows)


def _inputs(rows: Sequence[Context], padding: int) -> dict[str, Tensor]:
    """Padded on the right. The mask comes from lengths: the padding id may be an ordinary token."""
    input_ids_BT = torch.full((len(rows), len(rows[0])), padding)
    attention_mask_BT = torch.zeros_like(input_ids_BT)
    for number, context in enumerate(rows):
        input_ids_BT[number, : len(context)] = torch.tensor(context)
        attention_mask_BT[number, : len(context)] = 1
    return {"input_ids": input_ids_BT, "attention_mask": attention_mask_BT}
