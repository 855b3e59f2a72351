"""Sweeps of the stand-in stage of tests/slurm, which imports no torch, and what is left of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STANDIN = Path(__file__).resolve().parents[1] / "slurm" / "standin.py"
STUDY = "default"


def until(condition: Callable[[], object], what: str, seconds: float = 120.0) -> None:
    """Wait for the condition to hold; fails where it does not in this time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)


@dataclass(frozen=True)
class Sweeps:
    """The folder of one test's runs."""

    runs: Path

    def given(self, *arguments: str, launcher: str = "local") -> list[str]:
        """Arguments of a sweep; x tells one run from another, a run takes 0.1 s a step."""
        return ["-m", *arguments, f"runs_dir={self.runs}", f"hydra/launcher={launcher}"]

    def begin(self, *arguments: str, launcher: str = "local", **env: str) -> subprocess.Popen[str]:
        """Launch a sweep in a process of its own, as the leader of a group as a shell would make it."""
        return subprocess.Popen(
            [sys.executable, str(STANDIN), *self.given(*arguments, launcher=launcher)],
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )

    def run(self, x: int) -> Path:
        """The directory of a run, which has to be there."""
        (found,) = self.runs.glob(f"{STUDY}/x{x}-*")
        return found

    def events(self, x: int, event: str = "start") -> list[dict[str, Any]]:
        """What the run noted: a start an attempt, an end where it was not killed."""
        files = list(self.runs.glob(f"{STUDY}/x{x}-*/events.jsonl"))
        rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return [row for row in rows if row["event"] == event]

    def starts(self, *xs: int) -> list[int]:
        """How often each of these was begun."""
        return [len(self.events(x)) for x in xs]

    def finished(self) -> list[int]:
        """The x of the runs that have ended well."""
        files = self.runs.glob(f"{STUDY}/*/standin.manifest.json")
        return sorted(json.loads(file.read_text())["results"]["x"] for file in files)

    def saved(self, count: int) -> None:
        """Wait until so many runs have saved for the first time, after their tenth step."""
        until(lambda: len(list(self.runs.glob(f"{STUDY}/*/saved"))) >= count, f"{count} runs that have saved")


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    """All that the command printed, once it has ended with this exit code."""
    said = process.communicate(timeout=240)[0]
    assert process.returncode == code, f"exit code {process.returncode}\n{said}"
    return said
