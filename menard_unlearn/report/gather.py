"""From folders to what the page shows: which runs lie in them, and which of them belong together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import quote

from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.summary import ASIDES, NAME, summarise
from menard_unlearn.files import canonical
from menard_unlearn.report.privacy import settings_of
from menard_unlearn.report.state import state_of
from menard_unlearn.report.study import Run, Study, read_json
from menard_unlearn.report.style import REFERENCES
from menard_unlearn.run import RunDir

TRACES = ("config.yaml", "evaluation", "failure.json")
"""What a run leaves in its directory, of which one is enough to know it by."""
TITLES_AT_MOST = 3
"""Studies that the title names."""
NAME_AT_MOST, KEYS_AT_MOST = 40, 3
"""Characters and settings that tell a group from the others of its method; where it took more, groups are numbered."""


def gather(places: Sequence[Path], page_dir: Path) -> Study:
    """The runs in any folders: each is a run, a study, or holds studies.

    Args:
        places: the folders; a run that lies in several of them is shown once.
        page_dir: where the page will lie, for its links.

    Raises:
        UserError: a folder is not there, or holds no run.
    """
    found = {path.resolve(): path for place in places for path in _runs_in(place)}
    studies = _short(list(dict.fromkeys(path.parent for path in found)))
    read = [_read(path, studies[lies.parent], page_dir) for lies, path in found.items()]
    runs = _grouped(run for run in read if run.method not in ASIDES)
    asides = _grouped(run for run in read if run.method in ASIDES)
    asides.sort(key=lambda run: (run.state.at is None, run.state.at, run.name), reverse=True)
    named = [_short([place.resolve() for place in places])[place.resolve()] for place in places]
    more = f" and {len(named) - TITLES_AT_MOST} more" if len(named) > TITLES_AT_MOST else ""
    return Study(", ".join(named[:TITLES_AT_MOST]) + more, tuple(places), tuple(runs), tuple(asides))


def _runs_in(place: Path) -> list[Path]:
    if not place.is_dir():
        raise UserError(f"no folder {place}: give a study's folder, runs/<study>, or that of a run, runs/<study>/<run>")
    if _is_run(place):
        return [place]
    below = [path for depth in ("*/", "*/*/") for path in sorted(place.glob(depth)) if _is_run(path)]
    planned = [path for study in (place, *sorted(place.glob("*/"))) for path in _planned(study)]
    if not below and not planned:
        raise UserError(f"{place} has no run: give runs/<study>, or runs/<study>/<method>-s<seed>-<hash>")
    return [*below, *planned]


def _is_run(path: Path) -> bool:
    name = NAME.fullmatch(path.resolve().name)
    return name is not None and any((path / trace).exists() for trace in TRACES)


def _planned(study: Path) -> list[Path]:
    """Runs that were handed to a launcher and have left nothing yet."""
    jobs = sorted((study / ".sweep" / "jobs").glob("*.json"))
    return [study / job.stem for job in jobs if NAME.fullmatch(job.stem) and not _is_run(study / job.stem)]


def _read(path: Path, study: str, page_dir: Path) -> Run:
    run = RunDir(path)
    if run.config_path.is_file():
        config = run.read_config()
    else:
        payload = read_json(path.parent / ".sweep" / "jobs" / f"{path.resolve().name}.json")
        config = {} if payload is None else payload["config"]
    history = run.read_history()
    curve = read_json(run.evaluation_dir / "curve.json")
    manifests = [found for at in path.glob("*.manifest.json") if (found := read_json(at)) is not None]
    row = summarise(path.resolve())
    state = state_of(run, config, history, is_reference=row["method"] in REFERENCES)
    return Run(
        row=row,
        study=study,
        group=row["method"],
        href=link(path, page_dir),
        log_href=None if state.log is None else link(Path(state.log), page_dir),
        path=path,
        state=state,
        bins=tuple(curve["bins"]) if curve else (),
        tokens=read_json(run.evaluation_dir / "target_tokens.json"),
        history=tuple(history),
        config=config,
        seconds=sum(manifest["seconds"] for manifest in manifests) if manifests else None,
    )


def link(path: Path, page_dir: Path) -> str:
    """A folder or file as a page links to it that lies in `page_dir`: the two may be moved together."""
    return quote(os.path.relpath(path.resolve(), page_dir.resolve()))


def _short(folders: Sequence[Path]) -> dict[Path, str]:
    """Each folder by as many of its last parts as it takes to tell them all apart."""
    parts = 1
    while len({folder.parts[-parts:] for folder in folders}) < len(set(folders)):
        parts += 1
    return {folder: "/".join(folder.parts[-parts:]) for folder in folders}


@dataclass(frozen=True)
class _Group:
    """Runs of a method that differ in nothing but their seeds."""

    settings: Mapping[str, Any]
    runs: list[Run]


def _grouped(runs: Iterable[Run]) -> list[Run]:
    """The runs in the order of the page, each with its group's name."""
    methods: dict[str, dict[str, _Group]] = {}
    for run in sorted(runs, key=lambda run: (not run.config, run.seed if run.seed is not None else -1)):
        groups = methods.setdefault(run.method, {})
        settings = {key: value for key, value in settings_of(run.config).items() if key != "seed"}
        key = canonical(settings) if run.config or not groups else next(iter(groups))
        if any(run.name == other.name for other in groups.get(key, _Group({}, [])).runs):
            key += run.study  # the same run, done again in another study
        groups.setdefault(key, _Group(settings, [])).runs.append(run)
    found = []
    for method in sorted(methods, key=lambda name: (REFERENCES.index(name) if name in REFERENCES else 99, name)):
        groups = list(methods[method].values())
        for group, name in zip(groups, _names(method, groups), strict=True):
            found += [replace(run, group=name) for run in group.runs]
    return found


def _names(method: str, groups: Sequence[_Group]) -> list[str]:
    """What tells the groups of a method apart in the fewest words: nothing, their study, a few settings, a number."""
    if len(groups) == 1:
        return [method]
    ways = [[_only({run.study for run in group.runs}) for group in groups]]
    keys = sorted(differing_keys([group.settings for group in groups]), key=lambda key: key.startswith("evaluation."))
    for count in range(1, KEYS_AT_MOST + 1):
        ways += [[_told(group, chosen) for group in groups] for chosen in combinations(keys[:12], count)]
    for names in ways:
        if all(0 < len(name) <= NAME_AT_MOST for name in names) and len(set(names)) == len(names):
            return [f"{method} · {name}" for name in names]
    return [f"{method} · {number}" for number in range(1, len(groups) + 1)]


def _only(values: set[str]) -> str:
    return next(iter(values)) if len(values) == 1 else ""


def _told(group: _Group, keys: Iterable[str]) -> str:
    """Some settings in words; a setting that it does not have is left out."""
    return ", ".join(f"{_last(key)} {group.settings[key]}" for key in keys if key in group.settings) or "plain"


def _last(key: str) -> str:
    return key.rpartition(".")[2].replace("_", " ")


def differing_keys(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys at which not all have the same value, in the order in which they are met."""
    keys = dict.fromkeys(key for found in settings for key in found)
    return [key for key in keys if len({canonical(found.get(key, "absent")) for found in settings}) > 1]
