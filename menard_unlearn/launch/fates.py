"""What became of jobs that Slurm has done with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from menard_unlearn.launch.slurm_queue import describe_jobs

NOT_ENDED = ("PENDING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED", "CONFIGURING")
"""Slurm's words for a job that is on its way."""


class Fates:
    """Answers of `scontrol`, asked once an array: of fifty jobs that were lost one question is enough."""

    def __init__(self) -> None:
        self._said: dict[str, Mapping[str, str]] = {}

    def ask(self, jobs: Iterable[str]) -> None:
        """Learn of these jobs, which are in the queue no more, what was not asked before."""
        new = [job for job in jobs if job not in self._said]
        for array in {job.partition("_")[0] for job in new}:
            tasks = describe_jobs(array)
            self._said |= {job: tasks.get(job, {}) for job in new if job.partition("_")[0] == array}

    def why(self, job: str) -> str:
        """How Slurm ended the job; it forgets that after a while."""
        said = self._said.get(job, {})
        if not said:
            return f"job {job} is gone, and Slurm has forgotten why: see its log"
        if said["JobState"] in NOT_ENDED:
            return f"job {job} is {said['JobState']}"
        if said["JobState"] == "CANCELLED":  # its reason is still that for which it waited
            return f"Slurm ended job {job}: CANCELLED"
        reasons = [said.get("Reason", "None"), f"exit code {said.get('ExitCode', '0:0')}"]
        told = ", ".join(reason for reason in reasons if reason not in ("None", "exit code 0:0"))
        return f"Slurm ended job {job}: {said['JobState']}{f' ({told})' if told else ''}"
