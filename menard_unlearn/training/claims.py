"""Who computes a block: one process of all that need it, while the others wait.

Locks save work and decide nothing: whoever computes a block writes the same bytes. So where a file system has no
locks, or a holder hangs, a block is computed twice and nothing is wrong.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from menard_unlearn.errors import UserError

STRIPES = 16
"""Lock files of a folder: so many blocks can be computed at the same moment."""
PATIENCE_SECONDS = 120.0
"""Without one block that was done or could be claimed. A file server may keep the locks of a node that went down."""
PAUSES = 0.002, 0.1
"""Seconds between two tries, at first and in the end."""


class Claims:
    """The locks of a folder, which the kernel takes from a process that dies.

    A process holds one at most, and under it computes and writes one block on its own. It never waits for another
    process then, neither for a lock nor in a collective operation, so that processes may need blocks in any order.
    """

    def __init__(self, folder: Path) -> None:
        """Nothing is created before something is claimed."""
        self.folder = folder
        self._holding = False
        self._said = False

    def settle(self, missing: Callable[[], Sequence[int]], work: Callable[[int], None]) -> None:
        """Return when nothing is missing. `work` computes and writes a block, after which it is missing no more."""
        if self._holding:  # a quantity is made from another one of the same block
            for block in missing():
                work(block)
            return
        began, pause = time.monotonic(), PAUSES[0]
        while waiting := missing():
            # All that are free first: processes that need the same blocks share them
            free = [block for block in waiting if self._try(block, missing, work)]
            if free:
                began, pause = time.monotonic(), PAUSES[0]
            elif time.monotonic() - began > PATIENCE_SECONDS:
                self._say(f"cache: somebody has held {self._path(waiting[0])} for {PATIENCE_SECONDS:g} s; going on")
                work(waiting[0])
            else:
                time.sleep(pause)
                pause = min(2 * pause, PAUSES[1])

    def _try(self, block: int, missing: Callable[[], Sequence[int]], work: Callable[[int], None]) -> bool:
        """Whether nobody else is at work on it; then it is done now, if it is still missing."""
        with self._lock(block) as held:
            if held and block in missing():
                self._holding = True
                try:
                    work(block)
                finally:
                    self._holding = False
            return held

    @contextlib.contextmanager
    def _lock(self, block: int) -> Iterator[bool]:
        """Whether the lock is held now; waits for nobody."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = open(self._path(block), "ab")  # noqa: SIM115
        except OSError as error:
            raise UserError(
                f"cannot write in {self.folder} ({error.strerror}): make room or give rights, "
                "or set cache.directory=null"
            ) from error
        with file:
            held = self._flock(file)
            try:
                yield held
            finally:
                if held:
                    # Not by closing alone: a process that was forked meanwhile has the file open, too
                    with contextlib.suppress(OSError):
                        fcntl.flock(file, fcntl.LOCK_UN)

    def _flock(self, file: BinaryIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            self._say(f"cache: {self.folder} has no file locks ({error.strerror}): jobs may compute the same twice")
        return True

    def _path(self, block: int) -> Path:
        return self.folder / f"{block % STRIPES:02d}.lock"

    def _say(self, line: str) -> None:
        """Once."""
        if not self._said:
            print(line, flush=True)
        self._said = True
