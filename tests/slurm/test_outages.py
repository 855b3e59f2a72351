"""What happens to jobs when parts of Slurm go away, and what waits beside that: limits of time are whole minutes."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from cluster import Cluster
from processes import alive
from slurm_scenario import Scenario, told_of, until

SBATCH_SECONDS = 11
"""It tries for 9 s to reach a controller that is away."""


def test_jobs_live_through_a_restart_of_slurmd(scenario: Scenario) -> None:
    scenario.standin("x=1,2", "steps=60", "hydra.launcher.nodelist=n0")
    scenario.running(2)
    scenario.kill("slurmd-n0")
    scenario.restart()
    scenario.drain()
    assert scenario.finished() == [1, 2] and all(len(starts) == 1 for starts in scenario.events().values())


def test_jobs_and_launches_live_through_a_restart_of_slurmctld(scenario: Scenario) -> None:
    """A launch waits for it, whether it has to ask for jobs, as the second one, or not, as the first one."""
    scenario.standin("x=1", "steps=60")
    scenario.running()
    scenario.kill("slurmctld", signal.SIGTERM)
    with ThreadPoolExecutor() as pool:
        new = pool.submit(scenario.standin, "x=3", "study=other")
        known = pool.submit(scenario.standin, "x=1,2", "steps=60")
        until((scenario.runs / "other/.sweep/lock").exists, 180, "a launch that has decided")
        time.sleep(SBATCH_SECONDS)
        assert not new.done() and not known.done()
        scenario.restart()
        assert told_of(new.result()) == "1 run: 1 to do"
        assert re.fullmatch("2 runs: 1 (running|finished), 1 to do", told_of(known.result()))
    scenario.drain()
    assert scenario.finished() == [1, 2] and scenario.finished("other") == [3]
    assert all(len(starts) == 1 for starts in scenario.events().values())


@dataclass(frozen=True)
class Waited:
    """Two runs on a node that dies, and one, on the other node, that is longer than its job may be."""

    scenario: Scenario
    lost: list[str]
    """Jobs of the two runs."""
    waiting: bool
    """Both were started anew on another node while their first processes were still there, and waited for them."""


@pytest.fixture(scope="module")
def waited(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Waited]:
    """The first process of x=1 goes on when it counts as lost, that of x=2 is killed then."""
    cluster.start()
    scenario = Scenario(cluster, tmp_path_factory.mktemp("waited"))
    limits = ["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=45", "hydra.launcher.nodelist=n1"]
    scenario.standin("x=9", "steps=500", "study=long", *limits)
    # Not pinned to n0, which they leave: n1 is full until they run
    scenario.slurm("scontrol", "update", "NodeName=n1", "State=DRAIN", "Reason=test")
    scenario.standin("x=1,2", "steps=100")
    scenario.running(2)
    scenario.slurm("scontrol", "update", "NodeName=n1", "State=RESUME")
    first, second = (scenario.starts(x)[0]["pid"] for x in (1, 2))
    for pid in (first, second):
        os.kill(pid, signal.SIGSTOP)
    scenario.kill("slurmd-n0")
    lost = scenario.job_ids()
    until(lambda: all("waiting:" in scenario.log(job) for job in lost), 120, "jobs that wait for lost processes")
    waiting = alive(first) and alive(second)
    os.kill(first, signal.SIGCONT)
    os.kill(second, signal.SIGKILL)
    scenario.drain(240)
    yield Waited(scenario, lost, waiting)
    scenario.restart()


def test_on_a_node_that_is_lost_a_run_may_end_and_is_not_done_twice(waited: Waited) -> None:
    assert waited.waiting and waited.scenario.finished() == [1, 2]
    assert len(waited.scenario.starts(1)) == 1
    assert waited.scenario.state(waited.lost[0]) == "COMPLETED"


def test_a_run_that_died_with_its_node_resumes_on_another(waited: Waited) -> None:
    first, second = waited.scenario.starts(2)
    assert (first["node"], second["node"]) == ("n0", "n1") and first["step"] == 0 < second["step"]
    assert waited.scenario.state(waited.lost[1]) == "COMPLETED"


def test_at_its_limit_of_time_a_job_saves_and_queues_itself_anew(waited: Waited) -> None:
    assert waited.scenario.finished("long") == [9]
    starts, (ends,) = waited.scenario.starts(9, "long"), waited.scenario.events("end", "long").values()
    steps = [start["step"] for start in starts]
    assert len(starts) >= 2 and steps == sorted(set(steps)) and len({start["job"] for start in starts}) == 1
    assert [end["by"] for end in ends] == [signal.SIGUSR2] * (len(starts) - 1) + [None]
    (job,) = waited.scenario.job_ids("long")
    assert waited.scenario.state(job) == "COMPLETED" and "queued anew" in waited.scenario.log(job, "long")
