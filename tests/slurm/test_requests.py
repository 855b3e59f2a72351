"""What is asked of Slurm: refused with what there is instead, shown, and what a job gets of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from cluster import CHECKOUT
from slurm_scenario import Scenario


def test_a_request_that_no_node_can_meet_is_refused_with_what_the_cluster_has(scenario: Scenario) -> None:
    said = scenario.standin("x=1", "hydra.launcher.gpus_per_node=99", code=2)
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "Requested node configuration is not available" in line
    assert "main* (2 nodes of 8 cores, 65536 MB, gpu:4; up to infinite)" in line and "urgent (2 nodes" in line
    assert scenario.entries() == [] and scenario.queue() == {}


def test_a_dry_run_prints_the_script_and_queues_nothing(scenario: Scenario) -> None:
    asked = ["hydra.launcher.account=physics", "hydra.launcher.timeout_min=90", "hydra.launcher.partition=main"]
    said = scenario.standin("x=1,2", "hydra.launcher.dry_run=true", *asked)
    script = said[said.index("#!/bin/bash") :]
    for option in ("account=physics", "time=90", "partition=main", "mem=256MB", "signal=USR2@180", "requeue"):
        assert f"#SBATCH --{option}\n" in script
    assert "#SBATCH --array=0-1%2\n" in script
    assert "\nsrun " in script and "2 jobs, none queued" in script
    (export,) = [line for line in script.splitlines() if line.startswith("export PYTHONSAFEPATH")]
    told = subprocess.run(
        ["bash", "-c", f"unset PYTHONPATH; {export}; echo $PYTHONPATH"], capture_output=True, text=True
    )
    assert "/.sweep/code/" in told.stdout and ":" not in told.stdout  # an empty entry is the present folder
    assert scenario.entries() == [] and scenario.queue() == {} and scenario.events() == {}


def test_every_job_sees_one_gpu_and_not_its_neighbour_s(scenario: Scenario) -> None:
    scenario.standin("x=1,2,3", "steps=40", "hydra.launcher.gpus_per_node=1", "hydra.launcher.nodelist=n0")
    scenario.running(3)
    assert sorted(scenario.starts(x)[0]["gpus"] for x in (1, 2, 3)) == ["0", "1", "2"]


def test_setup_commands_run_on_the_node_before_the_job(scenario: Scenario, tmp_path: Path) -> None:
    setup = f"['export SETUP=done','touch {tmp_path}/begun']"
    scenario.standin("x=1", "steps=1", f"hydra.launcher.setup={setup}")
    scenario.drain()
    assert (tmp_path / "begun").is_file() and scenario.starts(1)[0]["setup"] == "done"


def test_a_launch_from_within_a_job_is_none_of_that_job_s(scenario: Scenario, tmp_path: Path) -> None:
    """Else the new job would take itself for a task of the array around it, and not find what it is given."""
    (tmp_path / "around").write_text('#!/bin/bash\nexec "$@"\n')
    around = ["sbatch", "--wait", "--array=7", "-c3", "--mem-per-cpu=100", "-o", "/dev/null", str(tmp_path / "around")]
    scenario.standin("x=1", "steps=1", "hydra.launcher.mem_gb=0.5", within=around)
    scenario.drain()
    (job,) = scenario.job_ids()
    said = scenario.job(job)
    assert (said["JobState"], said["NumTasks"], said["CPUs/Task"], said["MinMemoryNode"]) == (
        "COMPLETED",
        "1",
        "1",
        "512M",
    )


def test_code_that_is_edited_after_the_launch_changes_no_queued_job(scenario: Scenario, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for name in ("menard_unlearn", "conf"):
        shutil.copytree(
            CHECKOUT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"), copy_function=os.link
        )
    (checkout / "pyproject.toml").write_text("")
    held = "hydra.launcher.additional_parameters={hold: true}"
    scenario.standin("x=1", "steps=1", held, checkout=checkout)
    scenario.standin("x=2", "steps=1", held, "hydra.launcher.snapshot=false", checkout=checkout)
    edited = checkout / "menard_unlearn/run.py"
    edited.unlink()  # a link: the checkout under test keeps its file
    edited.write_text("raise RuntimeError('edited')\n")
    for job in scenario.job_ids():
        scenario.slurm("scontrol", "release", job)
    scenario.drain()
    assert [scenario.state(job) for job in scenario.job_ids()] == ["COMPLETED", "FAILED"]
    assert scenario.finished() == [1] and f"{scenario.runs}/default/.sweep/code/" in scenario.starts(1)[0]["code"]
    assert "RuntimeError: edited" in scenario.log(scenario.job_ids()[1])
