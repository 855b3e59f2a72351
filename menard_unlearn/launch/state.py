"""Where a run stands, as its directory, the ledger and the scheduler tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from menard_unlearn.launch.slurm_queue import Queue
from menard_unlearn.launch.sweep import Entry, Payload, Sweep
from menard_unlearn.run import RunDir

FINISHED, RUNNING, QUEUED, FAILED, BEGUN, PLANNED = "finished", "running", "queued", "failed", "begun", "planned"
STATES = (FINISHED, RUNNING, QUEUED, FAILED, BEGUN, PLANNED)


@dataclass(frozen=True)
class State:
    """Of one run."""

    name: str
    """One of `STATES`. Begun: it has a directory and nobody works in it. Planned: not even that."""
    by: str | None
    """Who works in it or has it queued: `<pid> on <host>`, `job 12_3`, or `launch <pid>@<host>`."""
    job: str | None
    """Slurm's job id, where that job is still in the queue."""


class Known:
    """What is asked once for many runs of a study: the ledger, the launches, and the queue."""

    def __init__(self, sweep: Sweep, queue: Queue | None) -> None:
        """`queue` None: no scheduler is asked, and what was submitted to one does not count as queued."""
        self.entries: Mapping[str, Entry] = sweep.entries()
        self.launches = sweep.launches()
        self.queue = queue

    @property
    def submitted(self) -> bool:
        """Whether any run's last submission was to Slurm."""
        return any(entry.launcher["kind"] == "slurm" for entry in self.entries.values())

    def state(self, payload: Payload) -> State:
        """Of one run; reads its directory now."""
        return self.of(payload.directory, done=payload.done)

    def of(self, run: RunDir, *, done: bool) -> State:
        """Of the run in this directory, which need not come from a sweep; `done` says whether its stage ended."""
        if done:
            return State(FINISHED, None, None)
        entry = self.entries.get(run.path.name)
        job = self._queued(entry)
        if (holder := run.holder()) is not None:
            return State(RUNNING, holder, job)
        if job is not None:
            return State(QUEUED, f"job {job}", job)
        if entry is not None and entry.job in self.launches and not _failed_since(run, entry.submitted_at):
            return State(QUEUED, f"launch {entry.job}", None)
        if run.failure_path.is_file():
            return State(FAILED, None, None)
        return State(BEGUN if run.config_path.is_file() else PLANNED, None, None)

    def _queued(self, entry: Entry | None) -> str | None:
        if entry is None or entry.launcher["kind"] != "slurm" or self.queue is None:
            return None
        return entry.job if entry.job in self.queue.live else None


def _failed_since(run: RunDir, moment: float) -> bool:
    """Whether its turn in a launch has come and gone. An older failure is of an attempt before that launch."""
    try:
        return run.failure_path.stat().st_mtime >= moment
    except FileNotFoundError:
        return False
