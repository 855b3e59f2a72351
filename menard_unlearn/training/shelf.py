"""The tables of one model in a folder, within a limit of room."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.training.claims import Claims
from menard_unlearn.training.layout import Column, Layout, Side
from menard_unlearn.training.store import Store

GB = 10**9


class Shelf:
    """The stores of one model, opened as they are asked for, within a limit."""

    def __init__(self, folder: Path, max_gb: float, sides: Mapping[str, Side], meaning: Mapping[str, Any]) -> None:
        self.folder = folder
        self.max_gb = max_gb
        self.sides = sides
        self._meaning = meaning
        self._taken = 0
        self._open: dict[tuple[str, str], Store | None] = {}
        self._claims: dict[str, Claims] = {}

    def claims(self, side: Side) -> Claims:
        """Of the blocks of a side, for all quantities together, which are made from one another."""
        if side.name not in self._claims:
            self._claims[side.name] = Claims(self._folder(side) / ".locks")
        return self._claims[side.name]

    def _folder(self, side: Side) -> Path:
        return self.folder / side.digest[:16]

    def store(
        self, side: Side, quantity: str, rows: Callable[[TokenItem], int], columns: Sequence[Column], instead: str
    ) -> Store | None:
        """The store of a quantity; None, and a line that says so, where it takes more room than there is.

        `instead`: what happens then.
        """
        key = side.name, quantity
        if key not in self._open:
            layout = Layout(side, rows, columns)
            folder = self._folder(side) / quantity
            if reason := self._too_large(folder, layout.size):
                _say(f"cache: {quantity} of {side.name} needs {_gb(layout.size)}, {reason}; {instead}")
                self._open[key] = None
            else:
                if not folder.exists():
                    _say(f"cache: {quantity} of {side.name} takes up to {_gb(layout.size)} in {folder}")
                meaning = {**self._meaning, "items": side.digest, "side": side.name, "quantity": quantity}
                self._open[key] = Store(folder, layout, meaning)
                self._taken += layout.size
        return self._open[key]

    def _too_large(self, folder: Path, size: int) -> str | None:
        """Why a file of so many bytes is not to be made."""
        if self._taken + size > self.max_gb * GB:
            taken = f" and {_gb(self._taken)} are taken" if self._taken else ""
            wanted = -(-(self._taken + size) // (GB // 1000)) / 1000
            return f"{self.max_gb:g} GB are allowed{taken}: set cache.max_gb={wanted:g} or more to keep it"
        rows = folder / "rows.bin"
        present = rows.stat().st_blocks * 512 if rows.is_file() else 0
        above = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(above).free
        return None if size - present <= free else f"{_gb(free)} are free: set cache.directory to a larger disk"


def _gb(size: int) -> str:
    return f"{size / GB:.3g} GB"


def _say(line: str) -> None:
    """On the main process."""
    if int(os.environ.get("RANK", "0")) == 0:
        print(line, flush=True)
