"""Runs that a signal ends are taken up by the same command, and end in the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_study import Study, same_weights, the_run

from menard_unlearn import cli
from menard_unlearn.run import RunDir

AT = 3
"""Between the checkpoints of steps 2 and 4."""
CASES = {
    "killed": (signal.SIGKILL, -signal.SIGKILL),
    "stopped": (signal.SIGINT, 130),
    "preempted": (signal.SIGTERM, 143),
}


@pytest.fixture(scope="module")
def ended(study: Study, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, int, str]]:
    """By case: the folder of runs, the exit code, and what all of them wrote to stderr."""
    folder = tmp_path_factory.mktemp("ended")
    cases = [(int(number), AT, study.unlearning(folder / name)) for name, (number, _) in CASES.items()]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("signalled.py")), json.dumps(cases)],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    codes = [int(line) for line in done.stdout.split()]
    assert len(codes) == len(CASES), done.stderr
    return {name: (folder / name, code, done.stderr) for name, code in zip(CASES, codes, strict=True)}


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_a_signal_ended_ends_in_the_same_bits(
    study: Study, finished: Path, ended: dict[str, tuple[Path, int, str]], case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, code, _ = ended[case]
    run = RunDir(the_run(runs))
    assert code == CASES[case][1] and run.path.name == finished.name
    assert not run.finished("unlearn") and run.holder() is None
    assert [row["step"] for row in run.read_history()] == [1, 2, 3]
    assert cli.run(["status", str(runs)]) == 0 and "begun" in capsys.readouterr().out
    # a kill loses the steps since the last checkpoint, a signal that can be caught none
    saved = {path.name for path in run.checkpoints_dir.glob("checkpoint-*")}
    assert saved == {"checkpoint-2" if case == "killed" else "checkpoint-3"}
    assert cli.run(study.unlearning(runs)) == 0 and run.finished("unlearn")
    assert same_weights(run.path, finished)
    for name in ("history.jsonl", "evaluation/items.jsonl", "evaluation/cutoff.json"):
        assert (run.path / name).read_bytes() == (finished / name).read_bytes(), name


def test_ctrl_c_says_in_a_line_that_the_run_can_be_resumed(ended: dict[str, tuple[Path, int, str]]) -> None:
    stderr = ended["stopped"][2]
    assert "interrupted: what was written is kept; the same command resumes it\n" in stderr
    assert "Traceback" not in stderr
