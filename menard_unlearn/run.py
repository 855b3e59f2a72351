"""The run directory: the only thing that passes from one stage to the next.

Its name ends in a hash of the resolved configuration and of the *contents* of data and base model, so that a repeated
or requeued job finds its own work. A stage writes its manifest last: a directory with a manifest is finished, one
without it was begun and can be resumed. JSON files are written aside, flushed and renamed: no reader sees half of one.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from menard_unlearn.errors import Busy, UserError, in_one_line
from menard_unlearn.files import canonical, digest_text, refuse_nan, replace, write_json
from menard_unlearn.lock import holder, locking

VOLATILE = ("tracking", "cache", "hydra", "runs_dir", "study", "resume", "objective")
"""Top-level keys that say where or how a run is kept, never what it computes."""

POLL_SECONDS = 1.0
JOB_VARIABLE, LOG_VARIABLE = "MENARD_JOB", "MENARD_LOG"

RECORDED_PACKAGES = ("menard-unlearn", "torch", "transformers", "tokenizers", "datasets", "accelerate", "numpy")


def run_id(config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """16 hex digits of the configuration without its `VOLATILE` keys, and of the inputs' content digests by name.

    Neither the order of keys nor 1 instead of 1.0 changes it.
    """
    lasting = {key: value for key, value in config.items() if key not in VOLATILE}
    return digest_text(canonical({"config": lasting, "inputs": dict(inputs)}))[:16]


@dataclass(frozen=True)
class RunDir:
    """One run's directory, by its path; nothing is created before something is written."""

    path: Path

    @property
    def config_path(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def history_path(self) -> Path:
        """One JSON object a logged step."""
        return self.path / "history.jsonl"

    @property
    def delta_path(self) -> Path:
        """The changed weights."""
        return self.path / "delta.safetensors"

    @property
    def evaluation_dir(self) -> Path:
        """One JSON file an evaluation."""
        return self.path / "evaluation"

    @property
    def checkpoints_dir(self) -> Path:
        """Where a training that is not finished resumes from."""
        return self.path / "checkpoints"

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Keep the resolved configuration, plain as `config.to_plain` gives it."""
        replace(self.config_path, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True).encode())

    def read_config(self) -> dict[str, Any]:
        """The configuration that the run was begun with; a folder without one is a `UserError`."""
        if not self.config_path.is_file():
            raise UserError(f"{self.path} is not a run directory (no config.yaml): give runs/<study>/<run>")
        return yaml.safe_load(self.config_path.read_text(encoding="utf-8"))

    def manifest_path(self, stage: str) -> Path:
        """The file whose existence says that the stage is finished here."""
        return self.path / f"{stage}.manifest.json"

    def manifest(self, stage: str) -> dict[str, Any] | None:
        """What the stage recorded when it ended, or None where it has not."""
        path = self.manifest_path(stage)
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def finished(self, stage: str) -> bool:
        """Whether the stage ended here."""
        return self.manifest_path(stage).is_file()

    def write_manifest(
        self,
        stage: str,
        *,
        config_hash: str,
        inputs: Mapping[str, str],
        seconds: float,
        peak_memory_mb: float,
        results: Mapping[str, Any] | None = None,
    ) -> None:
        """Declare the stage finished; call it when everything else is on the disk."""
        manifest = {
            "stage": stage,
            "config_hash": config_hash,
            "inputs": dict(inputs),
            "seconds": seconds,
            "peak_memory_mb": peak_memory_mb,
            "finished_at": _now(),
            "versions": _versions(),
            "results": dict(results or {}),
        }
        write_json(self.manifest_path(stage), manifest)

    @property
    def failure_path(self) -> Path:
        """Why the last attempt failed; it is not there while none has, and goes when the next one begins."""
        return self.path / "failure.json"

    def failure(self) -> dict[str, Any] | None:
        """What `write_failure` recorded of the last attempt, or None where it did not fail."""
        try:
            return json.loads(self.failure_path.read_text(encoding="utf-8"))
        except FileNotFoundError:  # of a run that never failed, or is being tried again just now
            return None

    def write_failure(self, error: BaseException | str) -> None:
        """Record in one line why an attempt ended, where, and in which log the rest is to be read.

        A scheduled job names itself and its log in `MENARD_JOB` and `MENARD_LOG`.
        """
        failure = {
            "error": in_one_line(error) or type(error).__name__,
            "kind": "Stopped" if isinstance(error, str) else type(error).__name__,
            "at": _now(),
            "host": platform.node(),
            "job": os.environ.get(JOB_VARIABLE),
            "log": os.environ.get(LOG_VARIABLE),
        }
        write_json(self.failure_path, failure)

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """Hold the directory and work in it; an error on the way out is recorded.

        Being told to stop, by a signal or at the keyboard, is no failure. Raises `Busy` where another process is at
        work here.
        """
        with self.lock():
            self.failure_path.unlink(missing_ok=True)
            try:
                yield
            except Exception as error:
                with contextlib.suppress(OSError):  # a full disk must not hide its own error
                    self.write_failure(error)
                raise

    def append_history(self, row: Mapping[str, Any]) -> None:
        """Add one row; a line that a killed process left unfinished is dropped first."""
        refuse_nan(row)
        line = json.dumps(dict(row), ensure_ascii=False).encode() + b"\n"
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.history_path, "ab+") as file:
            _drop_torn_line(file)
            file.write(line)

    def read_history(self) -> list[dict[str, Any]]:
        """All whole rows in order. A broken line that is not the last is a `UserError`."""
        if not self.history_path.is_file():
            return []
        rows = []
        *whole, _torn = self.history_path.read_bytes().split(b"\n")
        for number, line in enumerate(whole, start=1):
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise UserError(f"{self.history_path}:{number} is not JSON: delete that line") from error
        return rows

    def truncate_history(self, after_step: int) -> None:
        """Forget the rows of later steps, which a resumed training writes again."""
        rows = [row for row in self.read_history() if row["step"] <= after_step]
        replace(self.history_path, b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory against other processes. Raises `Busy` where one of them has it."""
        with locking(self._lock_path) as other:
            if other is not None:
                raise Busy(f"{self.path} is in use by process {other}: wait for it or stop it")
            yield

    @contextlib.contextmanager
    def waiting_lock(self) -> Iterator[None]:
        """The lock, as soon as another process lets go of it."""
        with contextlib.ExitStack() as held:
            waited = False
            while True:
                try:
                    held.enter_context(self.lock())
                    break
                except Busy as busy:
                    if not waited:
                        print(f"waiting: {str(busy).partition(':')[0]}", flush=True)
                    waited = True
                    time.sleep(POLL_SECONDS)
            yield

    def holder(self) -> str | None:
        """`<pid> on <host>` of the process that holds the lock now, or None."""
        return holder(self._lock_path)

    @property
    def _lock_path(self) -> Path:
        return self.path / ".lock"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _drop_torn_line(file: BinaryIO) -> None:
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return
    file.seek(end - 1)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions
