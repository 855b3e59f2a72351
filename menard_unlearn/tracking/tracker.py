"""What a stage may say about its run while it goes on, and the context in which it may say it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from menard_unlearn.tracking.destination import rank, requested_mode

Value = float | int | str | bool | None


@dataclass(frozen=True)
class TrackingConfig:
    """Where runs are tracked. Nothing here changes a result, so none of it enters a run's id."""

    project: str | None
    """wandb project; null takes the study's name."""
    entity: str | None
    """wandb user or team; null takes the key's own."""
    group: str | None
    """Name under which wandb folds the runs of one sweep together; null leaves them ungrouped."""
    tags: tuple[str, ...]
    """Tags added to those of the run's method and stage; 1-64 characters each."""
    mode: str
    """auto | online | offline | disabled. auto obeys WANDB_MODE, then is online where a key is found and the server
    answers, else offline."""
    max_artifact_mb: float
    """A delta larger than this many megabytes (10^6 bytes) is not handed to wandb; the summary then says so."""
    directory: str | None
    """Folder in which wandb makes its `wandb/`, one for a whole study so that one `wandb sync` finds every run;
    null is runs/<study>."""
    finish_timeout: float
    """Seconds to wait at the end of a run for an upload; what is left stays on disk for `wandb sync`."""


class Tracker:
    """The calls a stage may make. None of them raises, whatever becomes of wandb.

    This class itself keeps nothing: it is the tracking that is switched off.
    """

    def log(self, row: Mapping[str, Value]) -> None:
        """One row of history, as in history.jsonl.

        `step` and bare names are filed under `train/`, names with a prefix (`eval/forget_recall`, `curve/recall`) as
        they are. Nulls are left out.
        """

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Value]]) -> None:
        """A table; every row as long as `columns`."""

    def html(self, key: str, text: str) -> None:
        """A piece of HTML, shown as it is."""

    def artifact(self, name: str, kind: str, path: Path, metadata: Mapping[str, Value]) -> None:
        """A file, unless it is larger than `max_artifact_mb`: then the summary says that it was left out, and why."""

    def summary(self, values: Mapping[str, Value]) -> None:
        """Scalars that describe the whole run. Nulls are left out."""

    def finish(self, exit_code: int) -> None:
        """End the run; `open_tracker` calls it, whichever way the run ends."""


@contextmanager
def open_tracker(
    config: TrackingConfig,
    *,
    run_id: str,
    name: str,
    study: str,
    job_type: str,
    tags: Sequence[str],
    plain_config: Mapping[str, Any],
    run_dir: Path,
) -> Iterator[Tracker]:
    """Track one run for as long as the context lasts; several may follow one another in a process.

    Args:
        config: where to.
        run_id: hash of the run's configuration; a run that is taken up again goes on under the same id.
        name: what people read, `<method>-s<seed>-<first 4 of the hash>`.
        study: name of the study; the project unless `config.project` names another.
        job_type: the stage.
        tags: method, suite and the like.
        plain_config: the resolved configuration as plain nested dicts and lists, input digests included.
        run_dir: runs/<study>/<run>.

    Raises:
        UserError: `config.mode` is not one of the four.
    """
    mode = requested_mode(config.mode, os.environ)
    if mode == "disabled" or rank(os.environ) != 0:
        yield Tracker()
        return
    # Importing wandb takes 1-1.5 s, which a run that does not track, and every other stage, should not pay.
    from menard_unlearn.tracking.wandb_tracker import start

    tracker = start(
        config,
        mode,
        run_id=run_id,
        name=name,
        study=study,
        job_type=job_type,
        tags=tags,
        plain_config=plain_config,
        run_dir=run_dir,
    )
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


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """Turn the first SIGTERM into SystemExit(143), so that the run is finished on the way out.

    The default action ends the process at once, and with it the rows that wandb has not yet written. A handler that is
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
