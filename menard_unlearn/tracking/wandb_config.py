"""How runs are tracked by wandb. wandb itself is imported only when a run is to be tracked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from menard_unlearn.tracking.destination import check_name, requested_mode
from menard_unlearn.tracking.tracker import TrackedRun, Tracker, TrackingConfig


@dataclass(frozen=True)
class WandbTracking(TrackingConfig):
    """wandb, online or offline; what an offline run holds back, `menard sync` uploads."""

    entity: str | None
    """wandb user or team; null takes the key's own."""
    mode: Literal["auto", "online", "offline", "disabled"]
    """auto obeys WANDB_MODE, then is online where a key is found and the server answers, else offline."""
    max_artifact_mb: float
    """A delta or checkpoint larger than this many megabytes (10^6 bytes) is not handed to wandb; the summary then says
    so."""
    directory: str | None
    """Folder in which wandb makes its `wandb/`, one for a whole study so that one `menard sync` finds every run; null
    is runs/<study>."""
    finish_timeout: float
    """Seconds to wait at the end of a run for an upload; what is left stays on disk for `menard sync`."""

    def __post_init__(self) -> None:
        check_name("tracking.project", self.project)
        check_name("tracking.entity", self.entity)
        if self.max_artifact_mb < 0 or self.finish_timeout < 0:
            raise ValueError("max_artifact_mb and finish_timeout must not be below 0")

    def open(self, run: TrackedRun) -> Tracker:
        """Open a wandb run: online if it can be, else offline; one that keeps nothing where even that fails."""
        mode = requested_mode(self.mode, os.environ)
        if mode == "disabled":
            return Tracker()
        # Importing wandb takes 1-1.5 s, which a run that does not track, and every other stage, should not pay.
        from menard_unlearn.tracking.wandb_tracker import start

        return start(self, mode, run)
