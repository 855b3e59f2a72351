"""Jobs of a sweep on Slurm, through submitit: an array that is queued and left to itself.

A job is told of its end by SIGUSR2 some time before its limit: it saves, queues itself anew and resumes. One that
Slurm takes away (SIGTERM: requeue, preemption) saves and leaves; Slurm queues it anew.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from menard_unlearn.config import build
from menard_unlearn.errors import UserError, in_one_line
from menard_unlearn.files import from_here
from menard_unlearn.launch.failures import refuse
from menard_unlearn.launch.fates import Fates
from menard_unlearn.launch.slurm_queue import Queue, offers, reach
from menard_unlearn.launch.slurm_task import Task
from menard_unlearn.launch.snapshot import snapshot
from menard_unlearn.launch.sweep import Entry, Payload, Sweep

log = logging.getLogger(__name__)

WAIT_SECONDS = 5.0
ARRAY_AT_MOST = 1000
"""Jobs of an array; a cluster takes 1,001 unless it is configured for more (MaxArraySize)."""


@dataclass(frozen=True)
class SlurmConfig:
    """What is asked of the cluster for each job."""

    partition: str | None
    """Partition; null is the cluster's default."""
    account: str | None
    """Account that is charged; null is the user's default."""
    qos: str | None
    """Quality of service; null is the default."""
    constraint: str | None
    """Features that a node must have."""
    nodelist: str | None
    """Nodes to run on; null leaves the choice to Slurm."""
    timeout_min: int
    """Minutes after which a job is ended; it saves before, queues itself anew and resumes."""
    mem_gb: float | None
    """Memory a node, 2³⁰ bytes each; null is the partition's default."""
    nodes: int
    """Nodes a job."""
    cpus_per_task: int
    """Cores a job has on each node."""
    gpus_per_node: int | None
    """GPUs a job has on each node, which it sees alone; null for none."""
    gres: str | None
    """GPUs by Slurm's own word, as gpu:a100:1, where gpus_per_node is not known to the cluster."""
    array_parallelism: int
    """Jobs of the array that run at once."""
    signal_delay_s: int
    """Seconds before the limit at which a job is told; enough to finish a step, save, and hand over its tracking."""
    max_requeues: int
    """A job that was queued anew so often, by itself or by Slurm, and reaches its limit once more counts as failed."""
    setup: tuple[str, ...]
    """Shell commands that run on the node before the job: module load, export HF_HOME=..."""
    additional_parameters: dict[str, Any] | None
    """Any other option of sbatch, by its long name: {reservation: x, exclusive: true}."""
    snapshot: bool
    """Run the code as it is now, from a copy, whatever is edited until the job starts."""
    wait: bool
    """Return when all jobs have ended, instead of when they are queued."""
    dry_run: bool
    """Print the script, and queue nothing."""

    def __post_init__(self) -> None:
        if self.signal_delay_s >= 60 * self.timeout_min:
            raise ValueError(
                f"signal_delay_s={self.signal_delay_s} is not less than timeout_min={self.timeout_min} minutes: "
                "a job would be told to end as it begins"
            )
        for name in ("timeout_min", "nodes", "cpus_per_task", "array_parallelism"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: give 1 or more")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> SlurmConfig:
        """From the values of conf/hydra/launcher/slurm*.yaml. Raises UserError at the first that is wrong."""
        return build({**values, "_target_": f"{cls.__module__}.{cls.__qualname__}"}, cls)


def submit(found: Sequence[Payload], settings: SlurmConfig) -> None:
    """Queue a job for each, as arrays, and enter them in their ledgers. Raises UserError where Slurm refuses."""
    if not found:
        return
    by_sweep: dict[Path, list[Payload]] = {}
    for payload in found:
        by_sweep.setdefault(Sweep.of(payload.directory).path, []).append(payload)
    for path, members in by_sweep.items():
        for first in range(0, len(members), ARRAY_AT_MOST):
            _submit(Sweep(path.absolute()), members[first : first + ARRAY_AT_MOST], settings)


def _submit(sweep: Sweep, found: Sequence[Payload], settings: SlurmConfig) -> None:
    executor = _executor(sweep, found, settings)
    if settings.dry_run:
        if len(found) > 1:
            executor.parameters["map_count"] = len(found)  # as submitit does when it queues several
        print(executor._make_submission_file_text(executor._submitit_command_str, "dry-run"))
        print(f"# {len(found)} job{'s' if len(found) != 1 else ''}, none queued: dry_run=true")
        return
    paths = [sweep.keep(payload) for payload in found]
    tasks = [Task(str(path), settings.max_requeues) for path in paths]
    reach()
    try:
        with _outside_of_a_job(), executor.batch():
            jobs = [executor.submit(task) for task in tasks]
    except (FailedJobError, FailedSubmissionError) as error:
        raise UserError(f"Slurm refused: {_reason(error)}; the cluster has: {offers()}") from error
    now = time.time()
    sweep.append(
        [
            Entry(payload.directory.path.name, str(path), asked(settings), job.job_id, str(job.paths.stdout), now)
            for payload, path, job in zip(found, paths, jobs, strict=True)
        ]
    )
    number, study = jobs[0].job_id.partition("_")[0], from_here(sweep.path.parent)
    log.info(f"{len(jobs)} queued as job {number}; menard status {study}")


def asked(settings: SlurmConfig) -> dict[str, Any]:
    """As the ledger keeps it, for `menard retry`."""
    return {"kind": "slurm", **asdict(settings)}


def _executor(sweep: Sweep, found: Sequence[Payload], settings: SlurmConfig) -> submitit.SlurmExecutor:
    if shutil.which("srun") is None:
        raise UserError("srun is not installed here: launch on a login node of the cluster, or hydra/launcher=parallel")
    executor = submitit.SlurmExecutor(folder=sweep.path / "slurm" / "%j", max_num_timeout=settings.max_requeues)
    setup = [f"cd {_quoted(os.getcwd())}", *settings.setup]
    if settings.snapshot:
        code = _quoted(str(snapshot(sweep.path / "code")))
        # Without the safe path, python -m puts the present folder before all others: the checkout itself, often. An
        # empty entry would be that folder, too
        setup += [f"export PYTHONSAFEPATH=1 PYTHONPATH={code}${{PYTHONPATH:+:$PYTHONPATH}}"]
    given = {"partition": settings.partition, "account": settings.account, "qos": settings.qos}
    given |= {"constraint": settings.constraint, "nodelist": settings.nodelist, "gres": settings.gres}
    executor.update_parameters(
        job_name=f"menard-{found[0].config.get('study', found[0].stage)}",
        time=settings.timeout_min,
        mem=None if settings.mem_gb is None else f"{round(settings.mem_gb * 1024)}MB",
        nodes=settings.nodes,
        ntasks_per_node=1,
        cpus_per_task=settings.cpus_per_task,
        gpus_per_node=settings.gpus_per_node,
        array_parallelism=settings.array_parallelism,
        signal_delay_s=settings.signal_delay_s,
        stderr_to_stdout=True,
        setup=setup,
        # A cluster may not requeue by itself, and without it a preempted job would be lost
        additional_parameters={"requeue": True, **(settings.additional_parameters or {})},
        # From 22.05 on srun no longer inherits the first; without the other, machines would wait for one that is dead
        srun_args=[f"--cpus-per-task={settings.cpus_per_task}", "--kill-on-bad-exit=1"],
        **{name: value for name, value in given.items() if value is not None},
    )
    return executor


def _quoted(path: str) -> str:
    return "'" + path.replace("'", "'\\''") + "'"


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if "sbatch: error" in line]
    return "; ".join(line.removeprefix("sbatch: error: ") for line in lines) or in_one_line(error)[-300:]


