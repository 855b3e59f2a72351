"""`tracked_worker.py FOLDER NUMBER`: a run in a process of its own that does as it is told on its standard input.

    log 5       five more steps, each a row of history.jsonl and of the tracker, as training does it
    back 3      go back to the end of step 3, as a run does that resumes from its checkpoint
    core 9      send this signal to wandb's own process
    end         leave the context, and the process

Every command is answered with `ok <seconds>`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from scenario import CONFIG

from menard_unlearn.run import RunDir
from menard_unlearn.tracking import wandb_tracker
from menard_unlearn.tracking.tracker import TrackedRun, Tracker, open_tracker

HERE = Path(__file__).parent
QUICK = {
    "WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "1",
    "WANDB__FILE_STREAM_RETRY_WAIT_MIN_SECONDS": "1",
    "WANDB__FILE_STREAM_RETRY_WAIT_MAX_SECONDS": "1",
    "WANDB__GRAPHQL_RETRY_WAIT_MIN_SECONDS": "1",
    "WANDB__GRAPHQL_RETRY_WAIT_MAX_SECONDS": "1",
    "WANDB__FILE_TRANSFER_RETRY_WAIT_MIN_SECONDS": "1",
    "WANDB__FILE_TRANSFER_RETRY_WAIT_MAX_SECONDS": "1",
}
"""wandb's own waits, short enough for a test."""


def directory(folder: Path, number: int) -> Path:
    return folder / "runs" / "study" / f"npo-s0-{number:08x}"


def work(folder: Path, number: int) -> None:
    run = RunDir(directory(folder, number))
    tracked = TrackedRun(
        id=f"{number:016x}",
        name=run.path.name,
        study="study",
        job_type="unlearn",
        tags=("npo",),
        config={"method": {"name": "npo", "beta": 0.1}},
        directory=run.path,
        inputs=(),
    )
    wandb_tracker.INIT_SECONDS = float(os.environ.get("TEST_INIT_SECONDS", wandb_tracker.INIT_SECONDS))
    step = max((row["step"] for row in run.read_history()), default=0)
    with open_tracker(replace(CONFIG, finish_timeout=2.0), tracked) as tracker:
        print("ok 0", flush=True)
        for command, count in (line.split() for line in sys.stdin):
            begun = time.perf_counter()
            if command == "log":
                step = steps(run, tracker, step, int(count))
            elif command == "back":
                step = int(count)
                run.truncate_history(after_step=step)
            elif command == "core":
                signal_core(int(count))
            else:
                break
            print(f"ok {time.perf_counter() - begun}", flush=True)


def steps(run: RunDir, tracker: Tracker, done: int, count: int) -> int:
    for step in range(done + 1, done + count + 1):
        row = {"step": step, "loss": 1.5 / step, "retain": None, "learning_rate": 1e-3}
        rows = [row, {"step": step, "eval/forget_recall": 0.5}] if step % 4 == 0 else [row]
        for each in rows:
            run.append_history(each)
            tracker.log(each)
    return done + count


def signal_core(number: int) -> None:
    listed = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    (pid,) = (line.split()[0] for line in listed.stdout.splitlines() if "wandb-core" in line)
    os.kill(int(pid), number)


@dataclass
class Worker:
    """The process, from the outside."""

    process: subprocess.Popen[str]

    @property
    def input(self) -> IO[str]:
        assert self.process.stdin is not None
        return self.process.stdin

    def answer(self) -> float:
        """Seconds that the last command took."""
        assert self.process.stdout is not None
        said = self.process.stdout.readline().split()
        assert said[:1] == ["ok"], self.process.communicate(timeout=30)
        return float(said[1])

    def do(self, command: str) -> float:
        self.send(command)
        return self.answer()

    def send(self, command: str) -> None:
        self.input.write(f"{command}\n")
        self.input.flush()

    def end(self) -> tuple[int, float, str]:
        """Exit code, seconds until then, and what it said on the way."""
        begun = time.perf_counter()
        self.send("end 0")
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, time.perf_counter() - begun, said

    def signalled(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


@contextmanager
def worker(folder: Path, number: int, environ: dict[str, str]) -> Iterator[Worker]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "SLURM", "RANK"))}
    paths = os.pathsep.join([str(HERE.parents[1]), str(HERE), inherited.get("PYTHONPATH", "")])
    own = {"HOME": str(folder), "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **QUICK}
    process = subprocess.Popen(
        [sys.executable, str(HERE / "tracked_worker.py"), str(folder), str(number)],
        cwd=folder,
        env=inherited | own | environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        found = Worker(process)
        found.answer()
        yield found
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    work(Path(sys.argv[1]), int(sys.argv[2]))
