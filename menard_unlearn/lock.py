"""A file by which one process holds something against all others.

The kernel lets go of it when the process dies, however it dies; what the file says is for people.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

LOOK_SECONDS = (0.01, 0.03, 0.1)
"""Pauses before a lock that cannot be had counts as another process's."""


@contextlib.contextmanager
def locking(path: Path) -> Iterator[str | None]:
    """Hold the lock for as long as the context lasts, and give None; where another process has it, give that one's
    `<pid> on <host>` at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as file:
        if not _held(file):
            yield _text(file)
            return
        file.truncate(0)
        file.write(f"{os.getpid()} on {platform.node()}".encode())
        file.flush()
        yield None


@contextlib.contextmanager
def taking_turns(path: Path) -> Iterator[None]:
    """Hold the lock for as long as the context lasts, after waiting for whoever has it: for work of a moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def holder(path: Path) -> str | None:
    """`<pid> on <host>` of the process that holds the lock now, or None; empty where that has not said who it is."""
    try:
        with open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _text(file)
    except (FileNotFoundError, NotADirectoryError):
        pass
    return None


def _held(file: BinaryIO) -> bool:
    """Take the lock if it is free. Who only looks (`holder`) has it for an instant, which is no reason to give up."""
    for seconds in (*LOOK_SECONDS, None):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if seconds is not None:
                time.sleep(seconds)
    return False


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode()
