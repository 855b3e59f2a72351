"""Which runs a folder has: those in directories, those that the ledger names, and those whose job was only written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from menard_unlearn.config import near
from menard_unlearn.errors import UserError
from menard_unlearn.launch.sweep import FOLDER, Sweep
from menard_unlearn.run import RunDir

TRACES = ("config.yaml", "failure.json")
"""What a run leaves in its directory, of which one is enough to know it by."""
NAMED_AT_MOST = 5


@dataclass(frozen=True)
class Listed:
    """A study's folder, and runs of it."""

    path: Path
    """The folder."""
    runs: tuple[RunDir, ...]
    """By name; some have no directory yet."""

    @property
    def sweep(self) -> Sweep:
        """What the study remembers of its jobs."""
        return Sweep(self.path / FOLDER)


def studies_in(place: Path) -> list[Listed]:
    """The runs of a study, of every study in a folder of studies, or the one run that is meant. Empty where there is
    none."""
    if (run := _as_run(place)) is not None:
        return [run]
    found = [study_of(folder) for folder in (place, *_folders(place))]
    return [study for study in found if study.runs]


def chosen(places: Sequence[str]) -> list[Listed]:
    """What was named on a command line: studies as a whole, or runs. Raises UserError at a place that is neither."""
    found: dict[Path, dict[str, RunDir]] = {}
    for place in map(Path, places):
        listed = _as_run(place) or study_of(place)
        if not listed.runs:
            raise UserError(_refusal(place))
        found.setdefault(listed.path, {}).update({run.path.name: run for run in listed.runs})
    return [Listed(path, tuple(runs[name] for name in sorted(runs))) for path, runs in found.items()]


def study_of(folder: Path) -> Listed:
    """All runs of the folder; none where it is no study's."""
    return Listed(folder, tuple(RunDir(folder / name) for name in sorted(_names(folder))))


def _as_run(place: Path) -> Listed | None:
    """The place as a run of the folder above it, or None where it is none."""
    at = place.resolve()
    study = place.parent if place.name not in ("", "..") else at.parent
    return Listed(study, (RunDir(study / at.name),)) if at.name in _names(study) else None


def _names(folder: Path) -> set[str]:
    sweep = Sweep(folder / FOLDER)
    written = {path.stem for path in (sweep.path / "jobs").glob("*.json")}
    below = {path.name for path in _folders(folder) if any((path / trace).is_file() for trace in TRACES)}
    return written | sweep.entries().keys() | below


def _folders(folder: Path) -> list[Path]:
    below = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in below if path.is_dir() and not path.name.startswith(".")]


def _refusal(place: Path) -> str:
    """Why a place is neither a study nor a run, and what there is instead."""
    if below := [study.path.name for study in studies_in(place)]:
        return f"{place} is no study, it holds some: give {_listed([f'{place}/{name}' for name in below])}"
    if siblings := _names(place.parent):
        return f"{place.parent} has no run {place.name!r}{near(place.name, siblings)}; its runs: {_listed(siblings)}"
    what = "has no run" if place.is_dir() else "is not there"
    return f"{place} {what}: give a study's folder, runs/<study>, or runs of it, runs/<study>/<run>"


def _listed(names: Sequence[str] | set[str]) -> str:
    shown = sorted(names)
    more = f", and {len(shown) - NAMED_AT_MOST} more" if len(shown) > NAMED_AT_MOST else ""
    return ", ".join(shown[:NAMED_AT_MOST]) + more
