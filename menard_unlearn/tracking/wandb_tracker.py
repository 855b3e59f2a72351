"""Tracking by wandb. A `Run` object is held and passed; the global `wandb.log` is never used.

What wandb does with each setting was read from real runs of 0.31.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import wandb

from menard_unlearn.tracking.aside import Aside
from menard_unlearn.tracking.destination import NO_ANSWER, choose
from menard_unlearn.tracking.tracker import TrackedRun, Tracker, Value, identity, named
from menard_unlearn.tracking.wandb_config import WandbTracking
from menard_unlearn.tracking.wandb_record import WandbRecord
from menard_unlearn.tracking.wandb_server import Server, silence_telemetry

log = logging.getLogger(__name__)

INIT_SECONDS = 30.0
"""How long a server that accepts connections may take over the start of a run before the run goes offline."""
FLUSH_SECONDS = 2.0
"""What a SIGKILL may cost: rows logged since wandb last wrote its file (15 s by its own default)."""
LEAVE_SECONDS = 5.0
"""How long after `finish_timeout` a wandb that does not answer is left behind."""
READ_SECONDS = 10
"""How long a run that is taken up again asks the server for the rows it has."""


def start(config: WandbTracking, mode: str, run: TrackedRun) -> Tracker:
    """Open a wandb run, online if it can be, else offline; one that keeps nothing where even that fails.

    `WandbTracking.open` is the way in; `mode` is auto, online or offline.
    """
    directory = Path(config.directory or run.directory.parent).absolute()
    record = WandbRecord.of(config, run)
    record.write(run.directory)
    opened = _open_or_fall_back(lambda mode: open_run(record, directory, mode, config.finish_timeout), mode)
    if opened is None:
        return Tracker()
    if opened.id != run.id:
        log.warning("wandb opened run %s in place of %s; this run is not tracked", opened.id, run.id)
        return Tracker()
    tracker = WandbTracker(opened, config.max_artifact_mb)
    tracker.begin()
    if not opened.offline:
        record = replace(record, entity=opened.entity, project=opened.project)
        record.write(run.directory)
        tracker.use_soon(record, run.directory)
    if opened.resumed:
        tracker.known = _known_rows(record)
    return Aside(tracker, config.finish_timeout + LEAVE_SECONDS, _kill_service)


def open_run(record: WandbRecord, directory: Path, mode: str, finish_timeout: float) -> wandb.Run:
    """Begin the run, or go on with it; wandb's files go to `directory/wandb`. Raises what wandb raises."""
    silence_telemetry()
    directory.mkdir(parents=True, exist_ok=True)
    # Bytes of tables wait here for an upload. By default they would wait in the home directory, out of reach of another
    # machine.
    os.environ["WANDB_DATA_DIR"] = str(directory / "wandb" / "staged")
    return wandb.init(
        mode=mode,  # pyright: ignore[reportArgumentType] -- online or offline
        id=record.id,
        resume="allow",
        name=record.name,
        project=record.project,
        entity=record.entity,
        group=record.group,
        job_type=record.job_type,
        tags=list(record.tags),
        config=dict(record.config),
        dir=str(directory),
        settings=_settings(finish_timeout),
    )


def _settings(finish_timeout: float) -> wandb.Settings:
    return wandb.Settings(
        # The default hands the second run of a process the first one's run, id and configuration.
        reinit="finish_previous",
        init_timeout=INIT_SECONDS,
        finish_timeout=finish_timeout,
        x_transaction_log_flush_interval=FLUSH_SECONDS,
        # Neither what the program prints (it may hold the target) nor its code is anyone else's business.
        console="off",
        silent=True,
        save_code=False,
        disable_code=True,
        disable_git=True,
        # Machine information includes the program's arguments, where an override may hold a token. The resolved
        # configuration says more than they do.
        x_disable_machine_info=True,
    )


def _open_or_fall_back(open_run: Callable[[str], wandb.Run], mode: str) -> wandb.Run | None:
    for attempt in (mode, "offline"):
        try:
            chosen, reason = choose(attempt, wandb.setup(wandb.Settings(silent=True)).settings.base_url)
            run = open_run(chosen)
            # That nobody has a key here is worth no line for every run; that a server is away is.
            level = logging.WARNING if chosen != attempt != "auto" or NO_ANSWER in reason else logging.DEBUG
            log.log(logging.INFO if run.url else level, "wandb is %s: %s", chosen, run.url or reason)
            return run
        except Exception as problem:  # wandb raises a dozen kinds, and none of them may stop a training run
            log.warning("wandb did not open (%s): %s: %s", attempt, type(problem).__name__, problem)
            wandb.teardown()  # without it the next attempt is told that the id is in use
    log.warning("this run is not tracked by wandb; history.jsonl has everything")
    return None


