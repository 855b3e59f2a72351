"""What became of a run, as its directory tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from menard_unlearn.report.privacy import without_secrets
from menard_unlearn.run import RunDir

FINISHED, RUNNING, FAILED, BEGUN, PLANNED = "finished", "running", "failed", "begun", "planned"
STATES = {
    FINISHED: "its stage ended",
    RUNNING: "a process works in it now",
    FAILED: "its last attempt ended in an error",
    BEGUN: "it has a directory, and nobody works in it: the same command resumes it",
    PLANNED: "it was handed to a launcher, and has no directory yet",
}
"""State → what it says."""


@dataclass(frozen=True)
class State:
    """What became of a run."""

    name: str
    """One of `STATES`."""
    step: int | None
    """Its last logged step; None before the first."""
    max_steps: int | None
    """Steps that its training was to have; None where it trains nothing."""
    at: str | None
    """When it ended or failed, ISO 8601 in UTC; None where it did neither."""
    where: str | None
    """Process and host while it runs, host and job where it failed."""
    why: str | None
    """The error of its last attempt, or why training stopped early; None where there is nothing to tell."""
    log: str | None
    """Path of what its job printed."""


def state_of(run: RunDir, config: Mapping[str, Any], history: list[dict[str, Any]], *, is_reference: bool) -> State:
    """The state of a run; reads its directory and changes nothing. References are finished by whatever stage."""
    manifests = [found for stage in _stages(run) if (found := run.manifest(stage)) is not None]
    steps = _planned(config)
    step = next((row["step"] for row in reversed(history) if "step" in row), None)
    if manifests and (is_reference or config.get("stage", manifests[0]["stage"]) in _stages(run)):
        ended = max(manifest["finished_at"] for manifest in manifests)
        stopped = next((why for manifest in manifests if (why := manifest["results"].get("stopped"))), None)
        return State(FINISHED, step, steps, ended, None, None if stopped is None else f"stopped: {stopped}", None)
    if (holder := run.holder()) is not None:
        return State(RUNNING, step, steps, None, holder, None, None)
    if (failure := run.failure()) is not None:
        why = without_secrets(f"{failure['kind']}: {failure['error']}", config)
        where = ", ".join(filter(None, (failure["host"], failure["job"] and f"job {failure['job']}")))
        return State(FAILED, step, steps, failure["at"], where or None, why, failure["log"])
    return State(BEGUN if run.path.is_dir() else PLANNED, step, steps, None, None, None, None)


def _planned(config: Mapping[str, Any]) -> int | None:
    """Steps of the training of a model, or of an autoencoder; of one that is only loaded there are none."""
    trainer, sae = config.get("trainer") or {}, config.get("sae") or {}
    return trainer.get("max_steps", sae.get("steps"))


def _stages(run: RunDir) -> list[str]:
    return sorted(path.name.removesuffix(".manifest.json") for path in run.path.glob("*.manifest.json"))
