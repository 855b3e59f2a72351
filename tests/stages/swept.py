"""Sweeps of the stage that trains nothing, in processes of their own, with the runs in the present folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
STANDIN = CHECKOUT / "tests/slurm/standin.py"


def start(*arguments: str) -> subprocess.Popen[str]:
    """Launch `python standin.py <arguments>`; returns at once."""
    return _start(str(STANDIN), *arguments)


def launch(*arguments: str) -> str:
    """Launch, and wait for the end, however it ends; returns all that is printed."""
    return start(*arguments).communicate(timeout=240)[0]


def start_menard(*arguments: str) -> subprocess.Popen[str]:
    """`menard <arguments>`; returns at once."""
    return _start("-m", "menard_unlearn", *arguments)


def menard(*arguments: str, code: int = 0) -> str:
    """`menard <arguments>`; returns all that it prints, and fails at another exit code."""
    process = start_menard(*arguments)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == code, f"exit code {process.returncode}\n{said}"
    return said


def _start(*arguments: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(STANDIN.parent), str(CHECKOUT)])
    environment = {**os.environ, "PYTHONPATH": path}
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, *arguments], env=environment, **streams)


def until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait for the condition to hold; fails where it does not in this time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:.0f} s"
        time.sleep(0.1)


def states(study: str) -> dict[str, str]:
    """`x1` → its state, as menard status tells."""
    rows = map(json.loads, menard("status", study, "--json").splitlines())
    return {Path(row["run"]).name.partition("-")[0]: row["state"] for row in rows}


def run_of(study: str, x: int) -> str:
    """Path of the run of this x, once its job is written or it has a directory."""
    found = [*Path(study, ".sweep/jobs").glob(f"x{x}-*.json"), *Path(study).glob(f"x{x}-*")]
    return str(Path(study) / found[0].stem)


def starts(study: str) -> dict[str, int]:
    """`x1` → how often an attempt at it was begun."""
    return {
        file.parent.name.partition("-")[0]: file.read_text().count('"event": "start"')
        for file in Path(study).glob("*/events.jsonl")
    }
