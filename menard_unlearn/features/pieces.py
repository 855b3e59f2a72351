"""Works in pieces of equal length, and which of them may choose a feature and which only judge it.

Held out are whole works of the author and whole authors among the controls: windows of one book know each other's names
and places, and a feature of those would pass for one of the author.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.encoding import beginning
from menard_unlearn.corpus.split import hash_of
from menard_unlearn.corpus.works import AuthorsData, Work
from menard_unlearn.errors import UserError

Side = Literal["train", "heldout"]
SIDES: tuple[Side, Side] = ("train", "heldout")


@dataclass(frozen=True)
class PiecesConfig:
    """How works are cut and divided. Raises UserError for a value that is not allowed."""

    tokens: int
    """Tokens of a piece, BOS included; a work that is shorter is one piece."""
    per_work: int
    """Most pieces of a work, evenly spaced over it."""
    heldout_share: float
    """Share of the author's works, and of the other authors, that takes no part in the choice of a feature: at least
    one of each, and all but one at most."""
    seed: int
    """Together with the names it says which."""

    def __post_init__(self) -> None:
        if self.tokens < 8:
            raise UserError(f"ranking.pieces.tokens {self.tokens} is too few to tell an author by: give 8 or more")
        if self.per_work < 1:
            raise UserError(f"ranking.pieces.per_work {self.per_work} is not allowed: give 1 or more")
        if not 0 < self.heldout_share < 1:
            raise UserError(
                f"ranking.pieces.heldout_share {self.heldout_share} is not between 0 and 1: give 0.35 for 35%"
            )


@dataclass(frozen=True)
class Piece:
    """A stretch of a work, one document for all that follows."""

    id: str
    """The work's id and the number of the stretch within it."""
    author: str
    work: str
    """The work's id."""
    item: TokenItem
    """BOS and the words, which are scored."""
    side: Side
    """Whether it may choose a feature (train) or only judge it (heldout)."""
    own: bool
    """Whether it is the author's."""

    @property
    def cluster(self) -> str:
        """What is drawn as one in a bootstrap: a work of the author's, all that another author wrote."""
        return self.work if self.own else self.author


@dataclass(frozen=True)
class Pieces:
    """All pieces, in the order of their works."""

    author: str
    every: tuple[Piece, ...]
    left_out: tuple[str, ...]
    """Works that may not be used, and why."""

    @property
    def own_P(self) -> NDArray[np.bool_]:
        """Which are the author's."""
        return np.array([piece.own for piece in self.every])

    def on(self, side: Side) -> NDArray[np.bool_]:
        """Which lie on this side, (P,)."""
        return np.array([piece.side == side for piece in self.every])

    @property
    def cluster_P(self) -> NDArray[np.int64]:
        """Number of each one's cluster, from 0."""
        return np.unique([piece.cluster for piece in self.every], return_inverse=True)[1].astype(np.int64)

    def some(self, side: Side, per_work: int) -> Pieces:
        """The pieces of one side, at most so many of a work, evenly spaced."""
        works: dict[str, list[Piece]] = {}
        for piece in self.every:
            if piece.side == side:
                works.setdefault(piece.work, []).append(piece)
        kept = (found[place] for found in works.values() for place in _evenly(len(found), per_work))
        return Pieces(self.author, tuple(kept), self.left_out)

    def items(self, side: Side, own: bool) -> list[TokenItem]:
        """The sequences of one side, the author's or the others'."""
        return [piece.item for piece in self.every if piece.side == side and piece.own is own]

    def counts(self) -> dict[str, dict[str, int]]:
        """Of each side of the split: pieces, works and authors, the author's own and the others'."""
        return {side: self._counts(side) for side in SIDES}

    def _counts(self, side: str) -> dict[str, int]:
        here = [piece for piece in self.every if piece.side == side]
        found = {}
        for name, own in (("own", True), ("others", False)):
            some = [piece for piece in here if piece.own is own]
            found[f"pieces_{name}"] = len(some)
            found[f"works_{name}"] = len({piece.work for piece in some})
        return found | {"authors_others": len({piece.author for piece in here if not piece.own})}


def pieces(data: AuthorsData, tokenizer: PreTrainedTokenizerBase, config: PiecesConfig) -> Pieces:
    """Cut the works and divide them. Raises UserError for a work that is too short to have a scored token.

    What remains of a work after its last whole piece is not used, so that a document's pooled value is always one of
    as many tokens, but for works shorter than a piece.
    """
    heldout = _held_out([work.id for work in data.own], "works", config)
    heldout |= _held_out({work.author for work in data.others}, "authors", config)
    every = []
    for work, own in [*((work, True) for work in data.own), *((work, False) for work in data.others)]:
        side = "heldout" if (work.id if own else work.author) in heldout else "train"
        items = _items(work, tokenizer, config)
        every += [Piece(item.id, work.author, work.id, item, side, own) for item in items]
    return Pieces(data.author, tuple(every), data.left_out)


def _held_out(names: Iterable[str], purpose: str, config: PiecesConfig) -> set[str]:
    """Those that come first by the hash of their names; as a decimal number, so that 0.2 of 5 is 1 and not 2."""
    ranked = sorted(names, key=lambda name: (hash_of(f"held out {purpose} {config.seed}", name), name))
    return set(ranked[: min(len(ranked) - 1, math.ceil(Fraction(str(config.heldout_share)) * len(ranked)))])


def _items(work: Work, tokenizer: PreTrainedTokenizerBase, config: PiecesConfig) -> list[TokenItem]:
    start, ids = beginning(tokenizer), tuple(tokenizer.encode(work.text, add_special_tokens=False, verbose=False))
    size = config.tokens - len(start)
    if len(start) + min(size, len(ids)) < 2:
        raise UserError(f"{work.id} has {len(ids)} tokens, too few to score one: remove the work or give more of it")
    whole = [ids[at : at + size] for at in range(0, len(ids) - size + 1, size)] or [ids]
    return [
        TokenItem(f"{work.id}#{place}", (*start, *whole[place]), 1) for place in _evenly(len(whole), config.per_work)
    ]


def _evenly(n: int, most: int) -> Sequence[int]:
    """At most so many places out of n: the first, the last and those between at equal steps."""
    return list(range(n)) if n <= most else np.linspace(0, n - 1, most).round().astype(int).tolist()
