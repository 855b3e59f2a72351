"""Checkpoints that are whole or not there.

One is written into a folder aside, sealed with a list of its files and their sizes, and renamed. What a killed
process left behind lies aside or lacks its seal, and is passed over.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from menard_unlearn.errors import UserError, in_one_line

SEAL = "complete.json"
DELTA = "delta.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint."""

    path: Path
    step: int
    """Optimizer steps done."""
    seconds: float
    """Training time up to here, over all sessions."""
    stopped: str | None
    """Why training ended here before max_steps, where it did."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run."""

    folder: Path

    def path(self, step: int) -> Path:
        """Where a complete one lies."""
        return self.folder / f"checkpoint-{step}"

    def begin(self, step: int) -> Path:
        """An empty folder aside for the files of a checkpoint."""
        aside = self.aside(step)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        return aside

    def aside(self, step: int) -> Path:
        """Where one lies that is being written."""
        return self.folder / f".checkpoint-{step}"

    def complete(self, step: int, seconds: float, stopped: str | None) -> None:
        """Flush the files, seal the folder and give it its name."""
        aside = self.aside(step)
        files = sorted(path for path in aside.iterdir() if path.is_file())
        seal = {"seconds": seconds, "stopped": stopped, "files": {path.name: path.stat().st_size for path in files}}
        (aside / SEAL).write_text(json.dumps(seal))
        for path in (*files, aside / SEAL, aside):
            flush(path)
        shutil.rmtree(self.path(step), ignore_errors=True)
        aside.replace(self.path(step))
        flush(self.folder)

    def newest(self) -> Checkpoint | None:
        """The complete checkpoint of the latest step."""
        return max(self.all(), key=lambda checkpoint: checkpoint.step, default=None)

    def all(self) -> Iterator[Checkpoint]:
        """The complete ones, in no order."""
        for path in self.folder.glob("checkpoint-*"):
            number = re.fullmatch(r"checkpoint-(\d+)", path.name)
            seal = read_seal(path)
            if number is not None and seal is not None:
                yield Checkpoint(path, int(number[1]), seal["seconds"], seal["stopped"])

    def keep(self, *steps: int | None) -> None:
        """Delete the checkpoints of other steps, and what was never completed."""
        kept = {self.path(step) for step in steps if step is not None}
        for pattern in ("checkpoint-*", ".checkpoint-*"):
            for path in self.folder.glob(pattern):
                if path not in kept:
                    shutil.rmtree(path, ignore_errors=True)


def read_seal(path: Path) -> dict | None:
    """The seal, or None where it is missing or does not fit the files."""
    try:
        seal = json.loads((path / SEAL).read_text())
        whole = all((path / name).stat().st_size == size for name, size in seal["files"].items())
    except (OSError, ValueError):
        return None
    return seal if whole else None


def flush(path: Path) -> None:
    """Have the file or folder on the disk before what follows."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing(path: Path, checkpoints: Checkpoints) -> Iterator[None]:
    """Turn what the disk refuses into one line that says where, how much is free, and what is safe."""
    try:
        yield
    # torch and safetensors have exceptions of their own for a full disk.
    except (OSError, RuntimeError, SafetensorError) as error:
        free = shutil.disk_usage(path if path.exists() else checkpoints.folder.parent).free
        reason = in_one_line(error)
        raise UserError(
            f"cannot write {path}: {reason}; {free / 1e6:,.0f} MB are free there; {describe(checkpoints)}: "
            "free some space and run the same command again"
        ) from error


def describe(checkpoints: Checkpoints) -> str:
    """What there is to go back to, in words."""
    newest = checkpoints.newest()
    return (
        "no checkpoint was saved yet"
        if newest is None
        else f"the checkpoint of step {newest.step} is kept ({newest.path})"
    )
