"""The promise of sweeps, kept on a real Slurm: whatever happens to jobs and daemons, the weights are the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cluster import CHECKOUT
from slurm_scenario import Scenario, until

from menard_unlearn.run import RunDir
from menard_unlearn.training.checkpoints import Checkpoints

sys.path.insert(0, str(CHECKOUT / "tests/stages"))

from tiny_study import Study, make_study

STEPS, EVERY = 40, 10
"""Steps of a training, and between its checkpoints."""
SECONDS = 300.0
"""For what takes a few on a free machine."""
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""In all sweeps: sums are rounded otherwise with another number of threads."""
TUNED = """\
# @package _global_
method: {layer: 1}
trainer: {trained: ['down_proj']}
"""
"""rmu for a model of two layers."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Data and models, and what rmu needs to be told of them."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "conf/tuned").mkdir(parents=True)
    (folder / "conf/tuned/hf_rmu.yaml").write_text(TUNED)
    return make_study(folder)


def sweep(study: Study, runs: Path, launcher: str) -> list[str]:
    """Four methods with three seeds. A job on Slurm has a node for itself, so that two run at once."""
    values = {"method": "gradient_ascent,grad_diff,npo,rmu", "seed": "0,1,2", "hydra/launcher": launcher}
    steps = {"trainer.max_steps": STEPS, "trainer.checkpoint_every": EVERY, "trainer.stop": "null"}
    stage, *given = study.unlearning(runs, **values | steps)
    asked = ["hydra.launcher.cpus_per_task=8", "hydra.launcher.mem_gb=4"] if launcher == "slurm" else []
    return [stage, "-m", *given, *asked, "--config-dir", str(study.folder / "conf")]


@contextmanager
def undisturbed(study: Study, runs: Path) -> Iterator[None]:
    """The sweep by itself, in a process beside what is done in the block; it has ended well after it."""
    command = [sys.executable, "-m", "menard_unlearn", *sweep(study, runs, "local")]
    log = runs.with_name("undisturbed.log")
    with open(log, "wb") as file:
        process = subprocess.Popen(command, cwd=CHECKOUT, env={**os.environ, **ONE_THREAD}, stdout=file, stderr=file)
    try:
        yield
        assert process.wait(SECONDS) == 0, log.read_text()[-3000:]
    finally:
        process.kill()
        process.wait()


def runs_of(folder: Path) -> list[RunDir]:
    """The runs of the study, without its references."""
    return [RunDir(path) for path in sorted(folder.glob("s/*-s[0-9]-*"))]


def finished(folder: Path) -> list[str]:
    """Names of those that are."""
    return [run.path.name for run in runs_of(folder) if run.finished("unlearn")]


def in_training(folder: Path) -> RunDir:
    """A run that is between two checkpoints, stopped there, so that what comes next finds it there."""
    held: list[RunDir] = []

    def hold() -> bool:
        for run in runs_of(folder):
            if EVERY < len(run.read_history()) < STEPS and (holder := run.holder()) is not None:
                os.kill(pid_of(holder), signal.SIGSTOP)
                if len(run.read_history()) < STEPS:
                    held.append(run)
                    return True
                os.kill(pid_of(holder), signal.SIGCONT)  # too late
        return False

    until(hold, SECONDS, "a run in training")
    return held[0]


def pid_of(holder: str) -> int:
    """From `<pid> on <host>`."""
    return int(holder.split()[0])


def saved(run: RunDir) -> int:
    """Step of its newest checkpoint."""
    newest = Checkpoints(run.checkpoints_dir).newest()
    assert newest is not None
    return newest.step


def evaluated(log: str) -> list[str]:
    """References whose evaluation the log tells of."""
    return sorted(line.split()[1] for line in log.splitlines() if line.startswith("evaluating "))


@pytest.mark.timeout(1200)
def test_twelve_runs_survive_a_preemption_a_kill_and_a_restart_with_the_same_weights(
    scenario: Scenario, study: Study, tmp_path: Path
) -> None:
    runs, others = scenario.runs, tmp_path / "undisturbed"
    command = sweep(study, runs, "slurm")
    with undisturbed(study, others):
        assert "12 runs: 12 to do" in scenario.menard(*command, env=ONE_THREAD)
        jobs = {entry["run"]: entry["job"] for entry in scenario.entries("s")}

        preempted = in_training(runs)
        job = jobs[preempted.path.name]
        scenario.occupy(scenario.job(job)["NodeList"])
        until(lambda: preempted.holder() is None, SECONDS, "the end of the preempted attempt")
        step = saved(preempted)
        assert EVERY < step < STEPS
        until(lambda: scenario.state(job) == "PENDING", SECONDS, "the preempted job queued anew")

        killed = in_training(runs)
        assert killed.path != preempted.path
        os.kill(pid_of(killed.holder() or ""), signal.SIGKILL)
        until(lambda: scenario.state(jobs[killed.path.name]) == "FAILED", SECONDS, "the end of the killed job")

        working: list[RunDir] = []

        def others_work() -> bool:
            working[:] = [
                run for run in runs_of(runs) if run.holder() and run.path not in (killed.path, preempted.path)
            ]
            return bool(working)

        until(others_work, SECONDS, "a third run at work")
        scenario.kill("slurmctld", signal.SIGTERM)
        until(lambda: working[0].finished("unlearn"), SECONDS, "a run that ends while slurmctld is away")
        scenario.restart()

        kept: list[
            int
        ] = []  # rows of the preempted run as time goes by: one that began anew would have none for a time

        def ended() -> bool:
            kept.append(len(preempted.read_history()))
            return preempted.finished("unlearn")

        until(ended, SECONDS, "the end of the preempted run")
        scenario.drain(SECONDS)
    assert min(kept) == step
    assert scenario.job(job)["Restarts"] == "1"
    states = {name: scenario.state(job) for name, job in jobs.items()}
    assert states.pop(killed.path.name) == "FAILED"
    assert set(states.values()) == {"COMPLETED"}
    assert saved(killed) >= EVERY

    assert "12 runs: 11 finished, 1 to do" in scenario.menard(*command, env=ONE_THREAD)
    scenario.drain(SECONDS)
    assert len(finished(runs)) == 12
    logs = [Path(entry["log"]).read_text() for entry in scenario.entries("s")]
    assert len(logs) == 13
    assert evaluated("\n".join(logs)) == evaluated((tmp_path / "undisturbed.log").read_text())
    assert evaluated("\n".join(logs)) == ["base", "gold", "prompted"]

    assert finished(runs) == finished(others)
    for name in finished(runs):
        one, two = RunDir(runs / "s" / name), RunDir(others / "s" / name)
        assert one.delta_path.read_bytes() == two.delta_path.read_bytes(), name
        assert [row["step"] for row in one.read_history()] == list(range(1, STEPS + 1)), name
        assert one.history_path.read_bytes() == two.history_path.read_bytes(), name