@contextlib.contextmanager
def _outside_of_a_job() -> Iterator[None]:
    """Launched from within a job (an interactive one, say), sbatch would take that job's size for the new ones'."""
    inherited = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("SLURM_")}
    if "SLURM_CONF" in inherited:
        os.environ["SLURM_CONF"] = inherited["SLURM_CONF"]
    try:
        yield
    finally:
        os.environ.update(inherited)


def wait(found: Sequence[Payload]) -> None:
    """Return when every run has ended or left the queue. Raises UserError that counts those that are not finished."""
    while True:
        live = Queue.ask().live
        entries = {path: Sweep(path).entries() for path in {Sweep.of(payload.directory).path for payload in found}}
        jobs = {
            payload.run: entries[Sweep.of(payload.directory).path].get(payload.directory.path.name)
            for payload in found
            if not payload.done
        }
        if not any(entry is not None and entry.job in live for entry in jobs.values()):
            break
        time.sleep(WAIT_SECONDS)
    left = [payload for payload in found if not payload.done]
    fates = Fates()
    entries_left = [entry for payload in left if (entry := jobs.get(payload.run)) is not None]
    fates.ask(entry.job for entry in entries_left if entry.launcher["kind"] == "slurm")
    for payload in left:
        reason = _why(payload, jobs.get(payload.run), fates)
        print(f"error: {payload.directory.path.name}: {reason}", file=sys.stderr, flush=True)
    refuse(len(left))
    log.info(f"{len(found)} finished")


def _why(payload: Payload, entry: Entry | None, fates: Fates) -> str:
    """Why a run is not finished, as far as it or Slurm can tell."""
    failure = payload.directory.failure()
    if failure is not None:
        return failure["error"]
    return "not finished" if entry is None or entry.launcher["kind"] != "slurm" else fates.why(entry.job)
