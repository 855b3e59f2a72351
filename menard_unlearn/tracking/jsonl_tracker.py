"""Tracking into one more file of the run's own directory: nothing to install, nothing to reach."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from menard_unlearn.files import canonical, replace
from menard_unlearn.tracking.tracker import TrackedRun, Tracker, TrackingConfig, Value, identity, named

FILE = "tracking.jsonl"
FOLDER = "tracking"


@dataclass(frozen=True)
class JsonlTracking(TrackingConfig):
    """One JSON object an event in `tracking.jsonl`; tables and HTML in the folder `tracking/` beside it.

    Every object has `event`: begin, log, table, html, artifact, summary or finish.
    """

    def open(self, run: TrackedRun) -> Tracker:
        """Go on at the end of the file; a line that a killed process left unfinished is dropped."""
        tracker = JsonlTracker(run.directory)
        about = {"id": run.id, "name": run.name, "project": self.project or run.study, "group": self.group}
        tags = sorted({*run.tags, *self.tags})
        inputs = [entry.name for entry in run.inputs]
        tracker.write("begin", **about, job_type=run.job_type, tags=tags, config=dict(run.config), inputs=inputs)
        return tracker


class JsonlTracker(Tracker):
    """Appends events, each once: what a run that is taken up again repeats is not written again."""

    def __init__(self, directory: Path) -> None:
        self.path, self.folder = directory / FILE, directory / FOLDER
        directory.mkdir(parents=True, exist_ok=True)
        whole = b"".join(_whole_lines(self.path))
        if self.path.is_file() and self.path.stat().st_size != len(whole):
            replace(self.path, whole)
        self._known = {_key(json.loads(line)) for line in whole.splitlines()}
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 -- `finish` closes it

    def write(self, event: str, **content: Any) -> None:
        """One line, at once, unless it is there already."""
        entry = {"event": event, **content}
        key = _key(entry)
        if key not in self._known:
            self._known.add(key)
            self._file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")

    def log(self, row: Mapping[str, Value]) -> None:
        """`{"event": "log", "row": …}`."""
        self.write("log", row=named(row))

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Value]]) -> None:
        """A JSON file of columns and rows."""
        content = {"columns": list(columns), "rows": [list(row) for row in rows]}
        self._keep("table", key, f"{_slug(key)}.json", json.dumps(content, ensure_ascii=False, allow_nan=False))

    def html(self, key: str, text: str) -> None:
        """An HTML file."""
        self._keep("html", key, f"{_slug(key)}.html", text)

    def _keep(self, event: str, key: str, name: str, text: str) -> None:
        replace(self.folder / name, text.encode())
        self.write(event, key=key, file=f"{FOLDER}/{name}")

    def artifact(self, name: str, kind: str, path: Path, metadata: Mapping[str, Value]) -> None:
        """Where it lies; it is not copied."""
        self.write("artifact", name=name, kind=kind, path=str(path), metadata=dict(metadata))

    def summary(self, values: Mapping[str, Value]) -> None:
        """Later values win over earlier ones."""
        self.write("summary", values={key: value for key, value in values.items() if value is not None})

    def finish(self, exit_code: int) -> None:
        """Close the file; a session that ends as an earlier one did adds no line."""
        self.write("finish", exit_code=exit_code)
        self._file.close()


def _key(entry: Mapping[str, Any]) -> str:
    return identity(entry["row"]) if entry["event"] == "log" else canonical(entry)


def _whole_lines(path: Path) -> list[bytes]:
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    return [line for line in lines if line.endswith(b"\n")]


def _slug(key: str) -> str:
    return re.sub(r"[^\w.-]+", "-", key)
