"""How a scheduler's signals reach a job: as an orderly end wherever it is, and never as the death of its children.

Slurm sends SIGUSR2 before the time limit and SIGTERM when it takes a job away, both to every process of the job. A
training that is going on notes them itself, saves and leaves (`training.preemption`); anywhere else the process unwinds
at once, which loses nothing, since files are written aside and renamed.
"""

from __future__ import annotations

import _thread
import signal
import threading
from types import FrameType

EXIT_USR2, EXIT_TERM = 128 + signal.SIGUSR2, 128 + signal.SIGTERM


class Signals:
    """What has been received; `install` in the main thread."""

    def __init__(self) -> None:
        self.received: set[int] = set()
        self._leaving = False

    def install(self) -> None:
        """Turn the first SIGUSR2 or SIGTERM into SystemExit(128 + its number) in the main thread.

        SIGUSR2 is blocked and waited for in a thread: what this process starts inherits the block, so that a tracker's
        service or torchrun's agent, which know nothing of the signal, do not die of it.
        """
        signal.signal(signal.SIGUSR2, self._leave)
        signal.signal(signal.SIGTERM, self._leave)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        threading.Thread(target=self._wait, daemon=True, name="signals").start()

    def _wait(self) -> None:
        while True:
            signal.sigwait({signal.SIGUSR2})
            self.received.add(signal.SIGUSR2)
            _thread.interrupt_main(signal.SIGUSR2)  # runs whichever handler the main thread has now

    def _leave(self, number: int, frame: FrameType | None) -> None:
        self.received.add(number)
        if not self._leaving:  # a second signal must not interrupt the leaving
            self._leaving = True
            raise SystemExit(128 + number)
