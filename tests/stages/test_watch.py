"""menard status --watch looks again until nothing is running or queued, on a terminal and through a pipe."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from menard_unlearn import cli
from menard_unlearn.run import RunDir


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def begun() -> RunDir:
    run = RunDir(Path("runs/s/npo"))
    run.write_config({"stage": "unlearn", "trainer": {"max_steps": 4}})
    run.append_history({"step": 1, "loss": 1.0})
    return run


def watching(*arguments: str, **streams: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "menard_unlearn", "status", "runs/s", "--watch", "every_s=0.2", *arguments]
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1]), "TERM": "xterm", "COLUMNS": "120"}
    return subprocess.Popen(command, env=environment, text=True, **streams)


def read_until(file: int, words: str) -> str:
    said, deadline = "", time.monotonic() + 120
    while words not in said:
        assert time.monotonic() < deadline, said
        said += os.read(file, 4096).decode(errors="replace")
    return said


@pytest.mark.parametrize("as_json", [False, True])
def test_watching_through_a_pipe_tells_what_changes_and_ends(as_json: bool) -> None:
    run = begun()
    with run.lock():
        process = watching(*(["--json"] if as_json else []), stdout=subprocess.PIPE)
        assert process.stdout is not None
        first = read_until(process.stdout.fileno(), "\n" if as_json else "1 run: 1 running")
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    if as_json:
        assert json.loads(first.splitlines()[0])["state"] == "running"
        assert json.loads(rest.splitlines()[-1])["state"] == "begun"
    else:
        assert "npo: running → begun" in rest and rest.endswith("1 run: 1 begun\n")


def test_watching_on_a_terminal_draws_in_place_and_leaves_quietly_at_ctrl_c() -> None:
    run = begun()
    ours, theirs = pty.openpty()
    with run.lock():
        process = watching(stdin=theirs, stdout=theirs, stderr=theirs)
        read_until(ours, "1 run: 1 running")
        run.append_history({"step": 3, "loss": 0.1})
        said = read_until(ours, "3/4")
        assert "\x1b[1A" in said, "the cursor goes up to where the table was"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    os.set_blocking(ours, False)
    left = os.read(ours, 65536).decode(errors="replace")
    os.close(ours)
    os.close(theirs)
    assert "Traceback" not in left and "interrupted" not in left
