"""menard status tells finished, running and begun runs apart by what is on the disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from menard_unlearn import cli
from menard_unlearn.run import RunDir


def make_run(path: Path, steps: int, *, finished: bool) -> RunDir:
    run = RunDir(path)
    path.mkdir(parents=True)
    run.write_config({"stage": "unlearn", "trainer": {"max_steps": 4}})
    for step in range(1, steps + 1):
        run.append_history({"step": step, "loss": 1.0})
    if finished:
        run.write_manifest("unlearn", config_hash="h", inputs={}, seconds=2.5, peak_memory_mb=1.0)
    return run


def test_the_three_states_in_both_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs/s/npo", 4, finished=True)
    make_run(tmp_path / "runs/s/rmu", 2, finished=False)
    (tmp_path / "runs/s/.hydra").mkdir()
    with make_run(tmp_path / "runs/t/ga", 0, finished=False).lock():
        assert cli.run(["status", "--json"]) == 0
        rows = {Path(row["run"]).name: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
        assert cli.run(["status", "runs/t"]) == 0
        assert "running (" in capsys.readouterr().out
    assert {name: (row["state"], row["step"], row["seconds"]) for name, row in rows.items()} == {
        "npo": ("finished", 4, 2.5),
        "rmu": ("begun", 2, None),
        "ga": ("running", None, None),
    }
    assert rows["npo"]["max_steps"] == 4 and rows["npo"]["age_seconds"] < 60
    assert cli.run(["status", "runs/s"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and "2/4" in lines[2] and "begun" in lines[2] and "finished" in lines[1]


def test_a_folder_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["status"]) == 2
    assert capsys.readouterr().err == "error: no folder runs: give runs/<study>, or the folder that holds the studies\n"
