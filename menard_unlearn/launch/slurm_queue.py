"""What Slurm is asked in words: which jobs it has, what it has to offer, to queue a job anew, to end one."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from menard_unlearn.errors import UserError

SECONDS = 60.0
"""A controller that is being restarted answers within this time, or the command is given up."""
UNREACHABLE = ("Unable to contact slurm controller", "Connection refused", "Socket timed out", "slurm_load_jobs error")
UNKNOWN = "Invalid job id"
"""What a controller answers that is there and has forgotten the job; the rest of the line is as of one that is away."""
RETRY_SECONDS = 2.0
UNCONFIGURED = ": no Slurm is set up here; type this on a login node of the cluster, or set SLURM_CONF"
ASK_SECONDS = 10.0
"""For what is asked to tell it: whoever looks wants to see the rest, too."""


@dataclass(frozen=True)
class Queue:
    """The jobs that the scheduler has not done with."""

    live: Mapping[str, str]
    """Job id, of arrays with the task's number, to Slurm's state: PENDING, RUNNING, COMPLETING, REQUEUED, ..."""

    @classmethod
    def ask(cls, seconds: float = SECONDS) -> Queue:
        """Ask squeue, waiting so long for a controller that is away. Raises UserError where it stays away."""
        lines = command(["squeue", "--me", "-h", "-r", "-o", "%i %T"], seconds).splitlines()
        return cls(dict(line.split(None, 1) for line in lines if line.strip()))


def present() -> bool:
    """Whether Slurm's commands are installed here."""
    return shutil.which("squeue") is not None and shutil.which("sbatch") is not None


def command(arguments: Sequence[str], seconds: float = SECONDS) -> str:
    """What a command of Slurm prints; asked again while the controller is away, for up to `seconds`.

    Raises UserError with the command's own last line.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = subprocess.run(list(arguments), capture_output=True, text=True, check=False, timeout=seconds)
        except FileNotFoundError as error:
            raise UserError(
                f"{arguments[0]} is not installed here: type this on a login node of the cluster, "
                "or take hydra/launcher=local or parallel"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise UserError(f"{arguments[0]} has not answered for {seconds:.0f} s: type it again later") from error
        if found.returncode == 0:
            return found.stdout
        away = UNKNOWN not in found.stderr and any(word in found.stderr for word in UNREACHABLE)
        if not away or time.monotonic() > deadline:
            reason = (found.stderr.strip().splitlines() or [f"exit code {found.returncode}"])[-1]
            unset = UNCONFIGURED if "configuration source" in reason else ""
            raise UserError(f"{' '.join(arguments[:2])}: {reason}{unset}")
        time.sleep(RETRY_SECONDS)


def reach() -> None:
    """Wait for a controller that is away; sbatch alone would soon give up. Raises UserError where it stays away."""
    command(["sinfo", "-h", "-o", "%P"])


def describe_jobs(job: str) -> dict[str, dict[str, str]]:
    """What `scontrol show job` says of a job, by its id; of an array, all its tasks. Empty where Slurm has forgotten
    it, or does not answer."""
    try:
        text = command(["scontrol", "show", "job", "-o", job], ASK_SECONDS)
    except UserError:
        return {}
    array, found = job.partition("_")[0], {}
    for line in text.splitlines():
        fields = dict(re.findall(r"(\w+)=(\S+)", line))
        task = fields.get("ArrayTaskId")
        found[array if task is None else f"{array}_{task}"] = fields
    return found


def offers() -> str:
    """What the cluster has, in a line: partitions with their nodes, cores, memory, GPUs and longest time."""
    try:
        text = command(["sinfo", "-h", "-o", "%P|%D|%c|%m|%G|%l"], ASK_SECONDS)
    except UserError:
        return "what it has could not be asked (sinfo)"
    parts = []
    for line in text.splitlines():
        name, nodes, cores, memory, gres, limit = line.strip().split("|")
        gpus = "no GPUs" if gres == "(null)" else gres
        parts.append(f"{name} ({nodes} nodes of {cores} cores, {memory} MB, {gpus}; up to {limit})")
    return "; ".join(parts) or "it has no partition"


def requeue(job: str) -> str | None:
    """Queue a running job anew, which ends it here; None if that was granted, else why not."""
    try:
        command(["scontrol", "requeue", job])
    except UserError as error:
        return str(error)
    return None


def cancel(jobs: Sequence[str]) -> None:
    """End jobs, queued or running."""
    for first in range(0, len(jobs), 100):
        command(["scancel", *jobs[first : first + 100]])
