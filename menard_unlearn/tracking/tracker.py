"""What a stage may say about its run while it goes on, and the context in which it may say it.

A kind of tracking is one file with a `Tracker` and a subclass of `TrackingConfig`, and one `conf/tracking/<name>.yaml`
whose `_target_` names the latter. Nothing else has to know it.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from menard_unlearn.files import canonical
from menard_unlearn.tracking.destination import rank

log = logging.getLogger(__name__)

Value = float | int | str | bool | None


@dataclass(frozen=True)
class InputFile:
    """A small file that says what a run was made from; runs made from the same share it."""

    name: str
    kind: str
    """dataset"""
    path: Path


@dataclass(frozen=True)
class TrackedRun:
    """What a run is called and what it consists of."""

    id: str
    """Hash of its configuration; a run that is taken up again goes on under the same id."""
    name: str
    """What people read: the name of its directory."""
    study: str
    """Name of the study; the project, unless `tracking.project` names another."""
    job_type: str
    """The stage."""
    tags: tuple[str, ...]
    """Method, stage and the like."""
    config: Mapping[str, Any]
    """The resolved configuration as plain nested dicts and lists, input digests and code version included."""
    directory: Path
    """runs/<study>/<run>."""
    inputs: tuple[InputFile, ...]
    """What it was made from."""


class Tracker:
    """The calls a stage may make. This class itself keeps nothing: it is the tracking that is switched off.

    An implementation may raise: `open_tracker` hands out trackers whose failures are reported once and else ignored.
    """

    def log(self, row: Mapping[str, Value]) -> None:
        """One row of history, as in history.jsonl; one that was logged before the run was taken up again is left out.

        `step` and bare names are filed under `train/`, names with a prefix (`eval/forget_recall`, `curve/recall`) as
        they are. Nulls are left out.
        """

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Value]]) -> None:
        """A table; every row as long as `columns`."""

    def html(self, key: str, text: str) -> None:
        """A piece of HTML, shown as it is."""

    def artifact(self, name: str, kind: str, path: Path, metadata: Mapping[str, Value]) -> None:
        """A file or a folder. It may be read later than now, so it must not change."""

    def summary(self, values: Mapping[str, Value]) -> None:
        """Scalars that describe the whole run. Nulls are left out."""

    def finish(self, exit_code: int) -> None:
        """End the run; `open_tracker` calls it, whichever way the run ends."""


@dataclass(frozen=True)
class TrackingConfig(ABC):
    """Where runs are tracked. Nothing here changes a result, so none of it enters a run's id."""

    project: str | None
    """Name under which runs are filed; null takes the study's."""
    group: str | None
    """Name under which the runs of one sweep are folded together; null leaves them ungrouped."""
    tags: tuple[str, ...]
    """Tags added to those of the run's method and stage; 1-64 characters each."""
    checkpoints: Literal["none", "last", "best"]
    """What is handed over when a session ends before its training does: nothing, the newest whole checkpoint, or that
    of the best evaluation. A finished run hands over its delta, and `menard sync` then deletes its checkpoints there;
    of an unfinished one it keeps the newest version."""

    @abstractmethod
    def open(self, run: TrackedRun) -> Tracker:
        """Begin to track the run, or go on where an earlier session of it ended."""


@dataclass(frozen=True)
class NoTracking(TrackingConfig):
    """A run's figures stay in its own directory."""

    def open(self, run: TrackedRun) -> Tracker:
        """Keep nothing."""
        return Tracker()


def named(row: Mapping[str, Value]) -> dict[str, Value]:
    """The row under the names that trackers file it by: bare ones get `train/` before them, nulls are left out."""
    return {key if "/" in key else f"train/{key}": value for key, value in row.items() if value is not None}


STEPS = ("train/step", "eval/year", "train/phase")
"""What says where in a run a row belongs; its other names say what was measured there."""


def identity(row: Mapping[str, Any]) -> str:
    """Equal for two rows, named as `named` does it, that tell of the same thing at the same place.

    Values do not count: a resumed training repeats its steps, on some devices with other last digits.
    """
    place = {key: row[key] for key in STEPS if key in row}
    return canonical([place, sorted(key for key in row if key not in STEPS)])


class Guarded(Tracker):
    """A tracker whose failures are reported once and otherwise ignored: no run ends because of them."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self._warned = False
        self._finished = False

    def log(self, row: Mapping[str, Value]) -> None:
        """As the tracker does, if it can."""
        self._try(lambda: self.tracker.log(row))

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Value]]) -> None:
        """As the tracker does, if it can."""
        self._try(lambda: self.tracker.table(key, columns, rows))

    def html(self, key: str, text: str) -> None:
        """As the tracker does, if it can."""
        self._try(lambda: self.tracker.html(key, text))

    def artifact(self, name: str, kind: str, path: Path, metadata: Mapping[str, Value]) -> None:
        """As the tracker does, if it can."""
        self._try(lambda: self.tracker.artifact(name, kind, path, metadata))

    def summary(self, values: Mapping[str, Value]) -> None:
        """As the tracker does, if it can."""
        self._try(lambda: self.tracker.summary(values))

    def finish(self, exit_code: int) -> None:
        """Once, if it can."""
        if not self._finished:
            self._finished = True
            self._try(lambda: self.tracker.finish(exit_code))

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as problem:  # a dozen kinds from a dozen libraries, none of which may stop a training
            if not self._warned:
                log.warning("a call of tracking failed, the run goes on: %s: %s", type(problem).__name__, problem)
            self._warned = True


@contextmanager
def open_tracker(config: TrackingConfig, run: TrackedRun) -> Iterator[Tracker]:
    """Track one run for as long as the context lasts; several may follow one another in a process.

    Only the first of several processes tracks. Nothing that becomes of the tracking is raised.
    """
    if rank(os.environ) != 0 or isinstance(config, NoTracking):
        yield Tracker()
        return
    tracker = Guarded(_opened(config, run))
    with _sigterm_unwinds():
        exit_code = 1
        try:
            yield tracker
            exit_code = 0
        except SystemExit as leaving:
            exit_code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
            raise
        finally:
            tracker.finish(exit_code)


def _opened(config: TrackingConfig, run: TrackedRun) -> Tracker:
    try:
        return config.open(run)
    except Exception as problem:  # as above
        log.warning("this run is not tracked, history.jsonl has everything: %s: %s", type(problem).__name__, problem)
        return Tracker()


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """Turn the first SIGTERM into SystemExit(143), so that the run is finished on the way out.

    The default action ends the process at once, and with it the rows that were not yet written. A handler that is
    already installed (the trainer's, a scheduler's) is left alone, and so is one that is installed later.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, ignore)  # a second signal must not interrupt the finishing
        raise SystemExit(128 + number)

    def ignore(number: int, frame: FrameType | None) -> None:
        pass

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) in (leave, ignore):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