def _known_rows(record: WandbRecord) -> set[str]:
    """Rows that the server has of earlier sessions: a resumed training repeats those since its checkpoint."""
    try:
        kept = Server.connect(READ_SECONDS).read(record)
    except Exception as problem:  # as above; `menard sync` counts the rows that are then there twice
        log.warning("wandb does not tell which rows it has: %s: %s", type(problem).__name__, problem)
        return set()
    return set(kept.rows) if kept is not None else set()


def _kill_service() -> None:
    """End wandb's own process, which hangs: at its exit this process would wait for it, for ever."""
    with suppress(AttributeError):  # wandb has no public name for it
        wandb.setup()._connection._proc._process.kill()  # pyright: ignore[reportOptionalMemberAccess]


class WandbTracker(Tracker):
    """A wandb run."""

    def __init__(self, run: wandb.Run, max_artifact_mb: float) -> None:
        self.run = run
        self.max_artifact_mb = max_artifact_mb
        self.known: set[str] = set()
        """Identities of rows that are there already."""

    def begin(self) -> None:
        """Name the x axis of each family of figures. `step=` is never passed: wandb drops repeated steps."""
        self.run.define_metric("train/step")
        self.run.define_metric("train/*", step_metric="train/step")
        self.run.define_metric("eval/year", hidden=True)
        self.run.define_metric("eval/*", step_metric="train/step")
        self.run.define_metric("curve/*", step_metric="eval/year")

    def use_soon(self, record: WandbRecord, directory: Path) -> None:
        """Log what the run was made from, and that it was; in a thread, since wandb waits for the server's answer."""
        threading.Thread(target=self._use_or_leave, args=(record, directory), daemon=True).start()

    def _use_or_leave(self, record: WandbRecord, directory: Path) -> None:
        with suppress(Exception):  # the run is over or the server is away: `menard sync` does it
            self.use(record, directory)

    def use(self, record: WandbRecord, directory: Path) -> None:
        """The same at once; a file whose content the server has is not uploaded again."""
        for name, kind, path in record.inputs:
            self.run.use_artifact(_artifact(name, kind, directory / path, {}))

    def log(self, row: Mapping[str, Value]) -> None:
        """Hand the row to wandb's own process; one that the server has is left out."""
        full = named(row)
        if not self.known or identity(full) not in self.known:
            self.run.log(full)

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Value]]) -> None:
        """As a `wandb.Table`, which custom charts can be drawn from."""
        data: list[Any] = [list(row) for row in rows]
        self.run.log({key: wandb.Table(columns=list(columns), data=data)})

    def html(self, key: str, text: str) -> None:
        """As a media panel, without wandb's own style."""
        self.run.log({key: wandb.Html(text, inject=False)})

    def artifact(self, name: str, kind: str, path: Path, metadata: Mapping[str, Value]) -> None:
        """Read from where it lies, when it is uploaded or when an offline run is synced: it must not change or move."""
        if reason := too_large(path, self.max_artifact_mb):
            self.run.summary.update({f"artifact/{kind}": reason})
            return
        aliases = ["latest", *([f"step-{metadata['step']}"] if "step" in metadata else [])]
        self.run.log_artifact(_artifact(name, kind, path, metadata), aliases=aliases)

    def summary(self, values: Mapping[str, Value]) -> None:
        """Flat, so that they can be the axes of scatter plots."""
        self.run.summary.update({key: value for key, value in values.items() if value is not None})

    def finish(self, exit_code: int) -> None:
        """Wait for uploads up to `finish_timeout`."""
        self.run.finish(exit_code=exit_code)


def artifact_name(name: str) -> str:
    """The name as wandb takes it."""
    return re.sub(r"[^\w.-]", "-", name)[:128]


def too_large(path: Path, max_mb: float) -> str | None:
    """Why a file or folder of this size is not uploaded, or None where it is."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    size_mb = sum(file.stat().st_size for file in files) / 1e6
    return f"left out: {size_mb:.3g} MB, tracking.max_artifact_mb={max_mb:g}" if size_mb > max_mb else None


def _artifact(name: str, kind: str, path: Path, metadata: Mapping[str, Value]) -> wandb.Artifact:
    artifact = wandb.Artifact(artifact_name(name), kind, metadata=dict(metadata))
    # Immutable, so that it is read from where it lies instead of being copied twice.
    add = artifact.add_dir if path.is_dir() else artifact.add_file
    add(str(path.absolute()), policy="immutable", skip_cache=True)
    return artifact
