"""menard status, cancel and retry of sweeps on a real Slurm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cluster import CHECKOUT
from slurm_scenario import HERE, Scenario, until

from menard_unlearn.launch.fates import Fates
from menard_unlearn.launch.slurm_queue import ASK_SECONDS


def rows(scenario: Scenario) -> dict[str, dict[str, Any]]:
    """`x1` → what menard status --json says of it; the run's whole name is under `name`."""
    said = scenario.menard("status", str(scenario.runs / "default"), "--json")
    found = {}
    for row in map(json.loads, said.splitlines()):
        name = row["run"].rpartition("/")[2]
        found[name.partition("-")[0]] = {**row, "name": name}
    return found


def states(scenario: Scenario) -> dict[str, str]:
    return {x: row["state"] for x, row in rows(scenario).items()}


def test_status_while_jobs_run_and_after(scenario: Scenario) -> None:
    scenario.standin("x=1,2,3", "steps=200", "fail=2", "hydra.launcher.array_parallelism=2")
    scenario.running(1)
    until(lambda: states(scenario)["x2"] == "failed", 90, "the failure of x=2")
    found = rows(scenario)
    jobs = dict(zip(["x1", "x2", "x3"], scenario.job_ids(), strict=True))
    assert found["x1"]["state"] == "running" and found["x1"]["job"] == jobs["x1"]
    assert found["x1"]["queue_state"] == "RUNNING" and " on " in found["x1"]["held_by"]
    assert found["x2"]["why"] == "this x fails, as ordered" and found["x2"]["job"] is None
    assert found["x3"]["state"] in ("queued", "running") and found["x3"]["job"] == jobs["x3"]
    for row in found.values():
        assert scenario.runs.as_posix() in row["log"]
    assert "this x fails, as ordered" in Path(found["x2"]["log"]).read_text()
    # --watch returns when the last job has left, and asks nothing of the user
    said = scenario.menard("status", str(scenario.runs / "default"), "--watch", "every_s=1")
    assert said.endswith("3 runs: 2 finished, 1 failed\n")


def test_what_is_cancelled_has_saved_and_retry_finishes_it(scenario: Scenario) -> None:
    study = scenario.runs / "default"
    scenario.standin("x=1,2,3", "steps=400", "hydra.launcher.array_parallelism=2")
    scenario.running(2)
    before = rows(scenario)
    assert [row["state"] for row in before.values()] == ["running", "running", "queued"]
    chosen = [str(study / before[x]["name"]) for x in ("x1", "x3")]
    said = scenario.menard("cancel", *chosen)
    assert "cancelled, which saves and leaves" in said.splitlines()[0] and said.splitlines()[1].endswith(" cancelled")
    until(lambda: before["x1"]["job"] not in scenario.queue(), 60, "the end of x=1")
    found = rows(scenario)
    assert {x: row["state"] for x, row in found.items()} == {"x1": "begun", "x2": "running", "x3": "planned"}
    assert "CANCELLED" in found["x1"]["why"] and "CANCELLED" in found["x3"]["why"]
    (end,) = scenario.events("end")[before["x1"]["name"]]
    assert end["by"] is not None, "it was told to end, and wrote its last line itself"
    saved = int((study / before["x1"]["name"] / "saved").read_text())
    scenario.menard("cancel", str(study))
    scenario.drain()
    said = scenario.menard("retry", chosen[0], "launcher.timeout_min=7")
    assert "1 run: 1 to do" in said
    job = scenario.job(scenario.job_ids()[-1])
    assert job["TimeLimit"] == "00:07:00" and job["MinMemoryNode"] == "256M", "the rest is as it was launched"
    scenario.drain()
    assert scenario.events("start")[before["x1"]["name"]][-1]["step"] == saved
    assert states(scenario) == {"x1": "finished", "x2": "begun", "x3": "planned"}


def test_a_job_that_slurm_has_forgotten_is_told_of_at_once(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", str(scenario.cluster.conf))
    started, fates = time.monotonic(), Fates()
    fates.ask(["999990_1", "999991_1"])
    assert "Slurm has forgotten why" in fates.why("999990_1")
    assert time.monotonic() - started < ASK_SECONDS  # for one alone, if it was asked for again and again


def test_two_retries_and_a_launch_at_once_queue_a_run_once(scenario: Scenario) -> None:
    study = str(scenario.runs / "default")
    scenario.standin("x=1,2", "steps=30", "hard_kill=1")
    scenario.drain()
    assert states(scenario) == {"x1": "begun", "x2": "finished"}
    again = [sys.executable, str(HERE / "standin.py"), "-m", "x=1,2", "steps=30", f"runs_dir={scenario.runs}"]
    again += ["hydra/launcher=slurm", "hydra.launcher.mem_gb=0.25", "hydra.launcher.cpus_per_task=1"]
    retry = [sys.executable, "-m", "menard_unlearn", "retry", study]
    env = os.environ | {"PYTHONPATH": f"{HERE}:{CHECKOUT}", "SLURM_CONF": str(scenario.cluster.conf)}
    started = [subprocess.Popen(command, cwd=CHECKOUT, env=env) for command in (retry, again, retry)]
    assert [process.wait(timeout=300) for process in started] == [0, 0, 0]
    scenario.drain()
    assert states(scenario) == {"x1": "finished", "x2": "finished"} and len(scenario.entries()) == 3
    assert sorted(map(len, scenario.events().values())) == [1, 2]
