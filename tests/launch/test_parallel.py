"""Jobs of the parallel launcher: each by itself, and all of them obedient."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from sweeping import Sweeps, ended, until

from menard_unlearn.cores import cores, threads
from menard_unlearn.launch.resources import DEVICES, THREADS
from menard_unlearn.run import RunDir

SMI = "#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-aa)'\necho 'GPU 1: NVIDIA H200 (UUID: GPU-bb)'\n"


def test_failed_and_killed_jobs_are_told_of_and_take_no_other_with_them(
    menard: Callable[..., tuple[int, str]], sweeps: Sweeps
) -> None:
    jobs = "hydra.launcher.jobs=4"
    code, said = menard("x=1,2,3,4", "steps=12", "fail=2", "hard_kill=3", jobs, launcher="parallel")
    errors = {line.partition(" (x=")[0]: line for line in said.splitlines() if line.startswith("error: ")}
    assert code == 2 and said.splitlines()[-1].startswith("error: 2 failed")
    assert sweeps.finished() == [1, 4] and sweeps.starts(1, 2, 3, 4) == [1, 1, 1, 1]

    logs = {x: sweeps.runs / "default/.sweep/logs" / f"{sweeps.run(x).name}.log" for x in (1, 2, 3, 4)}
    assert "this x fails, as ordered" in errors["error: job 1"] and f"(log: {logs[2]})" in errors["error: job 1"]
    assert "ended by SIGKILL" in errors["error: job 2"] and f"(log: {logs[3]})" in errors["error: job 2"]
    assert "Traceback" in logs[2].read_text() and "Traceback" not in said
    for x in (2, 3):  # the reason is there for menard status, too
        failure = RunDir(sweeps.run(x)).failure()
        assert failure is not None and str(logs[x]) in str(failure)

    code, said = menard("x=1,2,3,4", "steps=12", jobs, launcher="parallel")
    assert code == 0 and "4 runs: 2 finished, 2 to do\n" in said and sweeps.finished() == [1, 2, 3, 4]
    assert [row["step"] for row in sweeps.events(3)] == [0, 10] and RunDir(sweeps.run(3)).failure() is None


@pytest.mark.parametrize(
    ("number", "code", "told"),
    [(signal.SIGINT, 130, signal.SIGINT), (signal.SIGTERM, 143, signal.SIGTERM), (signal.SIGHUP, 129, signal.SIGTERM)],
)
def test_a_signal_reaches_the_jobs_which_save_and_leave(
    sweeps: Sweeps, number: signal.Signals, code: int, told: signal.Signals
) -> None:
    process = sweeps.begin("x=1,2,3", "steps=900", "child=true", "hydra.launcher.jobs=2", launcher="parallel")
    sweeps.saved(2)
    os.killpg(process.pid, number)  # to all of the foreground, as a terminal does
    said = ended(process, code)
    begun = [x for x in (1, 2, 3) if sweeps.events(x)]
    assert len(begun) == 2 and not sweeps.finished() and "Traceback" not in said and "error" not in said
    for x in begun:
        (end,) = sweeps.events(x, "end")
        assert end["by"] == told and end["child"], "what a job has started is not for the terminal to end"
        run = RunDir(sweeps.run(x))
        assert run.holder() is None and run.failure() is None and int((run.path / "saved").read_text()) >= 10
    again = sweeps.begin("x=1,2,3", "steps=900", "hydra.launcher.jobs=3", launcher="parallel")
    until(lambda: all(len(sweeps.events(x)) == 1 + (x in begun) for x in (1, 2, 3)), "three that have begun again")
    again.send_signal(signal.SIGTERM)  # to this process alone, as kill does
    assert "3 runs: 3 to do" in ended(again, 143)
    assert all(sweeps.events(x)[-1]["step"] >= 10 for x in begun)


def test_jobs_share_the_cores_and_have_a_gpu_each(
    sweeps: Sweeps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*THREADS, DEVICES):
        monkeypatch.delenv(name, raising=False)
    smi = tmp_path / "bin/nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(SMI)
    smi.chmod(0o755)
    path = f"{smi.parent}:{os.environ['PATH']}"
    process = sweeps.begin("x=1,2,3", "steps=600", launcher="parallel", PATH=path, TMPDIR=str(tmp_path))
    sweeps.saved(2)
    starts = [sweeps.events(x)[0] for x in (1, 2, 3) if sweeps.events(x)]
    assert sorted(start["gpus"] for start in starts) == ["0", "1"]  # as many jobs as GPUs, if nothing else is said
    for start in starts:
        variables = Path(f"/proc/{start['pid']}/environ").read_text().split("\0")
        assert {f"{name}={threads(cores(), 2)}" for name in THREADS} <= set(variables)
    process.send_signal(signal.SIGTERM)
    ended(process, 143)


def test_a_job_that_waits_for_a_gpu_is_given_up_at_once(
    sweeps: Sweeps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DEVICES, raising=False)
    smi = tmp_path / "bin/nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(SMI)
    smi.chmod(0o755)
    env = {"PATH": f"{smi.parent}:{os.environ['PATH']}", "TMPDIR": str(tmp_path), DEVICES: "0"}
    process = sweeps.begin("x=1,2", "steps=600", "hydra.launcher.jobs=2", launcher="parallel", **env)
    sweeps.saved(1)
    process.send_signal(signal.SIGTERM)
    ended(process, 143)
    assert sorted(sweeps.starts(1, 2)) == [0, 1]
