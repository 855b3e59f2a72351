"""Contexts as tokens: passages of documents in the order of a draw, and every shorter context the beginning of it.

Contexts of one draw are nested at their beginning and not at their end, because a key-value cache can be gone on with
but not begun earlier: read once from left to right, a draw gives the cache of every length on its way. The price is
that the passage next to the text differs from length to length; over draws that averages out.

A draw is a pure function of the seed, its number and the documents, so a longer one begins with a shorter one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from transformers import PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.documents import Document
from menard_unlearn.corpus.encoding import beginning, encode_text
from menard_unlearn.corpus.split import hash_of
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.target import Target

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Frame:
    """What stands around a context, whatever its length."""

    start: Ids
    """BOS, or nothing."""
    separator: Ids
    """Between documents, and before the text."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, separator: str) -> Frame:
        """Of a tokenizer."""
        return cls(beginning(tokenizer), _ids(tokenizer, separator))

    def after(self, context: Ids, item: TokenItem) -> TokenItem:
        """The item with a context before it; the same tokens of it are scored. No context leaves it as it is."""
        if not context:
            return item
        before = (*self.start, *context, *self.separator)
        added = len(before) - len(self.start)
        return TokenItem(item.id, (*before, *item.ids[len(self.start) :]), item.n_prompt + added)


@dataclass(frozen=True)
class Passages:
    """What draws are made from."""

    ids: tuple[Ids, ...]
    """Tokens of each passage."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document], size: int | None) -> Passages:
        """Documents cut into passages of at most `size` tokens, or left whole."""
        pieces: list[Ids] = []
        for document in documents:
            ids = _ids(tokenizer, document.text)
            step = size or max(1, len(ids))
            pieces += [ids[at : at + step] for at in range(0, len(ids), step)]
        return cls(tuple(pieces))

    @property
    def n_tokens(self) -> int:
        """Of all passages."""
        return sum(map(len, self.ids))

    def draw(self, number: int, n_tokens: int, frame: Frame, seed: int) -> Ids:
        """The first `n_tokens` of the passages in this draw's order. ValueError where they are fewer.

        No two draws of a seed begin with the same passage: of a few long documents they would else be the same.
        """
        first = _random("first passages", str(seed)).permutation(len(self.ids))[number]
        order = _random("context draw", f"{seed}/{number}").permutation(len(self.ids))
        found: list[int] = []
        for place in (first, *order[order != first]):
            found += [*(frame.separator if found else ()), *self.ids[place]]
            if len(found) >= n_tokens:
                return tuple(found[:n_tokens])
        raise ValueError(f"{self.n_tokens} tokens give no context of {n_tokens}")


def shuffled(context: Ids, lengths: Sequence[int], number: int, seed: int) -> Ids:
    """The tokens in random order, such that the first C are a permutation of the context's first C for each length."""
    rng = _random("shuffled context", f"{seed}/{number}")
    parts = (context[low:high] for low, high in pairwise((0, *lengths)))
    return tuple(part[place] for part in parts for place in rng.permutation(len(part)))


def text_item(tokenizer: PreTrainedTokenizerBase, text: Target, n_scored: int | None = None) -> TokenItem:
    """A text with its own prompt, or the beginning of it with so many scored tokens."""
    item = encode_text(tokenizer, text.prompt, text.text, text.name)
    return item if n_scored is None else TokenItem(item.id, item.ids[: item.n_prompt + n_scored], item.n_prompt)


def lengths_of(first: int, last: int | None, *, window: int | None, taken: int) -> tuple[int, ...]:
    """The lengths of contexts, tokens: `first`, and twice as many each time, up to `last` or to what the window leaves.

    Args:
        first: a power of two.
        last: the longest; None for the longest that fits.
        window: tokens that the model reads at once; None where it sets no limit.
        taken: tokens of it that everything else takes.

    Raises:
        UserError: no context fits, `last` does not fit or is not in the series, or nothing limits the length.
    """
    if window is None and last is None:
        raise UserError("the model sets no window: say how long contexts are to be, context.last=<tokens>")
    if last is not None and (last < first or last & (last - 1)):
        raise UserError(f"context.last={last} is no power of two from context.first={first} on: give {2 * first}, say")
    room = window - taken if window is not None else last or first
    wanted = first if last is None else last
    if wanted > room:
        fitting = 1 << room.bit_length() - 1 if room > 0 else 0
        advice = f"the longest that fits is {fitting}" if fitting else "give a shorter text, or a longer window"
        raise UserError(
            f"context longer than the window: {wanted} tokens of context and {taken} with the text, the model reads "
            f"{window}: {advice} (context.{'first' if last is None else 'last'})"
        )
    longest = wanted if last is not None else 1 << room.bit_length() - 1
    return tuple(first << place for place in range((longest // first).bit_length()))


def refuse_too_few(passages: Passages, longest: int, n_draws: int, what: str) -> None:
    """Raise UserError where a draw would run out of tokens, or two would begin alike."""
    if len(passages.ids) < n_draws:
        raise UserError(
            f"the {what} are {len(passages.ids)} passages, {n_draws} draws were asked for: cut them into more "
            "(context.documents.passage=512), or set context.draws to less"
        )
    if passages.n_tokens < longest:
        raise UserError(
            f"the {what} hold {passages.n_tokens} tokens, the longest context has {longest}: add documents, or set "
            "context.last to less"
        )


def _random(purpose: str, name: str) -> np.random.Generator:
    return np.random.default_rng(int(hash_of(purpose, name)[:16], 16))


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> Ids:
    return tuple(tokenizer.encode(text, add_special_tokens=False, verbose=False))
