"""What a run's directory has to tell a tracker: rows, results, and the checkpoint of one that was stopped.

Neither models nor torch are needed for that: `menard sync` begins at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from menard_unlearn.evaluation.summary import summarise
from menard_unlearn.files import digest_file
from menard_unlearn.report import effects, heatmap
from menard_unlearn.run import RunDir
from menard_unlearn.tracking.results import log_delta, log_results
from menard_unlearn.tracking.tracker import Tracker
from menard_unlearn.training.checkpoints import DELTA, Checkpoint, Checkpoints

PAGES = {
    "target_tokens": ("eval/target_tokens", heatmap.standalone),
    "feature_tokens": ("features/target_tokens", effects.standalone),
}
"""File of an evaluation → the name of its map, and what draws it."""


@dataclass(frozen=True)
class RunTracking:
    """A tracker that knows its run's directory."""

    tracker: Tracker
    run: RunDir
    inputs: Mapping[str, str]
    """Digests by name."""

    def log(self, row: Mapping[str, Any]) -> None:
        """One row of history."""
        self.tracker.log(row)

    def results(self) -> None:
        """Everything that the run's evaluation left, and its delta."""
        paths = sorted(self.run.evaluation_dir.glob("*.json"))
        found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
        if "harness" in found:
            found["harness"] = _figures(found["harness"])
        log_results(
            self.tracker,
            summary_row=summarise(self.run.path),
            bins=found["curve"]["bins"] if "curve" in found else (),
            pages={key: drawn(found[name]) for name, (key, drawn) in PAGES.items() if name in found},
            found=found,
        )
        if self.run.delta_path.is_file():
            digests = {**self.inputs, "delta": digest_file(self.run.delta_path)}
            log_delta(self.tracker, name=self.run.path.name, delta=self.run.delta_path, digests=digests)

    def stopped(self, rule: str) -> None:
        """The checkpoint that the rule chooses (`tracking.checkpoints`) of a training that has not ended."""
        chosen = _chosen(Checkpoints(self.run.checkpoints_dir), rule)
        if chosen is not None:
            digests = {**self.inputs, "delta": digest_file(chosen.path / DELTA), "step": chosen.step}
            self.tracker.artifact(f"checkpoint-{self.run.path.name}", "checkpoint", chosen.path, digests)


def _figures(results: Mapping[str, Any]) -> dict[str, float]:
    """`<task>/<metric>` of lm-eval's tasks; the rest of their file is about how they were run."""
    return {
        f"{task}/{metric}": found["value"]
        for task, entry in results["tasks"].items()
        for metric, found in entry["metrics"].items()
        if found["value"] is not None
    }


def _chosen(checkpoints: Checkpoints, rule: str) -> Checkpoint | None:
    newest = None if rule == "none" else checkpoints.newest()
    if newest is None or rule == "last":
        return newest
    state = json.loads((newest.path / "trainer_state.json").read_text(encoding="utf-8"))
    best = [checkpoint for checkpoint in checkpoints.all() if checkpoint.step == state.get("best_global_step")]
    return best[0] if best else newest


def replay(run: RunDir, stage: str, rule: str, tracker: Tracker) -> bool:
    """Say again everything that the run's directory holds, as `track` said it; returns whether the stage ended."""
    manifest = run.manifest(stage)
    for row in run.read_history():
        tracker.log(row)
    if manifest is not None:
        RunTracking(tracker, run, manifest["inputs"]).results()
    else:
        RunTracking(tracker, run, {}).stopped(rule)
    return manifest is not None
