"""The beginning of a text as tokens, and passages of it after their own prefix and after others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from transformers import PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.encoding import beginning, encode_text
from menard_unlearn.evaluation.target import Target
from menard_unlearn.evaluation.tokens import token_bytes

SLACK = 16
"""One token in so many of a context is kept for variants that are longer than the text."""


@dataclass(frozen=True, eq=False)
class Passage:
    """A text, or as much of its beginning as is used."""

    name: str
    sha256: str
    """Of the whole text."""
    text: str
    """The words used; ends between words where it is cut."""
    cut: bool
    """Whether there is more."""
    item: TokenItem
    """BOS, prompt and the words; the words are scored."""
    n_bytes: int
    """UTF-8 bytes of the scored tokens."""

    @property
    def ids(self) -> tuple[int, ...]:
        """The scored tokens."""
        return self.item.ids[self.item.n_prompt :]


@dataclass(frozen=True, eq=False)
class Window:
    """The same tokens after different ones."""

    own: TokenItem
    """After those that stand before them in the text."""
    others: tuple[TokenItem, ...]
    """After tokens from elsewhere."""

    @property
    def items(self) -> tuple[TokenItem, ...]:
        """All of them."""
        return (self.own, *self.others)


def reach(max_tokens: int | None, context: int | None) -> int | None:
    """Tokens of a passage with its start and prompt; None where nothing limits it."""
    limits = [max_tokens, None if context is None else context - context // SLACK]
    return min((limit for limit in limits if limit is not None), default=None)


def passage(tokenizer: PreTrainedTokenizerBase, target: Target, limit: int | None) -> Passage:
    """As much of a text's beginning as `limit` tokens hold, prompt and BOS among them."""
    text, whole = target.text, encode_text(tokenizer, target.prompt, target.text, target.name)
    if limit is not None and len(whole.ids) > limit:
        counts = token_bytes(tokenizer, target.whole, whole.ids[len(beginning(tokenizer)) :])
        kept = sum(counts[: max(1, limit - len(beginning(tokenizer)))])
        begun = target.whole.encode()[:kept].decode(errors="ignore")[len(target.prompt) :]
        text = begun.rsplit(maxsplit=1)[0] if len(begun.split()) > 1 else begun or text[:1]
        whole = encode_text(tokenizer, target.prompt, text, target.name)
    start = len(beginning(tokenizer))
    counts = token_bytes(tokenizer, target.prompt + text, whole.ids[start:])
    n_bytes = sum(counts[whole.n_prompt - start :])
    return Passage(target.name, target.sha256, text, text != target.text, whole, n_bytes)


def windows(
    passages: Sequence[Passage], number: int, start: tuple[int, ...], *, n: int, length: int, prefix: int, n_others: int
) -> tuple[Window, ...]:
    """`n` passages of `length` tokens, evenly over one text, each after its own `prefix` tokens and after `n_others`.

    Other prefixes are as long and stand at the same place after `start` (the BOS token, or nothing). They are taken by
    turns from the text itself, clear of the passage and its prefix, and from the other texts. None where the text is
    too short, or where there is no other prefix.
    """
    ids_T = passages[number].ids
    room = len(ids_T) - prefix - length
    if room < 0:
        return ()
    places = sorted({prefix + round(room * place / max(1, n - 1)) for place in range(min(n, room + 1))})
    foreign = [chunk for other, text in enumerate(passages) if other != number for chunk in _chunks(text.ids, prefix)]
    found = []
    for turn, at in enumerate(places):
        own, suffix = ids_T[at - prefix : at], ids_T[at : at + length]
        near = [*_chunks(ids_T[: at - prefix], prefix), *_chunks(ids_T[at + length :], prefix)]
        turns = chain.from_iterable(zip_longest(_from(near, turn), _from(foreign, turn)))
        others = [chunk for chunk in dict.fromkeys(turns) if chunk is not None and chunk != own][:n_others]
        if others:
            items = (TokenItem(f"{at}", (*start, *chunk, *suffix), len(start) + prefix) for chunk in (own, *others))
            found.append(Window(next(items), tuple(items)))
    return tuple(found)


def _chunks(ids_T: tuple[int, ...], size: int) -> list[tuple[int, ...]]:
    """Whole chunks side by side."""
    return [ids_T[at : at + size] for at in range(0, len(ids_T) - size + 1, size)]


def _from(chunks: Sequence[tuple[int, ...]], turn: int) -> Sequence[tuple[int, ...]]:
    """All of them, another one first at each turn."""
    first = turn % len(chunks) if chunks else 0
    return [*chunks[first:], *chunks[:first]]
