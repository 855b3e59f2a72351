"""What a study's folder remembers survives kills and readers."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest

from menard_unlearn.errors import Busy
from menard_unlearn.launch.sweep import Entry, Payload, Sweep
from menard_unlearn.run import RunDir


def entry(run: str, job: str) -> Entry:
    return Entry(run, f"jobs/{run}.json", {"kind": "local"}, job, None, 0.0)


@pytest.mark.parametrize("torn", [b'{"run": "c", "payl', b"\n\n", b"\xff\x00", b'{"run": "c"}\n', b"7\n"])
def test_lines_that_a_kill_cut_off_are_passed_over(tmp_path: Path, torn: bytes) -> None:
    sweep = Sweep(tmp_path)
    sweep.append([entry("a", "1@h"), entry("b", "1@h")])
    with open(tmp_path / "jobs.jsonl", "ab") as file:
        file.write(torn)
    assert {run: known.job for run, known in sweep.entries().items()} == {"a": "1@h", "b": "1@h"}
    sweep.append([entry("b", "2@h"), entry("d", "2@h")])
    assert {run: known.job for run, known in sweep.entries().items()} == {"a": "1@h", "b": "2@h", "d": "2@h"}


def test_a_payload_is_read_as_it_was_kept(tmp_path: Path) -> None:
    payload = Payload("unlearn", "m", ("seed=1", "+x@_global_=experiment"), {"a": [1, None]}, str(tmp_path / "s/r"))
    sweep = Sweep.of(payload.directory)
    assert Payload.read(sweep.keep(payload)) == payload
    assert payload.told == "seed=1"


def test_a_directory_that_may_be_finished_twice_is_done_by_its_hash(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "s/r")
    first, second = (Payload("evaluate", "m", (), {}, str(run.path), name) for name in ("h1", "h2"))
    run.write_manifest("evaluate", config_hash="h1", inputs={}, seconds=0.0, peak_memory_mb=0.0)
    assert first.done and not second.done and Payload("evaluate", "m", (), {}, str(run.path)).done
    run.write_manifest("evaluate", config_hash="h2", inputs={}, seconds=0.0, peak_memory_mb=0.0)
    assert second.done and not first.done


def test_to_look_who_works_in_a_directory_keeps_nobody_out(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "s/r")
    with run.lock():
        pass
    with open(run.path / ".lock", "rb") as looking:  # what `holder` does, and menard status every second
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.02, lambda: fcntl.flock(looking, fcntl.LOCK_UN)).start()
        with run.lock(), pytest.raises(Busy, match="in use"), run.lock():
            pass
    assert run.holder() is None
