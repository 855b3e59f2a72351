"""What went wrong in a job, in the words that the user gets."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from menard_unlearn.errors import UserError, in_one_line

UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)
"""What a folder says that is not the user's to write in, or no folder."""


class Failed(UserError):
    """Jobs of a sweep failed, each reported when it did."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} failed (see above); the same command runs what is left and skips what is done")
        self.count = count


def foreseen(error: Exception, config: Mapping[str, Any]) -> Exception:
    """The error itself, or, of a disk that is full or cannot be written, one line that says where and what to do."""
    if isinstance(error, OSError) and error.errno in UNWRITABLE and error.filename is not None:
        return UserError(f"{error.filename}: {error.strerror}: name another place (runs_dir=, to=), or mend this one")
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, UserError) or not (full or "No space left on device" in str(error)):
        return error
    # Libraries that write in Rust or C++ keep the path to themselves; the run's folder is then the best guess.
    path = getattr(error, "filename", None) or Path(str(config.get("runs_dir", "."))) / str(config.get("study", ""))
    return UserError(f"no space left on the disk of {path}: free some, then run the same command to resume")


def report(error: Exception, job: str) -> None:
    """Print what went wrong; a traceback only where nobody foresaw it."""
    if not isinstance(error, UserError):
        traceback.print_exception(error)
    print(f"error: {job}: {in_one_line(error)}", file=sys.stderr, flush=True)


def refuse(failed: int) -> None:
    """Raise the error at the end of a sweep, `Failed`, where jobs failed."""
    if failed:
        raise Failed(failed)
