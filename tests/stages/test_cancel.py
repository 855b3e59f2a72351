"""menard cancel ends what was chosen and nothing else; all processes are real ones."""

from __future__ import annotations

import fcntl
import os
import platform
import time
from pathlib import Path

import pytest
import swept

from menard_unlearn import cli
from menard_unlearn.launch.sweep import Entry, Payload, Sweep
from menard_unlearn.run import RunDir

STUDY = "runs/default"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def saved(count: int) -> bool:
    return len(list(Path(STUDY).glob("*/saved"))) >= count


def held(run: RunDir, text: str) -> object:
    """The run's lock, held by this process in another's name."""
    run.write_config({"stage": "unlearn"})
    file = open(run.path / ".lock", "w")  # noqa: SIM115
    fcntl.flock(file, fcntl.LOCK_EX)
    file.write(text)
    file.flush()
    return file


def test_a_single_run_saves_leaves_and_is_resumed_by_the_same_command() -> None:
    process = swept.start("x=1", "steps=1000")
    swept.until(lambda: saved(1))
    assert f"process {process.pid} told to save and leave" in swept.menard("cancel", STUDY)
    process.communicate(timeout=120)
    assert process.returncode == 128 + 15
    assert swept.states(STUDY) == {"x1": "begun"}
    at = int(next(Path(STUDY).glob("*/saved")).read_text())
    assert at >= 10, "it has saved, and not only at its last multiple of ten"
    assert "nothing is queued or running (1 begun)" in swept.menard("cancel", STUDY)


def test_one_of_several_at_once_ends_alone_and_then_the_whole_launch() -> None:
    launch = swept.start("-m", "hydra/launcher=parallel", "hydra.launcher.jobs=2", "x=1,2,3,4", "steps=3000")
    swept.until(lambda: saved(2))
    first, last = swept.run_of(STUDY, 1), swept.run_of(STUDY, 4)
    said = swept.menard("cancel", first, last)
    assert "told to save and leave" in said.splitlines()[0]
    assert f"left alone: launch {launch.pid}@{platform.node()} would end with x2-" in said.splitlines()[1]
    swept.until(lambda: swept.states(STUDY)["x1"] == "begun")
    assert launch.poll() is None and swept.states(STUDY)["x2"] == "running"
    swept.until(lambda: saved(3))
    swept.menard("cancel", STUDY)
    launch.communicate(timeout=120)
    assert launch.returncode == 128 + 15
    assert swept.states(STUDY) == {"x1": "begun", "x2": "begun", "x3": "begun", "x4": "planned"}


def test_what_another_host_or_another_process_holds_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    stranger = os.getppid()
    there = held(RunDir(Path(STUDY, "there")), "12 on elsewhere")
    reused = held(RunDir(Path(STUDY, "reused")), f"{stranger} on {platform.node()}")
    assert cli.run(["cancel", STUDY]) == 0
    said = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert said["there"] == "left alone: held by 12 on elsewhere; type this there"
    assert said["reused"].startswith(f"left alone: {stranger} is no process of this host that holds {STUDY}/reused")
    assert there and reused


def test_jobs_of_slurm_are_not_cancelled_where_slurm_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    payload = Payload("unlearn", "menard_unlearn.stages.unlearn", (), {"stage": "unlearn"}, f"{STUDY}/npo")
    sweep = Sweep(Path(STUDY, ".sweep"))
    sweep.append([Entry("npo", str(sweep.keep(payload)), {"kind": "slurm"}, "12_3", "/logs/npo", time.time())])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.run(["cancel", STUDY]) == 2
    assert "squeue is not installed here: type this on a login node" in capsys.readouterr().err


@pytest.mark.parametrize("stage", ["cancel", "retry"])
def test_mistakes_are_said_in_a_line(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    RunDir(Path(STUDY, "npo-s0")).write_config({"stage": "unlearn"})
    Path("empty").mkdir()
    for place, words in {
        "nowhere/s": "nowhere/s is not there: give a study's folder, runs/<study>",
        "empty": "empty has no run: give a study's folder",
        "runs": f"runs is no study, it holds some: give {STUDY}",
        f"{STUDY}/npo-s1": f"{STUDY} has no run 'npo-s1' (did you mean npo-s0?); its runs: npo-s0",
    }.items():
        assert cli.run([stage, place]) == 2
        assert words in capsys.readouterr().err
    assert cli.run([stage]) == 2
    assert "no value for runs" in capsys.readouterr().err
