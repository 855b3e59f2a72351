"""What a study's folder remembers of the jobs that were started in it, in `runs/<study>/.sweep/`.

jobs.jsonl       one line a submission; the last one of a run counts
jobs/<run>.json  what a job was given: its stage and its resolved configuration
logs/            what the jobs printed
composed.jsonl   configurations by what they were composed of
launches/        a locked file for each launch that is going on
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from menard_unlearn.files import write_json
from menard_unlearn.lock import holder, taking_turns
from menard_unlearn.run import RunDir

FOLDER = ".sweep"


@dataclass(frozen=True)
class Payload:
    """What one job is given, whole and resolved: nothing that changes while it waits can change what it does."""

    stage: str
    """Name of the stage, whose manifest says that the job is done."""
    module: str
    """The stage's module."""
    overrides: tuple[str, ...]
    """What was chosen on the command line, for people."""
    config: dict[str, Any]
    """The resolved configuration."""
    run: str
    """Path of the run directory, relative to where the command was typed, or absolute."""
    config_hash: str | None = None
    """What the manifest must bear to be this job's, where a directory may be finished more than once; None: any will
    do, for the directory's name has it."""

    @property
    def directory(self) -> RunDir:
        """The run's directory."""
        return RunDir(Path(self.run))

    @property
    def done(self) -> bool:
        """Whether the stage ended there."""
        if self.config_hash is None:
            return self.directory.finished(self.stage)
        manifest = self.directory.manifest(self.stage)
        return manifest is not None and manifest["config_hash"] == self.config_hash

    @property
    def told(self) -> str:
        """The overrides in a line."""
        return told_of(self.overrides)

    @classmethod
    def read(cls, path: Path) -> Payload:
        """As `Sweep.keep` wrote it."""
        found = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**found, "overrides": tuple(found["overrides"])})


@dataclass(frozen=True)
class Entry:
    """One submission."""

    run: str
    """Name of the run directory within the study."""
    payload: str
    """Path of the job's payload."""
    launcher: dict[str, Any]
    """`kind` (local, parallel or slurm) and what was asked of it."""
    job: str
    """Slurm's job id, of arrays with the task's number: 123_4; else `<pid>@<host>` of the launch, or `cancelled` where
    the run was taken out of a launch that goes on."""
    log: str | None
    """Path of what the job prints; None where that goes to the terminal."""
    submitted_at: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class Sweep:
    """The folder, by its path."""

    path: Path

    @classmethod
    def of(cls, run: RunDir) -> Sweep:
        """That of the study in which the run lies."""
        return cls(run.path.parent / FOLDER)

    @property
    def logs(self) -> Path:
        """Folder of what jobs print."""
        return self.path / "logs"

    def payload_path(self, run: RunDir) -> Path:
        """What the run's job is given."""
        return self.path / "jobs" / f"{run.path.name}.json"

    def keep(self, payload: Payload) -> Path:
        """Write the payload; returns its path."""
        path = self.payload_path(payload.directory)
        write_json(path, dataclasses.asdict(payload))
        return path

    def append(self, entries: Sequence[Entry]) -> None:
        """Add submissions to the ledger, in one write, and on lines of their own even after one that a kill cut off."""
        lines = "".join(json.dumps(dataclasses.asdict(entry), ensure_ascii=False) + "\n" for entry in entries)
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / "jobs.jsonl", "ab+") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            torn = file.read(1) not in (b"", b"\n")
            file.write(b"\n" * torn + lines.encode())
            file.flush()
            os.fsync(file.fileno())

    def entries(self) -> dict[str, Entry]:
        """The last submission of each run, by the run's name; a line that a killed launch left unfinished is passed
        over."""
        path = self.path / "jobs.jsonl"
        found: dict[str, Entry] = {}
        for line in path.read_bytes().split(b"\n") if path.is_file() else ():
            with contextlib.suppress(ValueError, TypeError):
                entry = Entry(**json.loads(line))
                found[entry.run] = entry
        return found

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the ledger against other launches, waiting for one that is deciding."""
        with taking_turns(self.path / "lock"):
            yield

    @contextlib.contextmanager
    def launching(self) -> Iterator[str]:
        """The name of this process as a launch, known to be alive for as long as the context lasts."""
        name = f"{os.getpid()}@{platform.node()}"
        path = self.path / "launches" / name
        with taking_turns(path):
            try:
                yield name
            finally:
                path.unlink(missing_ok=True)

    def launches(self) -> set[str]:
        """The launches that are going on, as `<pid>@<host>`."""
        return {path.name for path in (self.path / "launches").glob("*@*") if holder(path) is not None}


def told_of(overrides: Sequence[str]) -> str:
    """Overrides in a line, without those that compose a study's folder."""
    return " ".join(override for override in overrides if "@_global_=" not in override)
