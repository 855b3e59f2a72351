"""A sweep that is launched again, or twice at once, does each run once."""

from __future__ import annotations

import signal
from collections.abc import Callable

from sweeping import Sweeps, ended

from menard_unlearn.run import RunDir

Menard = Callable[..., tuple[int, str]]


def test_finished_are_skipped_begun_resumed_and_failed_run_again(menard: Menard, sweeps: Sweeps) -> None:
    code, said = menard("x=1,2,3,4", "steps=2", "fail=2")
    assert code == 2 and "4 runs: 4 to do\n" in said
    assert "job 1 (x=2 " in said and "this x fails" in said and "Traceback" in said
    assert said.splitlines()[-1].startswith("error: 1 failed")
    assert sweeps.finished() == [1, 3, 4] and RunDir(sweeps.run(2)).failure() is not None

    (sweeps.run(4) / "standin.manifest.json").unlink()  # as a killed job leaves it
    (sweeps.run(4) / "saved").write_text("1")
    code, said = menard("x=1,2,3,4,5", "steps=2")
    assert code == 0 and "5 runs: 2 finished, 3 to do\n" in said
    assert sweeps.starts(1, 2, 3, 4, 5) == [1, 2, 1, 2, 1]
    assert [row["step"] for row in sweeps.events(4)] == [0, 1]
    assert sweeps.finished() == [1, 2, 3, 4, 5] and RunDir(sweeps.run(2)).failure() is None

    code, said = menard("x=5,4,3,2,1", "steps=2", launcher="parallel")
    assert (code, said) == (0, "5 runs: 5 finished\n")
    assert sum(sweeps.starts(1, 2, 3, 4, 5)) == 7


def test_a_run_that_is_going_on_is_left_alone_and_named(menard: Menard, sweeps: Sweeps) -> None:
    assert menard("x=1", "steps=1")[0] == 0
    (sweeps.run(1) / "standin.manifest.json").unlink()
    with RunDir(sweeps.run(1)).lock():
        holder = RunDir(sweeps.run(1)).holder()
        code, said = menard("x=1,2", "steps=1")
    assert code == 0 and "2 runs: 1 running, 1 to do\n" in said
    assert f"  {sweeps.run(1).name}: running ({holder}), left alone\n" in said
    assert sweeps.finished() == [2] and sweeps.starts(1, 2) == [1, 1]


def test_what_waits_in_another_launch_is_left_alone(menard: Menard, sweeps: Sweeps) -> None:
    other = sweeps.begin("x=1,2", "steps=600")
    sweeps.saved(1)
    code, said = menard("x=1,2", "steps=600")
    assert code == 0 and "2 runs: 1 running, 1 queued\n" in said
    assert f"running ({other.pid} on " in said and f"queued (launch {other.pid}@" in said
    other.send_signal(signal.SIGTERM)
    ended(other, 143)
    assert sweeps.starts(1, 2) == [1, 0]
    assert not list(sweeps.runs.glob("*/.sweep/launches/*"))


def test_a_launch_that_was_killed_keeps_nothing_from_the_next(menard: Menard, sweeps: Sweeps) -> None:
    other = sweeps.begin("x=1,2", "steps=30")
    sweeps.saved(1)
    other.kill()
    ended(other, -signal.SIGKILL)
    code, said = menard("x=1,2", "steps=30")
    assert code == 0 and "2 runs: 2 to do\n" in said
    assert [row["step"] for row in sweeps.events(1)] in ([0, 10], [0, 20]) and sweeps.finished() == [1, 2]


def test_two_launches_at_once_do_no_run_twice(sweeps: Sweeps) -> None:
    both = [
        sweeps.begin("x=range(0,6)", "steps=3", "hydra.launcher.jobs=2", launcher="parallel"),
        sweeps.begin("x=range(5,-1,-1)", "steps=3"),
    ]
    said = [ended(process) for process in both]
    assert sweeps.finished() == [0, 1, 2, 3, 4, 5]
    assert sweeps.starts(0, 1, 2, 3, 4, 5) == [1] * 6, said


def test_overrides_that_mean_one_run_are_one_job(menard: Menard, sweeps: Sweeps) -> None:
    code, said = menard("x=1", "steps=2,2.0")
    assert code == 0 and "1 run: 1 to do\n" in said and sweeps.starts(1) == [1]


def test_a_bad_job_is_named_and_none_begins(menard: Menard, sweeps: Sweeps) -> None:
    for launcher in ("local", "parallel"):
        code, said = menard("x=1,2,2.5", "steps=1", launcher=launcher)
        assert code == 2 and said.startswith("error: job 2 (x=2.5 ") and said.count("\n") == 1
        assert "give a whole number" in said
    assert not list(sweeps.runs.glob("*/x*"))


def test_batches_of_a_sweep_all_run_and_their_jobs_count_on(menard: Menard, sweeps: Sweeps) -> None:
    code, said = menard("x=1,2,3", "steps=1", "fail=1", "hydra.sweeper.max_batch_size=1")
    assert code == 2 and said.splitlines()[-1].startswith("error: 1 failed") and sweeps.finished() == [2, 3]
    assert "job 0 (x=1 " in said and "#2 x=3 " in said
