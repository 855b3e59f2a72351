"""What the processes of a training leave for the one that started them. They themselves: test_distributed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from menard_unlearn.cores import cores
from menard_unlearn.errors import UserError
from menard_unlearn.run import RunDir
from menard_unlearn.training.session import Session, local_threads
from menard_unlearn.training.torchrun import Machines


def session(folder: Path) -> Session:
    found = Session(RunDir(folder))
    found.clear()
    return found


def test_of_several_errors_the_one_that_the_user_can_mend_is_told(tmp_path: Path) -> None:
    own = session(tmp_path)
    assert "torchrun ended with code 3 before a process began" in str(own.why(3))
    for rank in range(4):
        own.end(rank, "begun")
    own.end(0, "stopped")
    own.end(1, "error", RuntimeError("Connection closed\nby peer"))
    assert str(own.why(1)).startswith("process 2 was killed")
    for rank in (2, 3):
        own.end(rank, "stopped")
    assert str(own.why(1)).startswith("process 1 ended by RuntimeError: Connection closed by peer; no checkpoint was")
    own.end(3, "error", UserError("forget is nan at step 7"))
    assert str(own.why(1)) == "forget is nan at step 7"


def test_rows_are_read_as_they_come_and_whole(tmp_path: Path) -> None:
    own = session(tmp_path)
    assert own.rows(0) == ([], 0)
    own.append_row({"step": 1, "phase": "é"})
    rows, offset = own.rows(0)
    assert rows == [{"step": 1, "phase": "é"}]
    with open(own.rows_path, "a") as file:
        file.write('{"step": 2')
    assert own.rows(offset) == ([], offset)
    with open(own.rows_path, "a") as file:
        file.write("}\n")
    assert own.rows(offset)[0] == [{"step": 2}]


def test_each_process_has_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert [local_threads(count) for count in (1, 2, 8)] == [7, 3, 1]
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert local_threads(1) == cores()
    monkeypatch.delattr(os, "sched_getaffinity")  # which macOS has not
    assert local_threads(1) >= 1


def test_a_slurm_step_says_how_many_machines_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch script has SLURM_JOB_NUM_NODES too, and runs on the first machine alone."""
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    assert Machines.of_this_step() == Machines(1, 0)
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    monkeypatch.setenv("SLURM_NODEID", "1")
    assert Machines.of_this_step() == Machines(2, 1)
