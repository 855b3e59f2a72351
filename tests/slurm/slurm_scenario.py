"""What a scenario is told in: launch, wait until, kill, restart, and what Slurm and the runs say of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import CHECKOUT, Cluster
from processes import alive

from menard_unlearn.run import RunDir

HERE = Path(__file__).resolve().parent


def until(condition: Callable[[], object], seconds: float = 60.0, what: str = "") -> None:
    """Wait for the condition to hold; fails, with what there is instead, where it does not in this time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)


def told_of(said: str) -> str:
    """The line in which a launch says what it decided: `3 runs: 1 finished, 2 to do`."""
    (line,) = [line for line in said.splitlines() if re.match(r"\d+ runs?: ", line)]
    return line


@dataclass(frozen=True)
class Scenario:
    """A cluster, and a folder for the runs of one test."""

    cluster: Cluster
    """It is up."""
    runs: Path
    """The runs' folder; a study each below it."""

    def menard(self, *arguments: str, code: int = 0, env: dict[str, str] | None = None) -> str:
        """`menard <arguments>` from the checkout; returns all that it prints, and fails at another exit code."""
        return self._run([sys.executable, "-m", "menard_unlearn", *arguments], code, env or {})

    def standin(
        self,
        *arguments: str,
        code: int = 0,
        launcher: str = "slurm",
        within: Sequence[str] = (),
        checkout: Path = CHECKOUT,
    ) -> str:
        """Launch a sweep of the stand-in stage; its values are given as x=1,2 steps=40 fail=2.

        `within` is a command that runs the launch, as srun and its options, `checkout` where the code is taken from.
        """
        given = [f"hydra/launcher={launcher}", f"runs_dir={self.runs}"]
        if launcher.startswith("slurm"):
            given += ["hydra.launcher.mem_gb=0.25", "hydra.launcher.cpus_per_task=1"]
        given = [value for value in given if value.partition("=")[0] not in {a.partition("=")[0] for a in arguments}]
        command = [*within, sys.executable, str(HERE / "standin.py"), "-m", *given, *arguments]
        return self._run(command, code, {}, checkout)

    def _run(self, command: Sequence[str], code: int, env: dict[str, str], checkout: Path = CHECKOUT) -> str:
        path = os.pathsep.join([str(HERE), str(checkout)])
        environment = {**os.environ, "PYTHONPATH": path, "SLURM_CONF": str(self.cluster.conf), **env}
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def slurm(self, *command: str, check: bool = True) -> str:
        """One of Slurm's own commands."""
        return self.cluster.slurm(*command, check=check).strip()

    def queue(self) -> dict[str, str]:
        """Jobs that Slurm has not done with: id, of arrays with the task's number, to state."""
        lines = self.slurm("squeue", "-h", "-r", "-o", "%i %T").splitlines()
        return dict(line.split() for line in lines)

    def drain(self, seconds: float = 90.0) -> None:
        """Wait until the queue is empty."""
        until(lambda: not self.queue(), seconds, "an empty queue")

    def entries(self, study: str = "default") -> list[dict[str, Any]]:
        """Submissions that the study's ledger knows, in order."""
        file = self.runs / study / ".sweep/jobs.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []

    def job_ids(self, study: str = "default") -> list[str]:
        """Slurm's ids of these submissions."""
        return [entry["job"] for entry in self.entries(study)]

    def log(self, job: str, study: str = "default") -> str:
        """What the job has printed so far."""
        files = self.runs.glob(f"{study}/.sweep/slurm/{job}/*_log.out")
        return "".join(file.read_text(errors="replace") for file in sorted(files))

    def job(self, job: str) -> dict[str, str]:
        """What Slurm says of a job or one task of an array, finished or not: JobState, Reason, ExitCode, Restarts."""
        lines = self.slurm("scontrol", "show", "job", "-o", job).splitlines()
        assert len(lines) == 1, f"{job} is {len(lines)} jobs"
        return dict(word.split("=", 1) for word in lines[0].split() if "=" in word)

    def state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETED, FAILED, CANCELLED, TIMEOUT, NODE_FAIL, ..."""
        return self.job(job)["JobState"]

    def events(self, event: str = "start", study: str = "default") -> dict[str, list[dict[str, Any]]]:
        """What the stand-in runs noted, by run: a `start` an attempt, an `end` where it was not killed."""
        found = {}
        for file in sorted(self.runs.glob(f"{study}/*/events.jsonl")):
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            found[file.parent.name] = [row for row in rows if row["event"] == event]
        return found

    def run_dir(self, x: int, study: str = "default") -> RunDir:
        """That of the stand-in run with this x."""
        (found,) = self.runs.glob(f"{study}/x{x}-*")
        return RunDir(found)

    def starts(self, x: int, study: str = "default") -> list[dict[str, Any]]:
        """The attempts at the stand-in run with this x: step at which it began, job, node, gpus, pid, restarts."""
        found = self.events("start", study)
        return next((rows for name, rows in found.items() if name.startswith(f"x{x}-")), [])

    def finished(self, study: str = "default") -> list[int]:
        """The x of stand-in runs that have ended well."""
        files = self.runs.glob(f"{study}/*/standin.manifest.json")
        return sorted(json.loads(file.read_text())["results"]["x"] for file in files)

    def running(self, count: int = 1, study: str = "default") -> None:
        """Wait until so many stand-in runs have begun, and have saved for the first time."""
        until(lambda: len(list(self.runs.glob(f"{study}/*/saved"))) >= count, 60, f"{count} runs that have saved")

    def requeue(self, job: str) -> None:
        """As an operator would."""
        self.slurm("scontrol", "requeue", job)

    def occupy(self, node: str, seconds: float = 1.0) -> str:
        """Have a more urgent job take a whole node; what runs there is preempted. Returns its id."""
        command = ["sbatch", "--parsable", "-p", "urgent", "-w", node, "--exclusive", "--mem=1", "-o", "/dev/null"]
        return self.slurm(*command, "--wrap", f"sleep {seconds}")

    def kill(self, daemon: str, by: signal.Signals = signal.SIGKILL) -> None:
        """End `slurmctld` or `slurmd-n0` and see it gone. slurmctld by TERM: it would forget a job just begun."""
        pid = self.cluster.pid(daemon)
        assert pid is not None, f"{daemon} does not run"
        os.kill(pid, by)
        until(lambda: not alive(pid), 10, f"the end of {daemon}")

    def restart(self) -> None:
        """Start what was killed, and wait until all nodes take jobs."""
        self.cluster.start()
