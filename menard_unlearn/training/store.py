"""Tables of numbers for many items in one file, filled block by block by any number of processes and nodes.

A block's bytes depend on the model and the items alone, so it does not matter who writes them, nor how often: rows
first, flushed to the disk, then a check of each item's rows in a second file, which says that they are there.

On a network file system a node sees what another has written once it opens the file anew, and may see zeros before; so
files are opened anew for what was not there before, never mapped, and what is read is compared with its check. Writes
are synchronous ones: others may be extended to a whole page, with the bytes of a neighbour as this node remembers them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor

from menard_unlearn.errors import UserError
from menard_unlearn.files import write_json
from menard_unlearn.training.layout import Layout

CREATING = threading.Lock()
"""Among threads, whose JSON files would be written aside under one name."""


class Store:
    """One quantity of one side, in `<folder>/{rows.bin,checks.bin,key.json}`."""

    def __init__(self, folder: Path, layout: Layout, meaning: dict[str, Any]) -> None:
        """Open or create. Raises UserError where the folder holds something else, or not all of it."""
        self.folder = folder
        self.layout = layout
        self._checks = np.zeros(len(layout.rows), dtype=np.uint64)
        """Of each item's rows; 0 where this process knows of none."""
        self._suspected: set[int] = set()
        """Blocks of which something did not fit its check."""
        self._rows: Descriptor | None = None
        columns = [[column.width, str(column.dtype)] for column in layout.columns]
        key = meaning | {"columns": columns, "bytes": layout.size, "items": len(layout.rows)}
        with CREATING:
            self._create(key, {"rows.bin": layout.size, "checks.bin": self._checks.nbytes})

    def _create(self, key: dict[str, Any], sizes: Mapping[str, int]) -> None:
        """Several processes may do this at once: none of them takes away what another has written."""
        known = self.folder / "key.json"
        with self._telling("write in", "free some space"):
            self.folder.mkdir(parents=True, exist_ok=True)
            new = not known.is_file()
            if not new and _read_json(known) != key:
                raise UserError(
                    f"{self.folder} is the cache of something else (its key.json differs): delete that folder"
                )
            for name, size in sizes.items():
                # As if to create it: an ordinary look-up may answer from before another node created it
                file = Descriptor(self.folder / name, os.O_RDWR | os.O_CREAT)
                present = os.fstat(file.number).st_size
                if present != size and not new:
                    raise UserError(f"{self.folder / name} has {present} bytes instead of {size}: delete {self.folder}")
                if present != size:
                    os.ftruncate(file.number, size)
                file.close()
            if new:
                write_json(known, key)

    @contextlib.contextmanager
    def _telling(self, what: str, advice: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cannot {what} {self.folder} ({error.strerror}): {advice}, or set cache.directory=null"
            ) from error

    def missing(self, ids: Sequence[str]) -> list[int]:
        """The blocks that hold these items and are not filled, in order."""
        side = self.layout.side
        unknown = {side.place[id][0] for id in ids if not self._checks[side.number[id]]}
        if unknown or self._suspected:
            self._look_again()
            unknown = {side.place[id][0] for id in ids if not self._checks[side.number[id]]}
        return sorted(unknown | {block for block in self._suspected if not self._whole(block)})

    def _look_again(self) -> None:
        """Take what the file says now; rows are then read as they are now, too."""
        with self._telling("read", "delete that folder"):
            file = Descriptor(self.folder / "checks.bin", os.O_RDONLY)
            _read(file, memoryview(self._checks.view(np.uint8)), 0)  # pyright: ignore[reportArgumentType]
            file.close()
        if self._rows is not None:
            self._rows.close()
            self._rows = None

    def _whole(self, block: int) -> bool:
        """Whether all items of a block fit their checks by now; then it is suspected no more."""
        whole = all(self._fits(item.id, self._bytes(item.id)) for item in self.layout.side.blocks[block])
        if whole:
            self._suspected.discard(block)
        return whole

    def write(self, block: int, values: Sequence[Tensor]) -> None:
        """Fill a block: for each column, the rows of its items one after another. UserError for a full disk."""
        columns, starts = self.layout.columns, self.layout.starts[block]
        data = bytearray(starts[-1] - starts[0])
        for start, column, values_RD in zip(starts[:-1], columns, values, strict=True):
            raw = values_RD.detach().to("cpu", column.dtype).contiguous().view(torch.uint8)
            if raw.numel() != self.layout.counts[block] * column.size:
                raise ValueError(f"{self.folder}: block {block} needs {self.layout.counts[block]} rows")
            data[start - starts[0] : start - starts[0] + raw.numel()] = raw.numpy().data.cast("B")
        items, view = self.layout.side.blocks[block], memoryview(data)
        checks = [
            _check(view[at - starts[0] : at - starts[0] + n] for at, n in self.layout.pieces(item.id)) for item in items
        ]
        first = self.layout.side.number[items[0].id]
        new = np.array(checks, dtype=np.uint64)
        with self._telling("write in", "free some space"):
            _write(self.folder / "rows.bin", data, starts[0])
            _write(self.folder / "checks.bin", new.tobytes(), first * new.itemsize)
        self._checks[first : first + len(new)] = new
        if block in self._suspected:
            print(f"cache: block {block} in {self.folder} was not as it had been written; computed anew", flush=True)
            self._suspected.discard(block)

    def read(self, ids: Sequence[str]) -> list[Tensor] | None:
        """values_ND of each column: the rows of these items, one item after another, as they lie in the file.

        None where some do not fit their check; `missing` then names their block, unless it is whole by now.
        """
        spans = [self.layout.rows[id] for id in ids]
        n = sum(end - first for first, end in spans)
        found = [torch.empty(n, column.width, dtype=column.dtype) for column in self.layout.columns]
        views = [values_ND.view(torch.uint8).numpy().data.cast("B") for values_ND in found]
        at, fits = 0, True
        for id, (first, end) in zip(ids, spans, strict=True):
            parts = [
                view[at * column.size : (at + end - first) * column.size]
                for view, column in zip(views, self.layout.columns, strict=True)
            ]
            self._fetch(id, parts)
            if not self._fits(id, parts):
                self._suspected.add(self.layout.side.place[id][0])
                fits = False
            at += end - first
        return found if fits else None

    def _bytes(self, id: str) -> list[memoryview]:
        parts = [memoryview(bytearray(size)) for _, size in self.layout.pieces(id)]
        self._fetch(id, parts)
        return parts

    def _fetch(self, id: str, parts: Sequence[memoryview]) -> None:
        """Fill the parts with the item's rows of each column."""
        with self._telling("read", "delete that folder"):
            if self._rows is None:
                self._rows = Descriptor(self.folder / "rows.bin", os.O_RDONLY)
            for part, (start, _) in zip(parts, self.layout.pieces(id), strict=True):
                _read(self._rows, part, start)

    def _fits(self, id: str, parts: Sequence[memoryview]) -> bool:
        return _check(parts) == int(self._checks[self.layout.side.number[id]])


class Descriptor:
    """A file that is open for as long as the object lives."""

    def __init__(self, path: Path, flags: int) -> None:
        self.number = os.open(path, flags | os.O_CLOEXEC, 0o666)
        self.close = weakref.finalize(self, os.close, self.number)
        """Now already."""


def _read(file: Descriptor, view: memoryview, at: int) -> None:
    while len(view):
        n = os.preadv(file.number, [view], at)
        if n == 0:
            raise OSError(errno.EIO, "a file is shorter than it was")
        view, at = view[n:], at + n


def _write(path: Path, data: bytes | bytearray, at: int) -> None:
    """Return when it is on the disk."""
    file = Descriptor(path, os.O_WRONLY | os.O_DSYNC)
    view = memoryview(data)
    while len(view):
        n = os.pwrite(file.number, view, at)
        view, at = view[n:], at + n
    file.close()


def _check(parts: Iterable[memoryview]) -> int:
    """64 bits of the bytes, never 0."""
    found = xxhash.xxh3_64()
    for part in parts:
        found.update(part)
    return found.intdigest() or 1


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
