"""What a stage hands to the tracker: its history as it grows, and its results at the end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from menard_unlearn.evaluation.harness.run import flat
from menard_unlearn.evaluation.summary import summarise
from menard_unlearn.files import digest_file
from menard_unlearn.report.heatmap import standalone
from menard_unlearn.run import RunDir
from menard_unlearn.stages.settings import Settings
from menard_unlearn.tracking.results import log_delta, log_results
from menard_unlearn.tracking.tracker import Tracker, open_tracker


@dataclass(frozen=True)
class RunTracking:
    """A tracker that knows its run's directory."""

    tracker: Tracker
    run: RunDir
    inputs: Mapping[str, str]

    def log(self, row: Mapping[str, Any]) -> None:
        """One row of history."""
        self.tracker.log(row)

    def results(self) -> None:
        """Everything that the run's evaluation left, and its delta."""
        paths = sorted(self.run.evaluation_dir.glob("*.json"))
        found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
        tokens = found.get("target_tokens")
        if "harness" in found:
            found["harness"] = {key.removeprefix("harness/"): value for key, value in flat(found["harness"]).items()}
        log_results(
            self.tracker,
            summary_row=summarise(self.run.path),
            bins=found["curve"]["bins"],
            heat_map=None if tokens is None else standalone(tokens),
            found=found,
        )
        if self.run.delta_path.is_file():
            digests = {**self.inputs, "delta": digest_file(self.run.delta_path)}
            log_delta(self.tracker, name=self.run.path.name, delta=self.run.delta_path, digests=digests)


@contextmanager
def track(
    settings: Settings, run: RunDir, identity: str, method: str, stage: str, inputs: Mapping[str, str]
) -> Iterator[RunTracking]:
    """Track a run for as long as the context lasts, under an id that a resumed run finds again."""
    plain = {key: value for key, value in settings.plain.items() if key not in ("tracking", "runs_dir")}
    if not settings.target.publish:
        # a path may name the text; its digest does not
        plain["target"] = {**plain["target"], "path": None}
    with open_tracker(
        settings.tracking,
        run_id=identity,
        name=run.path.name,
        study=settings.study,
        job_type=stage,
        tags=[method, stage],
        plain_config={**plain, "inputs": dict(inputs)},
        run_dir=run.path,
    ) as tracker:
        yield RunTracking(tracker, run, inputs)
