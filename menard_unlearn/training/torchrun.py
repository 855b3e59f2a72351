"""Several processes for one training, started by torchrun; this one follows them and tells them to end.

`accelerate launch --cpu` silently runs one process, so torchrun it is. On several machines of a Slurm job the first
one's process does all that is done once, and those of the others `join` it for the training.
"""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from menard_unlearn.files import write_json
from menard_unlearn.run import RunDir
from menard_unlearn.training.config import TrainerConfig
from menard_unlearn.training.memory import processes_of
from menard_unlearn.training.preemption import SIGNALS, Preemption
from menard_unlearn.training.session import Session, Trained, local_threads

POLL_SECONDS = 0.1
JOIN_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Machines:
    """Of a Slurm step; one without it."""

    count: int
    own: int
    """Counted from 0, which is the one that leads."""

    @classmethod
    def of_this_step(cls) -> Machines:
        """As srun says it. A batch script, or a shell within an allocation, is one machine whatever the job has."""
        return cls(int(os.environ.get("SLURM_STEP_NUM_NODES", "1")), int(os.environ.get("SLURM_NODEID", "0")))


def train_apart(
    module: Sequence[str], run: RunDir, config: TrainerConfig, on_log: Callable[[dict[str, Any]], None] | None
) -> Trained:
    """Have `python -m <module>` train in several processes, unless that is done, and hand on the rows as they come.

    A signal is passed on to them, and obeyed when they have saved and left. Raises the UserError of the process that
    failed first, or one that says which was killed.
    """
    session = Session(run)
    if (done := session.trained()) is not None:
        return done
    session.clear()
    machines, meeting = Machines.of_this_step(), _meeting()
    write_json(session.meeting_path, meeting)
    offset = 0

    def hand_on() -> None:
        nonlocal offset
        rows, offset = session.rows(offset)
        if on_log is not None:
            for row in rows:
                on_log(row)

    with Preemption() as told, _started(module, session, processes_of(config), machines, meeting) as agent:
        _follow(agent, told, hand_on)
    told.obey()
    done = session.trained()
    if done is None:
        raise session.why(agent.returncode)
    return done


def join(module: Sequence[str], run: RunDir, config: TrainerConfig, stage: str) -> None:
    """On a machine that does not lead: take part in the training as soon as the leading one starts it.

    Returns when it is done, or was done before. Raises UserError where a process of this machine failed.
    """
    session, begun = Session(run), time.time()
    with Preemption() as told:
        while (meeting := session.meeting(_attempt())) is None and told.received is None:
            if run.finished(stage) or session.trained() is not None or _failed(run, begun):
                return
            time.sleep(JOIN_POLL_SECONDS)
        if meeting is not None:
            machines = Machines.of_this_step()
            with _started(module, session, processes_of(config), machines, meeting) as agent:
                _follow(agent, told, lambda: None)
            if agent.returncode and told.received is None:
                raise session.why(agent.returncode)
    told.obey()


def _failed(run: RunDir, begun: float) -> bool:
    """Whether the leading machine has given up meanwhile."""
    return run.failure_path.is_file() and run.failure_path.stat().st_mtime > begun


def _attempt() -> str:
    """What the machines of a step have in common, and a requeued job has anew."""
    return ".".join(os.environ.get(f"SLURM_{name}", "") for name in ("JOB_ID", "STEP_ID", "RESTART_COUNT"))


def _meeting() -> dict[str, Any]:
    with socket.socket() as free:
        free.bind(("", 0))
        return {"attempt": _attempt(), "host": platform.node(), "port": free.getsockname()[1]}


def _follow(agent: subprocess.Popen[bytes], told: Preemption, hand_on: Callable[[], None]) -> None:
    passed_on = False
    while agent.poll() is None:
        if told.received is not None and not passed_on and agent.stdin is not None:
            passed_on = True
            with suppress(BrokenPipeError):
                os.write(agent.stdin.fileno(), bytes([told.received]))
        time.sleep(POLL_SECONDS)
        hand_on()
    hand_on()


@contextmanager
def _started(
    module: Sequence[str], session: Session, count: int, machines: Machines, meeting: dict[str, Any]
) -> Iterator[subprocess.Popen[bytes]]:
    """torchrun, which is gone at the end of the block: its processes leave when this one lets go of their stdin."""
    where = ["--standalone"]
    if machines.count > 1:
        leader = ["--master-addr", str(meeting["host"]), "--master-port", str(meeting["port"])]
        where = ["--nnodes", str(machines.count), "--node-rank", str(machines.own), *leader]
    command = [sys.executable, "-m", "torch.distributed.run", *where, "--nproc-per-node", str(count), "--module"]
    environment = os.environ | {"OMP_NUM_THREADS": str(local_threads(count))}
    with open(session.log_path, "ab") as log, _blocked():
        agent = subprocess.Popen([*command, *module], stdin=subprocess.PIPE, stderr=log, env=environment)
    try:
        yield agent
    finally:
        if agent.stdin is not None:
            agent.stdin.close()
        agent.wait()


@contextmanager
def _blocked() -> Iterator[None]:
    """What is started within the block has the signals blocked: torchrun would end its processes by its own rules."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
