"""Jobs that Slurm ends before they are done, or is told to end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_scenario import Scenario, until

from menard_unlearn.run import RunDir


def resumed(scenario: Scenario, *xs: int) -> None:
    """Each of the runs was begun twice, the second time where it had saved, and is finished."""
    assert scenario.finished() == list(xs)
    for x in xs:
        first, second = scenario.starts(x)
        assert first["step"] == 0 < second["step"] and second["restarts"] == 1, x
    assert {scenario.state(job) for job in scenario.job_ids()} == {"COMPLETED"}


def test_usr2_to_every_process_loses_no_job_and_no_child(scenario: Scenario) -> None:
    """As Slurm sends it before the limit: also to what a job has started, which knows nothing of signals."""
    scenario.standin("x=1,2,3,4", "steps=60", "child=true")
    scenario.running(4)
    scenario.slurm("scancel", "--signal=USR2", scenario.job_ids()[0].partition("_")[0])
    scenario.drain()
    resumed(scenario, 1, 2, 3, 4)
    for rows in scenario.events("end").values():
        assert [row["by"] for row in rows] == [signal.SIGUSR2, None] and all(row["child"] for row in rows)


def test_scontrol_requeue_saves_and_resumes(scenario: Scenario) -> None:
    scenario.standin("x=1", "steps=60")
    scenario.running()
    scenario.requeue(scenario.job_ids()[0])
    scenario.drain()
    resumed(scenario, 1)
    (rows,) = scenario.events("end").values()
    assert [row["by"] for row in rows] == [signal.SIGTERM, None]


@pytest.fixture(params=[0, 20])
def grace(scenario: Scenario, request: pytest.FixtureRequest) -> Iterator[int]:
    """Seconds that Slurm gives a job between TERM and its end when it is preempted."""
    scenario.slurm("scontrol", "update", "PartitionName=main", f"GraceTime={request.param}")
    yield request.param
    scenario.slurm("scontrol", "update", "PartitionName=main", "GraceTime=0")


def test_a_more_urgent_job_takes_the_node_and_gives_it_back(scenario: Scenario, grace: int) -> None:
    """A job that uses its grace to save and leave is queued anew as well."""
    scenario.standin("x=1", "steps=60", "hydra.launcher.nodelist=n0")
    scenario.running()
    urgent = scenario.occupy("n0")
    scenario.drain()
    assert scenario.state(urgent) == "COMPLETED"
    resumed(scenario, 1)


def test_a_cancelled_job_stays_cancelled_and_resumes_when_it_is_launched_again(scenario: Scenario) -> None:
    sweep = ["x=1", "steps=60"]
    scenario.standin(*sweep)
    scenario.running()
    scenario.slurm("scancel", scenario.job_ids()[0])
    scenario.drain()
    assert scenario.state(scenario.job_ids()[0]) == "CANCELLED" and scenario.finished() == []
    assert scenario.run_dir(1).failure() is None
    scenario.standin(*sweep)
    scenario.drain()
    assert scenario.finished() == [1]
    first, second = scenario.starts(1)
    assert first["step"] == 0 < second["step"] and first["job"] != second["job"]


def test_a_job_that_is_queued_anew_too_often_fails_and_says_what_to_raise(scenario: Scenario) -> None:
    sweep = ["x=1", "steps=60"]
    scenario.standin(*sweep, "hydra.launcher.max_requeues=0")
    scenario.running()
    (job,) = scenario.job_ids()
    scenario.slurm("scancel", "--signal=USR2", job)
    scenario.drain()
    failure = scenario.run_dir(1).failure()
    assert scenario.state(job) == "FAILED" and failure is not None and failure["job"] == job
    assert "raise hydra.launcher.timeout_min, or hydra.launcher.max_requeues, and launch again" in failure["error"]
    assert Path(failure["log"]).is_file()
    scenario.standin(*sweep)
    scenario.drain()
    assert scenario.finished() == [1] and scenario.starts(1)[1]["step"] > 0 and scenario.run_dir(1).failure() is None


def test_usr2_outside_of_the_steps_queues_the_job_anew(scenario: Scenario) -> None:
    """While the job imports, or waits for a lock, there is nothing to save."""
    scenario.standin("x=1", "steps=10", "hydra.launcher.additional_parameters={hold: true}")
    (job,), (entry,) = scenario.job_ids(), scenario.entries()
    with RunDir(scenario.runs / "default" / entry["run"]).lock():
        scenario.slurm("scontrol", "release", job)
        until(lambda: "waiting:" in scenario.log(job), 60, "a job that waits for the lock")
        scenario.slurm("scancel", "--signal=USR2", job)
        until(lambda: scenario.job(job)["Restarts"] == "1", 60, "a job that is queued anew")
    scenario.drain()
    assert scenario.finished() == [1] and [start["restarts"] for start in scenario.starts(1)] == [1]
