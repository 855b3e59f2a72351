"""One process of several that train together: how it is told to end, and how it tells that it did.

Signals stay blocked, as it inherits them, so that neither it nor what it starts can die of one that a scheduler sends
to all. It hears from the process that started torchrun through stdin: a byte is the number of a signal to obey, the end
of the file that this process is gone. torchrun's own SIGTERM, sent when another process has failed, is obeyed at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import torch

from menard_unlearn.memory import peak_memory_mb
from menard_unlearn.models.delta import save_delta
from menard_unlearn.run import RunDir
from menard_unlearn.training.checkpoints import Checkpoints, writing
from menard_unlearn.training.loop import TrainResult
from menard_unlearn.training.preemption import SIGNALS, Preemption
from menard_unlearn.training.session import Session, Trained

EXIT_FAILED, EXIT_ALONE = 1, 75

TakeRow = Callable[[dict[str, Any]], None]
Train = Callable[[Preemption, TakeRow], tuple[TrainResult, str]]
"""From what it is told by and what takes its rows; the result, and the identity of the base model."""


def take_part(run: RunDir, train: Train) -> None:
    """Train as one of torchrun's processes; the first leaves the delta and a record. Never returns on an error."""
    session, rank = Session(run), int(os.environ["RANK"])
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    preemption = Preemption()
    session.end(rank, "begun")  # before anybody asks how it stands
    threading.Thread(target=_listen, args=(preemption,), daemon=True).start()
    threading.Thread(target=_watch_torchrun, args=(session, rank), daemon=True).start()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        result, identity = train(preemption, session.append_row)
        session.note_memory(rank, peak_memory_mb())
        torch.distributed.barrier()
        if rank == 0:
            with writing(run.delta_path, Checkpoints(run.checkpoints_dir)):
                save_delta(run.delta_path, result.delta, identity, torch.float32)
            done = Trained(result.steps, result.seconds, result.stopped, result.best_step, session.peak())
            session.finish(done)
        session.end(rank, "done")
    except (SystemExit, KeyboardInterrupt):
        session.end(rank, "left")
    except BaseException as error:
        session.end(rank, "error", error)
        traceback.print_exc()
        sys.stderr.flush()
        # Not by the ordinary way, on which it would wait for processes that wait for it
        os._exit(EXIT_FAILED)


def _listen(preemption: Preemption) -> None:
    while told := os.read(sys.stdin.fileno(), 1):
        preemption.note(told[0])
    os._exit(EXIT_ALONE)


def _watch_torchrun(session: Session, rank: int) -> None:
    """A scheduler's SIGTERM, sent to every process of a job, reaches the one that listens for all; this is another."""
    while True:
        if signal.sigwaitinfo({signal.SIGTERM}).si_pid == os.getppid():
            if session.state(rank) == "begun":
                session.end(rank, "stopped")
            os._exit(128 + signal.SIGTERM)
