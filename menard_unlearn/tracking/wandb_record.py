"""What wandb was told about a run, kept in the run's directory so that `menard sync` can say it again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from menard_unlearn.credentials import HIDDEN, blotted, is_secret
from menard_unlearn.files import write_json
from menard_unlearn.tracking.tracker import TrackedRun
from menard_unlearn.tracking.wandb_config import WandbTracking

FILE = "wandb.json"


@dataclass(frozen=True)
class WandbRecord:
    """Where a run is filed and what is told of it. Nothing in it may not leave this machine."""

    id: str
    """wandb's id of the run: the hash of its configuration."""
    name: str
    """What people read."""
    project: str
    """The study, or what `tracking.project` says."""
    entity: str | None
    """User or team; None is the key's own."""
    group: str | None
    """The sweep."""
    job_type: str
    """The stage."""
    tags: tuple[str, ...]
    """At most 64 characters each."""
    config: Mapping[str, Any]
    """Nested as in config.yaml, without secrets."""
    max_artifact_mb: float
    """Larger files are named and not uploaded."""
    checkpoints: str
    """`tracking.checkpoints`."""
    directory: str | None
    """`tracking.directory`: where wandb's folder is, unless it is the study's."""
    inputs: tuple[tuple[str, str, str], ...]
    """(name, kind, path) of the files that say what the run was made from; paths from the run's directory."""

    @classmethod
    def of(cls, config: WandbTracking, run: TrackedRun) -> WandbRecord:
        """What is to be told of this run."""
        inputs = [(entry.name, entry.kind, str(_from(entry.path, run.directory))) for entry in run.inputs]
        return cls(
            id=run.id,
            name=run.name,
            project=config.project or run.study,
            entity=config.entity,
            group=config.group,
            job_type=run.job_type,
            tags=tuple(sorted({tag[:64] for tag in (*run.tags, *config.tags) if tag})),
            config=without_secrets(run.config),
            max_artifact_mb=config.max_artifact_mb,
            checkpoints=config.checkpoints,
            directory=config.directory,
            inputs=tuple(inputs),
        )

    @classmethod
    def read(cls, directory: Path) -> WandbRecord | None:
        """That of the run in this directory, or None where wandb never heard of it."""
        path = directory / FILE
        if not path.is_file():
            return None
        kept = json.loads(path.read_text(encoding="utf-8"))
        inputs = tuple((name, kind, path) for name, kind, path in kept["inputs"])
        return cls(**{**kept, "tags": tuple(kept["tags"]), "inputs": inputs})

    def write(self, directory: Path) -> None:
        """Keep it in the run's directory."""
        write_json(directory / FILE, asdict(self))


def _from(path: Path, directory: Path) -> Path:
    return Path(os.path.relpath(path.resolve(), directory.resolve()))


def without_secrets(node: Any) -> Any:
    """The same, with what is a key or a password, or looks like one, hidden."""
    if isinstance(node, Mapping):
        return {
            str(key): HIDDEN if value and is_secret(str(key), "") else without_secrets(value)
            for key, value in node.items()
        }
    if isinstance(node, list | tuple):
        return [without_secrets(value) for value in node]
    return blotted(node) if isinstance(node, str) else node
