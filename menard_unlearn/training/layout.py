"""Which rows a table of numbers has for which items, and where in its file they lie.

Legend: B items, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from menard_unlearn.corpus.batches import TokenBatch, TokenItem
from menard_unlearn.errors import UserError
from menard_unlearn.files import canonical, digest_text

BLOCK_TOKENS = 1024
"""Tokens of a block, padding included: enough for a forward pass to be efficient, and little to compute in vain."""
ALIGNMENT = 64
FORMAT = 2
"""Of the files; those of another one are not looked for."""


class Side:
    """The items of one side in an order of their own, cut into blocks."""

    def __init__(self, name: str, items: Sequence[TokenItem]) -> None:
        """Raises UserError where two different items have one id."""
        self.name = name
        by_id: dict[str, TokenItem] = {}
        for item in items:
            if by_id.setdefault(item.id, item) != item:
                raise UserError(f"two different items of the {name} side are called {item.id!r}: give each its own id")
        self.blocks: list[list[TokenItem]] = []
        # By length, so that a block holds little padding
        for item in sorted(by_id.values(), key=lambda item: (len(item.ids), item.id)):
            if not self.blocks or (len(self.blocks[-1]) + 1) * len(item.ids) > BLOCK_TOKENS:
                self.blocks.append([])
            self.blocks[-1].append(item)
        self.place = {item.id: (block, item) for block, items in enumerate(self.blocks) for item in items}
        self.number = {id: number for number, id in enumerate(self.place)}
        """Of each item, counted through all blocks."""

    @cached_property
    def digest(self) -> str:
        """Of the items: ids, tokens and prompts."""
        listed = [[[item.id, list(item.ids), item.n_prompt] for item in block] for block in self.blocks]
        return digest_text(canonical([FORMAT, listed]))

    def holds(self, batch: TokenBatch) -> bool:
        """Whether the batch's tokens and prompts are those of the side's items of the same ids."""
        if not all(id in self.place for id in batch.ids):
            return False
        real_BT = batch.attention_mask_BT.bool()
        items = [self.place[id][1] for id in batch.ids]
        ids = [token for item in items for token in item.ids]
        scores = [place >= item.n_prompt for item in items for place in range(len(item.ids))]
        return batch.input_ids_BT[real_BT].tolist() == ids and batch.loss_mask_BT[real_BT].tolist() == scores


@dataclass(frozen=True)
class Column:
    """A part of each row."""

    width: int
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Bytes a row."""
        return self.width * self.dtype.itemsize


def scored(item: TokenItem) -> int:
    """A row for each scored token."""
    return len(item.ids) - item.n_prompt


def tokens(item: TokenItem) -> int:
    """A row for each token."""
    return len(item.ids)


def one(_item: TokenItem) -> int:
    """A row for the item."""
    return 1


class Layout:
    """Where the rows of each item lie: blocks one after another, in each its columns, in each the items' rows."""

    def __init__(self, side: Side, rows: Callable[[TokenItem], int], columns: Sequence[Column]) -> None:
        self.side = side
        self.columns = tuple(columns)
        self.rows: dict[str, tuple[int, int]] = {}
        """First and end of each item's rows, counted in its block."""
        self.counts: list[int] = []
        """Rows of each block."""
        self.starts: list[list[int]] = []
        """Where each column of each block begins, in bytes; and as a last one, where the block ends."""
        at = 0
        for block in side.blocks:
            n = 0
            for item in block:
                self.rows[item.id] = n, n + rows(item)
                n += rows(item)
            self.counts.append(n)
            starts = [at]
            for column in self.columns:
                starts.append(starts[-1] + -(-n * column.size // ALIGNMENT) * ALIGNMENT)
            self.starts.append(starts)
            at = starts[-1]
        self.size = at
        """Bytes of the file."""

    def pieces(self, id: str) -> list[tuple[int, int]]:
        """The item's rows of each column: where they begin in the file, and how many bytes they are."""
        first, end = self.rows[id]
        starts = self.starts[self.side.place[id][0]]
        return [
            (start + first * column.size, (end - first) * column.size)
            for start, column in zip(starts[:-1], self.columns, strict=True)
        ]
