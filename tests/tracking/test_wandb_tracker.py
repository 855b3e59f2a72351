"""Which rows a wandb run is spared, and what becomes of calls when wandb has died."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import wandb

from menard_unlearn.tracking.tracker import Guarded, identity
from menard_unlearn.tracking.wandb_tracker import WandbTracker


@dataclass
class FakeRun:
    """As much of a run as the tracker touches while it logs."""

    dead: bool = False
    summary: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def log(self, row: dict[str, Any]) -> None:
        if self.dead:
            raise ConnectionResetError("the service has gone")
        self.rows.append(row)

    def finish(self, exit_code: int) -> None:
        raise ConnectionResetError("the service has gone")


def tracker_of(run: FakeRun) -> WandbTracker:
    return WandbTracker(cast(wandb.Run, run), max_artifact_mb=1.0)


def test_dead_service_is_reported_once_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Guarded(tracker_of(FakeRun(dead=True)))
    with caplog.at_level(logging.WARNING):
        for step in range(3):
            tracker.log({"step": step, "loss": 1.0})
        tracker.html("key", "text")
        tracker.artifact("name", "delta", Path("no such file"), {})
        tracker.finish(0)
    assert len(caplog.records) == 1
    assert "the run goes on" in caplog.text


def test_resumed_run_logs_only_what_the_server_lacks() -> None:
    run = FakeRun()
    tracker = tracker_of(run)
    tracker.known = {
        identity({"train/step": step, "train/loss": 0.0})
        for step in range(6)  # whatever the loss was
    }
    for step in range(4, 8):
        tracker.log({"step": step, "loss": 1.0, "retain": None})
        tracker.log({"step": step, "eval/forget_recall": 0.5})
    tracker.log({"eval/year": 1940, "curve/recall": 0.5})
    logged = [(row.get("train/step"), "train/loss" in row) for row in run.rows]
    assert logged == [(4, False), (5, False), (6, True), (6, False), (7, True), (7, False), (None, False)]


def test_checkpoint_bears_its_step(tmp_path: Path) -> None:
    kept: list[tuple[str, str, list[str], list[str]]] = []

    class Keeps(FakeRun):
        def log_artifact(self, artifact: wandb.Artifact, aliases: list[str]) -> None:
            kept.append((artifact.name, artifact.type, sorted(artifact.manifest.entries), aliases))

    folder = tmp_path / "checkpoint-20"
    folder.mkdir()
    (folder / "delta.safetensors").write_bytes(b"0" * 10)
    (folder / "optimizer.pt").write_bytes(b"0" * 20)
    run = Keeps()
    tracker_of(run).artifact("checkpoint-npo s0", "checkpoint", folder, {"step": 20})
    expected = ("checkpoint-npo-s0", "checkpoint", ["delta.safetensors", "optimizer.pt"], ["latest", "step-20"])
    assert kept == [expected]
    (folder / "optimizer.pt").write_bytes(b"0" * 2_000_000)
    tracker_of(run).artifact("checkpoint-npo s0", "checkpoint", folder, {"step": 20})
    assert len(kept) == 1 and "max_artifact_mb=1" in run.summary["artifact/checkpoint"]
