"""Reads an offline wandb run back through wandb's own inspector."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.util import get_core_path


@dataclass
class OfflineRun:
    """What one run directory holds, in the order in which it was logged."""

    folder: Path
    run: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None

    def rows(self, key: str) -> list[dict[str, Any]]:
        """History rows that hold `key`, without wandb's own fields."""
        own = [{name: value for name, value in row.items() if not name.startswith("_")} for row in self.history]
        return [row for row in own if key in row]

    def media(self, key: str) -> str:
        """Text of the file that was logged under `key`."""
        (row,) = self.rows(f"{key}.path")
        return (self.folder / "files" / row[f"{key}.path"]).read_text()


def read_runs(wandb_dir: Path) -> list[OfflineRun]:
    """Every run in the directory, oldest first."""
    return [read_run(folder) for folder in sorted(wandb_dir.glob("offline-run-*"))]


def read_run(folder: Path) -> OfflineRun:
    (log,) = folder.glob("run-*.wandb")
    command = [get_core_path(), "leet", "inspect", "--json", "--no-observability", "--run-file", str(log)]
    shown = subprocess.run([*command, str(folder.parent)], check=True, capture_output=True, text=True).stdout
    read = OfflineRun(folder)
    for record in map(json.loads, shown.splitlines()):
        kind = record["type"]
        body = record.get(kind, {})
        if kind == "run":
            read.run = body
            read.config = {key: value for key, value in body["config"]["update"].items() if key != "_wandb"}
        elif kind == "history":
            read.history.append(body["item"])
        elif kind == "summary":
            read.summary.update(body.get("update", {}))
        elif kind == "metric":
            read.metrics[body.get("name") or body["glob_name"]] = body.get("step_metric", "")
        elif kind == "artifact":
            read.artifacts.append(body)
        elif kind == "exit":
            read.exit_code = body.get("exit_code", 0)
    return read
