"""What runs on the node: the job, and what its end means to Slurm."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from menard_unlearn.launch.signals import EXIT_TERM, EXIT_USR2, Signals
from menard_unlearn.launch.slurm_queue import describe_jobs, requeue
from menard_unlearn.launch.sweep import Payload
from menard_unlearn.launch.work import follows, work
from menard_unlearn.run import JOB_VARIABLE, LOG_VARIABLE

KILL_SECONDS = 60.0
"""Slurm ends a job that was queued anew within its KillWait, 30 s by default."""


@dataclass(frozen=True)
class Task:
    """What submitit carries to the node: two plain values."""

    payload: str
    """Path of the payload."""
    max_requeues: int
    """How often the job may queue itself anew."""

    def __call__(self) -> None:
        """Do the job and leave with its exit code, so that Slurm and what depends on the job know how it ended.

        Never returns: submitit would write a result for a launcher that nobody waits in.
        """
        signals = Signals()
        signals.install()
        job = own_id()
        os.environ[JOB_VARIABLE] = job
        payload = Payload.read(Path(self.payload))
        os.environ.setdefault(LOG_VARIABLE, _log(job))
        code = work(payload)
        if follows():
            if code == EXIT_USR2:  # srun ends a step when a task of it fails, and the leading one is still at work
                _await_end(signals)
        elif code in (EXIT_USR2, EXIT_TERM) and not payload.done:
            self._again(code, payload, signals, job)
        sys.exit(code)

    def _again(self, code: int, payload: Payload, signals: Signals, job: str) -> None:
        """Queue the job anew, unless Slurm is taking it away already; Slurm then ends this process."""
        said = describe_jobs(job).get(job, {})
        taken = said.get("JobState", "RUNNING") != "RUNNING"
        if taken or (code == EXIT_TERM and said.get("PreemptTime", "None") == "None"):
            return
        # Of a preempted job: Slurm queues it anew only if it is still there when its grace ends. One that has saved and
        # leaves before would count as failed.
        done = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        if code == EXIT_USR2 and done >= self.max_requeues:
            payload.directory.write_failure(
                f"queued anew {done} times and still not done: raise hydra.launcher.timeout_min, or "
                "hydra.launcher.max_requeues, and launch again"
            )
            return
        refused = requeue(job)
        print(f"saved; job {job} {'is queued anew' if refused is None else f'could not be queued anew: {refused}'}")
        sys.stdout.flush()
        if refused is None:
            _await_end(signals)


def _await_end(signals: Signals) -> None:
    deadline = time.monotonic() + KILL_SECONDS
    while signal.SIGTERM not in signals.received and time.monotonic() < deadline:
        time.sleep(0.1)


def own_id() -> str:
    """This job's id, of arrays with the task's number."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", "")


def _log(job: str) -> str:
    folder = os.environ.get("SUBMITIT_FOLDER", "")
    return str(Path(folder.replace("%j", job)) / f"{job}_0_log.out") if folder else ""
