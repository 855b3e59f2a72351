"""The only import of wandb. A `Run` object is held and passed; the global `wandb.log` is never used.

What wandb does with each setting was read from real runs of 0.31.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from menard_unlearn.tracking.destination import NO_ANSWER, choose
from menard_unlearn.tracking.tracker import Tracker, TrackingConfig, Value

log = logging.getLogger(__name__)

INIT_SECONDS = 30.0
"""How long a server that accepts connections may take over the start of a run before the run goes offline."""
FLUSH_SECONDS = 2.0
"""What a SIGKILL may cost: rows logged since wandb last wrote its file (15 s by its own default)."""
SECRET_KEYS = frozenset({"token", "hf_token", "access_token", "auth_token", "api_key", "password", "secret"})


def start(
    config: TrackingConfig,
    mode: str,
    *,
    run_id: str,
    name: str,
    study: str,
    job_type: str,
    tags: Sequence[str],
    plain_config: Mapping[str, Any],
    run_dir: Path,
) -> Tracker:
    """Open a wandb run, online if it can be, else offline; one that keeps nothing where even that fails.

    Arguments as in `open_tracker`, which is the way in; `mode` is auto, online or offline.
    """
    directory = Path(config.directory or run_dir.parent).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    # Bytes of tables wait here for `wandb sync`. By default they would wait in the home directory, out of reach of
    # another machine.
    os.environ["WANDB_DATA_DIR"] = str(directory / "wandb" / "staged")

    def open_run(mode: str) -> wandb.Run:
        return wandb.init(
            mode=mode,  # pyright: ignore[reportArgumentType] -- `choose` gives two of its literals
            id=run_id,
            resume="allow",
            name=name,
            project=config.project or study,
            entity=config.entity,
            group=config.group,
            job_type=job_type,
            tags=sorted({tag[:64] for tag in (*tags, *config.tags) if tag}),
            config=_without_secrets(plain_config),
            dir=str(directory),
            settings=_settings(config),
        )

    run = _open_or_fall_back(open_run, mode)
    if run is None:
        return Tracker()
    if run.id != run_id:
        log.warning("wandb opened run %s in place of %s; this run is not tracked", run.id, run_id)
        return Tracker()
    tracker = WandbTracker(run, config.max_artifact_mb)
    tracker.begin()
    return tracker


def _settings(config: TrackingConfig) -> wandb.Settings:
    return wandb.Settings(
        # The default hands the second run of a process the first one's run, id and configuration.
        reinit="finish_previous",
        init_timeout=INIT_SECONDS,
        finish_timeout=config.finish_timeout,
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


def _without_secrets(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {
            str(key): "(hidden)" if str(key).lower() in SECRET_KEYS and value else _without_secrets(value)
            for key, value in node.items()
        }
    if isinstance(node, list | tuple):
        return [_without_secrets(value) for value in node]
    return node


class WandbTracker(Tracker):
    """A wandb run whose failures are reported once and otherwise ignored."""

    def __init__(self, run: wandb.Run, max_artifact_mb: float) -> None:
        self.run = run
        self.max_artifact_mb = max_artifact_mb
        self._warned = False
        self._finished = False
        self._known_step: object = None

    def begin(self) -> None:
        """Name the x axis of each family of figures. `step=` is never passed: wandb drops repeated steps."""
        # A run that is taken up again repeats the steps since its checkpoint; the server has those already.
        self._try(self._find_known_step)
        self._try(lambda: self.run.define_metric("train/step"))
        self._try(lambda: self.run.define_metric("train/*", step_metric="train/step"))
        self._try(lambda: self.run.define_metric("eval/year", hidden=True))
        self._try(lambda: self.run.define_metric("eval/*", step_metric="train/step"))
        self._try(lambda: self.run.define_metric("curve/*", step_metric="eval/year"))

    def _find_known_step(self) -> None:
        if self.run.resumed:
            self._known_step = self.run.summary.get("train/step")

    def log(self, row: Mapping[str, Value]) -> None:
        """Queue the row for wandb's own process, half a millisecond; a row that the server has is left out."""
        named = {key if "/" in key else f"train/{key}": value for key, value in row.items() if value is not None}
        if not self._is_known(named):
            self._try(lambda: self.run.log(named))

    def _is_known(self, row: Mapping[str, Value]) -> bool:
        step = row.get("train/step")
        if not isinstance(step, int) or not isinstance(self._known_step, int):
            return False
        # A step's own row comes before its evaluations: at the last known step only the former is sure to be there.
        return step < self._known_step or (step == self._known_step and "train/loss" in row)

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Value]]) -> None:
        """As a `wandb.Table`, which custom charts can be drawn from."""
        data: list[Any] = [list(row) for row in rows]
        self._try(lambda: self.run.log({key: wandb.Table(columns=list(columns), data=data)}))

    def html(self, key: str, text: str) -> None:
        """As a media panel, without wandb's own style."""
        self._try(lambda: self.run.log({key: wandb.Html(text, inject=False)}))

    def artifact(self, name: str, kind: str, path: Path, metadata: Mapping[str, Value]) -> None:
        """Read from where it lies, when it is uploaded or when an offline run is synced: it must not change or move."""
        self._try(lambda: self._artifact(name, kind, path, metadata))

    def _artifact(self, name: str, kind: str, path: Path, metadata: Mapping[str, Value]) -> None:
        size_mb = path.stat().st_size / 1e6
        if size_mb > self.max_artifact_mb:
            reason = f"left out: {size_mb:.1f} MB, tracking.max_artifact_mb={self.max_artifact_mb:g}"
            self.run.summary.update({f"artifact/{kind}": reason})
            return
        artifact = wandb.Artifact(re.sub(r"[^\w.-]", "-", name)[:128], kind, metadata=dict(metadata))
        # Immutable, so that it is read from where it lies instead of being copied twice.
        artifact.add_file(str(path.absolute()), policy="immutable", skip_cache=True)
        self.run.log_artifact(artifact)

    def summary(self, values: Mapping[str, Value]) -> None:
        """Flat, so that they can be the axes of scatter plots."""
        known = {key: value for key, value in values.items() if value is not None}
        self._try(lambda: self.run.summary.update(known))

    def finish(self, exit_code: int) -> None:
        """Once; waits for uploads up to `finish_timeout`."""
        if not self._finished:
            self._finished = True
            self._try(lambda: self.run.finish(exit_code=exit_code))

    def _try(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as problem:  # once its service has died every call of wandb raises
            if not self._warned:
                log.warning("a wandb call failed and training goes on: %s: %s", type(problem).__name__, problem)
            self._warned = True
