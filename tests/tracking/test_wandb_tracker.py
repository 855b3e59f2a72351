"""What becomes of a call when wandb has died, and of rows that the server already has."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import wandb

from menard_unlearn.tracking.wandb_tracker import WandbTracker


@dataclass
class FakeRun:
    """As much of a run as the tracker touches while it logs."""

    resumed: bool = False
    dead: bool = False
    summary: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def log(self, row: dict[str, Any]) -> None:
        if self.dead:
            raise ConnectionResetError("the service has gone")
        self.rows.append(row)

    def define_metric(self, name: str, step_metric: str | None = None, hidden: bool = False) -> None:
        pass

    def finish(self, exit_code: int) -> None:
        raise ConnectionResetError("the service has gone")


def tracker_of(run: FakeRun) -> WandbTracker:
    return WandbTracker(cast(wandb.Run, run), max_artifact_mb=1.0)


def test_dead_service_is_reported_once_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    tracker = tracker_of(FakeRun(dead=True))
    with caplog.at_level(logging.WARNING):
        for step in range(3):
            tracker.log({"step": step, "loss": 1.0})
        tracker.html("key", "text")
        tracker.artifact("name", "delta", Path("no such file"), {})
        tracker.finish(0)
    assert len(caplog.records) == 1
    assert "training goes on" in caplog.text


def test_resumed_run_logs_only_what_the_server_lacks() -> None:
    run = FakeRun(resumed=True, summary={"train/step": 5})
    tracker = tracker_of(run)
    tracker.begin()
    for step in range(4, 8):
        tracker.log({"step": step, "loss": 1.0})
        tracker.log({"step": step, "eval/forget_recall": 0.5})
    tracker.log({"eval/year": 1940, "curve/recall": 0.5})
    logged = [(row.get("train/step"), "train/loss" in row) for row in run.rows]
    assert logged == [(5, False), (6, True), (6, False), (7, True), (7, False), (None, False)]
