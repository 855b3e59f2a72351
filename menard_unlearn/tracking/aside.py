"""A tracker whose calls are made in a thread of their own, so that a training never waits for one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue

from menard_unlearn.tracking.tracker import Guarded, Tracker, Value

log = logging.getLogger(__name__)


class Aside(Tracker):
    """Makes the calls in the order in which they came, whenever the tracker is ready for them."""

    def __init__(self, tracker: Tracker, patience: float, abandon: Callable[[], None]) -> None:
        """`patience`: seconds that the end of the run waits for calls that are still to be made; `abandon` is called
        where they take longer."""
        self.tracker = Guarded(tracker)
        self.patience = patience
        self.abandon = abandon
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._make, name="tracking", daemon=True)
        self._thread.start()

    def _make(self) -> None:
        while (call := self._calls.get()) is not None:
            call()

    def log(self, row: Mapping[str, Value]) -> None:
        """At once; made later."""
        kept = dict(row)
        self._calls.put(lambda: self.tracker.log(kept))

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Value]]) -> None:
        """At once; made later."""
        self._calls.put(lambda: self.tracker.table(key, columns, rows))

    def html(self, key: str, text: str) -> None:
        """At once; made later."""
        self._calls.put(lambda: self.tracker.html(key, text))

    def artifact(self, name: str, kind: str, path: Path, metadata: Mapping[str, Value]) -> None:
        """At once; made later."""
        self._calls.put(lambda: self.tracker.artifact(name, kind, path, metadata))

    def summary(self, values: Mapping[str, Value]) -> None:
        """At once; made later."""
        kept = dict(values)
        self._calls.put(lambda: self.tracker.summary(kept))

    def finish(self, exit_code: int) -> None:
        """Once every call is made. A tracker that does not get there in time is left as it is."""
        self._calls.put(lambda: self.tracker.finish(exit_code))
        self._calls.put(None)
        self._thread.join(self.patience)
        if self._thread.is_alive():
            log.warning("tracking did not end within %.0f s and is left behind; history.jsonl has all", self.patience)
            self.abandon()
