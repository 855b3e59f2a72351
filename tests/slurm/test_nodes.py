"""One training on two nodes: torchrun on each, started by srun, and told to end in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cluster import CHECKOUT
from slurm_scenario import Scenario, until
from tiny_study import Study, the_run

from menard_unlearn.models.delta import load_delta
from menard_unlearn.run import RunDir

pytestmark = pytest.mark.timeout(1200)
SECONDS = 400.0
"""For what takes twenty on a free machine: every process imports torch."""


def command(study: Study, runs: Path, launcher: str, *asked: str) -> list[str]:
    values = {"method": "grad_diff", "hydra/launcher": launcher, "trainer.max_steps": 40, "trainer.checkpoint_every": 5}
    stage, *given = study.unlearning(runs, **values | {"trainer.stop": "null"})
    return [stage, "-m", *given, *asked]


def test_two_nodes_train_as_one_process_and_resume_together(scenario: Scenario, study: Study, tmp_path: Path) -> None:
    launcher = {"nodes": 2, "gpus_per_node": "null", "cpus_per_task": 4, "mem_gb": 2}
    asked = [f"hydra.launcher.{key}={value}" for key, value in launcher.items()]
    alone = subprocess.Popen([sys.executable, "-m", "menard_unlearn", *command(study, tmp_path, "local")], cwd=CHECKOUT)
    scenario.menard(*command(study, scenario.runs, "slurm_node", *asked))
    (job,) = scenario.job_ids("s")
    # The state of the second process's random numbers: there are two, and they have saved
    until(lambda: list(scenario.runs.glob("s/*/checkpoints/checkpoint-*/rng_state_1.pth")), SECONDS, "a checkpoint")
    scenario.slurm("scancel", "--signal=USR2", job)
    scenario.drain(SECONDS)

    said = scenario.job(job)
    assert (said["JobState"], said["NumNodes"], said["NodeList"], said["Restarts"]) == ("COMPLETED", "2", "n[0-1]", "1")
    run = RunDir(the_run(scenario.runs, "grad_diff"))
    assert run.finished("unlearn") and [r["step"] for r in run.read_history() if "loss" in r] == list(range(1, 41))
    assert alone.wait(SECONDS) == 0
    found, expected = (
        load_delta(RunDir(path).delta_path).tensors for path in (run.path, the_run(tmp_path, "grad_diff"))
    )
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[name], tensor, atol=1e-5) for name, tensor in expected.items())


def test_of_two_nodes_the_death_of_one_ends_both(scenario: Scenario, study: Study) -> None:
    """The leading one, which alone knows what the others wait for."""
    asked = ["hydra.launcher.nodes=2", "hydra.launcher.gpus_per_node=null", "hydra.launcher.cpus_per_task=4"]
    scenario.menard(*command(study, scenario.runs, "slurm_node", *asked, "hydra.launcher.mem_gb=2"))
    (job,) = scenario.job_ids("s")
    until(lambda: list(scenario.runs.glob("s/grad_diff-s*/.lock")), SECONDS, "a run that is begun")
    run = RunDir(the_run(scenario.runs, "grad_diff"))
    until(run.holder, SECONDS, "a process that leads")
    os.kill(int((run.holder() or "").split()[0]), signal.SIGKILL)
    scenario.drain(60)
    assert scenario.state(job) == "FAILED" and not run.finished("unlearn")
