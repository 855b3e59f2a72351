"""Sweeps of the stand-in stage on a real Slurm: what is queued, what is done again, and what is left alone."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from cluster import Cluster
from slurm_scenario import Scenario, told_of


def test_an_array_is_queued_done_and_not_done_again(scenario: Scenario) -> None:
    assert "3 to do" in scenario.standin("x=1,2,3")
    scenario.drain()
    assert scenario.finished() == [1, 2, 3]
    assert [scenario.state(job) for job in scenario.job_ids()] == ["COMPLETED"] * 3
    assert "3 finished, 1 to do" in scenario.standin("x=1,2,3,4")
    scenario.drain()
    assert scenario.finished() == [1, 2, 3, 4]
    assert all(len(starts) == 1 for starts in scenario.events().values())


def test_two_launches_at_once_do_no_run_twice(scenario: Scenario) -> None:
    with ThreadPoolExecutor() as pool:
        said = list(pool.map(lambda _: scenario.standin("x=1,2", "steps=40"), range(2)))
    assert ["to do" in told_of(text) for text in said].count(True) == 1
    assert "2 runs: 2 to do" in map(told_of, said) and "left alone" in "".join(said)
    scenario.running(2)
    assert "to do" not in told_of(scenario.standin("x=1,2", "steps=40"))
    scenario.drain()
    assert scenario.finished() == [1, 2] and len(scenario.job_ids()) == 2
    assert all(len(starts) == 1 for starts in scenario.events().values())


def test_fifty_jobs_of_an_array_import_no_torch(scenario: Scenario) -> None:
    scenario.standin("x=range(50)", "steps=1", "hydra.launcher.array_parallelism=4")
    most = 0
    while queue := scenario.queue():
        most = max(most, list(queue.values()).count("RUNNING"))
        time.sleep(0.2)
    assert scenario.finished() == list(range(50))
    assert len({job.partition("_")[0] for job in scenario.job_ids()}) == 1 and 2 <= most <= 4
    assert [row["torch"] for rows in scenario.events("end").values() for row in rows] == [False] * 50


@dataclass(frozen=True)
class Failed:
    """A sweep in which x=2 raises an error, 3 is killed and 4 finds the disk full, launched to be waited for; and then
    launched again without the faults."""

    scenario: Scenario
    said: str
    """By the first launch."""
    states: list[str]
    """Slurm's, of the four jobs of the first launch."""
    failures: list[str | None]
    """What the runs' directories say after it."""
    again: str
    """Said by the second launch."""


@pytest.fixture(scope="module")
def failed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Failed:
    cluster.start()
    scenario = Scenario(cluster, tmp_path_factory.mktemp("failed"))
    sweep = ["x=1,2,3,4", "steps=20", "hydra.launcher.wait=true"]
    said = scenario.standin(*sweep, "fail=2", "hard_kill=3", "disk_full=4", code=2)
    states = [scenario.state(job) for job in scenario.job_ids()]
    failures = [scenario.run_dir(x).failure() for x in (1, 2, 3, 4)]
    errors = [None if failure is None else failure["error"] for failure in failures]
    return Failed(scenario, said, states, errors, scenario.standin(*sweep))


def test_a_launch_that_waits_tells_of_failures_by_its_exit_code(failed: Failed) -> None:
    errors = [line for line in failed.said.splitlines() if line.startswith("error: ")]
    assert [line.partition("-")[0] for line in errors[:3]] == ["error: x2", "error: x3", "error: x4"]
    assert len(errors) == 4 and "3 failed" in errors[3] and "the same command runs what is left" in errors[3]


def test_of_a_sweep_with_failures_the_rest_is_done_and_only_they_are_done_again(failed: Failed) -> None:
    assert failed.states == ["COMPLETED", "FAILED", "FAILED", "FAILED"]
    assert "1 finished, 3 to do" in failed.again
    assert failed.scenario.finished() == [1, 2, 3, 4]
    assert [len(failed.scenario.starts(x)) for x in (1, 2, 3, 4)] == [1, 2, 2, 2]
    assert all(failed.scenario.run_dir(x).failure() is None for x in (1, 2, 3, 4))


def test_an_error_is_kept_with_the_run(failed: Failed) -> None:
    assert failed.failures[:2] == [None, "this x fails, as ordered"]
    assert "ValueError: this x fails, as ordered" in failed.scenario.log(failed.scenario.job_ids()[1])


def test_a_killed_job_is_told_of_by_slurm_and_resumes_where_it_had_saved(failed: Failed) -> None:
    assert failed.failures[2] is None and "Slurm ended job" in failed.said and "FAILED" in failed.said
    assert [start["step"] for start in failed.scenario.starts(3)] == [0, 10]


def test_a_full_disk_is_said_in_a_line_that_says_what_to_do(failed: Failed) -> None:
    place = failed.scenario.runs / "default"
    told = f"no space left on the disk of {place}: free some, then run the same command to resume"
    assert failed.failures[3] == told and told in failed.said
