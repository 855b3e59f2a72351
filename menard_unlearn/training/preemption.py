"""Signals that ask a run to end: it finishes its step, saves a checkpoint, and then goes."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

EXIT_SIGTERM = 128 + signal.SIGTERM
"""143, by which schedulers know a job that was told to end."""


class Preemption:
    """While entered, SIGTERM and SIGINT are noted instead of obeyed; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Preemption:
        # Python lets only the main thread set handlers; elsewhere signals keep their meaning.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received is not None:
            raise KeyboardInterrupt
        self.received = number

    def obey(self) -> None:
        """End as the signal wanted, if one came: KeyboardInterrupt, or SystemExit(143)."""
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received == signal.SIGTERM:
            raise SystemExit(EXIT_SIGTERM)
