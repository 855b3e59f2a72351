"""Jobs in processes of their own, several at once.

A process of its own is what makes a job survive its neighbours: one that is killed for its memory takes no other with
it, as it would in a pool of workers, and its peak memory and its threads are its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from menard_unlearn.errors import UserError
from menard_unlearn.launch.failures import foreseen, report
from menard_unlearn.launch.planning import Planned
from menard_unlearn.launch.resources import DEVICES, claim_gpu, environment
from menard_unlearn.launch.sweep import Payload, Sweep
from menard_unlearn.run import LOG_VARIABLE

log = logging.getLogger(__name__)

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a polite kill, and a terminal that is closed."""


def log_path(payload: Payload) -> Path:
    """Where a job that has no terminal prints."""
    return Sweep.of(payload.directory).logs / f"{payload.directory.path.name}.log"


class Pool:
    """The processes that are running now."""

    def __init__(self, n_jobs: int, one_gpu_each: bool) -> None:
        self.n_jobs = n_jobs
        self.one_gpu_each = one_gpu_each
        self.ended_by: BaseException | None = None
        """What to raise when the jobs have left, where this process was told to end."""
        self._stopping = threading.Event()
        self._starting = threading.RLock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(n_jobs):
            self._slots.put(slot)

    def run(self, job: Planned, path: Path) -> int:
        """Do one job to its end; 1 where it failed."""
        slot = self._slots.get()
        try:
            gpu = claim_gpu(None, self._stopping.is_set) if self.one_gpu_each else contextlib.nullcontext(None)
            with gpu as visible:
                return 0 if job.payload.done else self._run(job, path, slot, visible)
        except OSError as error:  # no room for its log, no memory for its process: the others may still have some
            report(foreseen(error, job.payload.config), f"job {job.number} ({job.payload.told})")
            return 1
        finally:
            self._slots.put(slot)

    def _run(self, job: Planned, path: Path, slot: int, gpu: str | None) -> int:
        output, started = log_path(job.payload), time.perf_counter()
        process = self._start(job, path, output, environment(slot, self.n_jobs), gpu)
        if process is None:
            return 0
        code = process.wait()
        with self._starting:
            self._running.discard(process)
        return self._told(job, code, time.perf_counter() - started, output)

    def _start(
        self, job: Planned, path: Path, output: Path, variables: dict[str, str], gpu: str | None
    ) -> subprocess.Popen[bytes] | None:
        """The job's process, or None where no more are to be started.

        In a group of its own: Ctrl-C at the terminal comes to the jobs through this process alone, once, and not to
        the trackers and workers that they have started.
        """
        variables = {**os.environ, **variables, LOG_VARIABLE: str(output)}
        if gpu is not None:
            variables[DEVICES] = gpu
        output.parent.mkdir(parents=True, exist_ok=True)
        with self._starting, open(output, "ab") as file:
            if self._stopping.is_set():
                return None
            log.info(f"#{job.number} {job.payload.told} → {output}")
            process = subprocess.Popen(
                [sys.executable, "-m", "menard_unlearn.launch.work", str(path)],
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
            self._running.add(process)
            return process

    def _told(self, job: Planned, code: int, seconds: float, output: Path) -> int:
        name, run = job.payload.directory.path.name, job.payload.directory
        if code == 0:
            log.info(f"#{job.number} {name}: done in {seconds:.0f} s")
            return 0
        if self._stopping.is_set():
            log.info(f"#{job.number} {name}: stopped")
            return 0
        if code > 0 and (failure := run.failure()) is not None:
            reason = failure["error"]
        else:
            reason = _reason(code)
            if code < 0 and run.holder() is None:
                run.write_failure(f"{reason} (log: {output})")  # it could not say so itself
        report(UserError(f"{reason} (log: {output})"), f"job {job.number} ({job.payload.told})")
        return 1

    @contextlib.contextmanager
    def obeying(self) -> Iterator[None]:
        """A signal that asks this process to end goes to the jobs, and no more are started; see `ended_by`."""

        def pass_on(number: int, frame: FrameType | None) -> None:
            self.ended_by = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
            with self._starting:
                self._stopping.set()
                waiting = len(self._running)
                for process in self._running:
                    # A job knows no SIGHUP; a second Ctrl-C makes it leave without saving
                    process.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)
            log.info(f"{signal.Signals(number).name}: {waiting} jobs save and leave, no more are started")

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        known = {number: signal.getsignal(number) for number in ENDING}
        for number, handler in known.items():
            if handler is not signal.SIG_IGN:  # under nohup, or in the background of a script
                signal.signal(number, pass_on)
        try:
            yield
        finally:
            for number, handler in known.items():
                signal.signal(number, handler)


def _reason(code: int) -> str:
    if code == -signal.SIGKILL:
        return "ended by SIGKILL, as the system does where memory runs out"
    number = -code if code < 0 else code - 128
    if number in {int(known) for known in signal.Signals}:
        return f"ended by {signal.Signals(number).name}"
    return f"exit code {code}"
