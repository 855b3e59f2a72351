"""The run directory survives crashes, and its name depends on what is computed and on nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from menard_unlearn import files
from menard_unlearn.errors import UserError
from menard_unlearn.files import digest_file, digest_files, digest_text, write_json
from menard_unlearn.memory import peak_memory_mb, reset_peak_memory
from menard_unlearn.run import RunDir, run_id

CONFIG = {"method": {"name": "npo", "beta": 0.1, "layers": [1, 2]}, "seed": 0}
INPUTS = {"model": "m", "data": "d"}


def test_run_id_is_the_same_on_every_machine():
    assert run_id(CONFIG, INPUTS) == "30d9d79e606e01cf"


def test_run_id_ignores_order_number_type_and_volatile_keys():
    reordered = {"seed": 0.0, "method": {"layers": (1, 2), "beta": 0.1, "name": "npo"}}
    volatile = {"tracking": {"mode": "online"}, "cache": 1, "hydra": {}, "runs_dir": "x", "study": "s", "resume": False}
    assert run_id(reordered, {"data": "d", "model": "m"}) == run_id(CONFIG, INPUTS)
    assert run_id({**CONFIG, **volatile}, INPUTS) == run_id(CONFIG, INPUTS)


@pytest.mark.parametrize(
    ("config", "inputs"),
    [
        ({**CONFIG, "seed": 1}, INPUTS),
        ({**CONFIG, "seed": False}, INPUTS),
        ({**CONFIG, "method": {**CONFIG["method"], "layers": [2, 1]}}, INPUTS),
        ({**CONFIG, "extra": None}, INPUTS),
        (CONFIG, {**INPUTS, "model": "other weights"}),
    ],
)
def test_run_id_changes_with_what_is_computed(config: dict, inputs: dict):
    assert run_id(config, inputs) != run_id(CONFIG, INPUTS)


def test_digests_are_of_contents(tmp_path: Path):
    (tmp_path / "a.txt").write_text("één")
    (tmp_path / "b.txt").write_text("two")
    both = [tmp_path / "a.txt", tmp_path / "b.txt"]
    assert digest_file(both[0]) == digest_text("één")
    before = digest_files(both)
    assert digest_files(both[::-1]) == before
    both[1].write_text("two!")
    assert digest_files(both) != before


def test_write_json_refuses_nan_by_place_and_keeps_the_old_file(tmp_path: Path):
    path = tmp_path / "deep" / "x.json"
    write_json(path, {"a": 1, "text": "ñ"})
    with pytest.raises(ValueError, match=r"b\.1 is nan"):
        write_json(path, {"b": [1.0, float("nan")]})
    with pytest.raises(ValueError, match="c is inf"):
        write_json(path, {"c": np.float64("inf")})
    assert json.loads(path.read_text()) == {"a": 1, "text": "ñ"}


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_crash_before_the_rename_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str):
    path = tmp_path / "x.json"
    write_json(path, {"version": 1})

    def crash(*_: object) -> None:
        raise OSError("the disk went away")

    monkeypatch.setattr(files.os, step, crash)
    with pytest.raises(OSError, match="went away"):
        write_json(path, {"version": 2})
    assert json.loads(path.read_text()) == {"version": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "x.json"
    write_json(path, {"version": 1})
    child = "import os, sys; from menard_unlearn import files\n" + (
        f"files.os.fsync = lambda _: os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
        f"files.write_json({str(path)!r}, {{'version': 2}})"
    )
    assert subprocess.run([sys.executable, "-c", child], check=False).returncode == -signal.SIGKILL
    assert json.loads(path.read_text()) == {"version": 1}


def test_history_drops_a_torn_last_line_on_reading_and_before_appending(tmp_path: Path):
    run = RunDir(tmp_path / "run")
    assert run.read_history() == []
    for step in (1, 2, 3):
        run.append_history({"step": step, "loss": step / 2})
    with open(run.history_path, "a") as file:
        file.write('{"step": 4, "lo')
    assert [row["step"] for row in run.read_history()] == [1, 2, 3]
    run.append_history({"step": 4, "loss": 2.0})
    assert [row["step"] for row in run.read_history()] == [1, 2, 3, 4]
    run.truncate_history(after_step=2)
    assert run.read_history() == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 1.0}]


def test_history_with_a_broken_line_inside_is_refused(tmp_path: Path):
    run = RunDir(tmp_path)
    run.history_path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(UserError, match=r"history\.jsonl:2"):
        run.read_history()


def test_history_refuses_nan(tmp_path: Path):
    with pytest.raises(ValueError, match="loss is nan"):
        RunDir(tmp_path).append_history({"step": 1, "loss": float("nan")})


def test_manifest_says_finished_and_names_versions(tmp_path: Path):
    run = RunDir(tmp_path / "run")
    assert run.manifest("unlearn") is None and not run.finished("unlearn")
    run.write_manifest("unlearn", config_hash="h", inputs=INPUTS, seconds=1.5, peak_memory_mb=9.0, results={"steps": 3})
    manifest = run.manifest("unlearn")
    assert run.finished("unlearn") and not run.finished("evaluate") and manifest is not None
    assert manifest["config_hash"] == "h" and manifest["inputs"] == INPUTS and manifest["results"] == {"steps": 3}
    assert manifest["versions"]["python"] and manifest["versions"]["torch"]


def test_config_comes_back_as_it_was(tmp_path: Path):
    run = RunDir(tmp_path / "run")
    with pytest.raises(UserError, match="not a run directory"):
        run.read_config()
    config = {"seed": 0, "lr": 1e-5, "name": "ñ", "none": None, "date": "1939-12-31", "list": [1, {"a": True}]}
    run.write_config(config)
    assert run.read_config() == config


def test_the_lock_keeps_other_processes_out_and_dies_with_its_holder(tmp_path: Path):
    run = RunDir(tmp_path / "run")
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import time, pathlib; from menard_unlearn.run import RunDir\n"
            f"with RunDir(pathlib.Path({str(run.path)!r})).lock():\n    print('held', flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"process {child.pid} on "), run.lock():
            pass
        assert (run.holder() or "").startswith(f"{child.pid} on ")
    finally:
        child.kill()
        child.communicate()
    assert run.holder() is None
    with run.lock():
        assert (run.holder() or "").startswith(f"{os.getpid()} on ")
    with run.lock():
        pass


def test_peak_memory_starts_anew_for_the_next_job():
    block = np.ones(200 * 2**17)  # 200 MiB
    peak = peak_memory_mb()
    del block
    reset_peak_memory()
    assert peak_memory_mb() < peak - 150
