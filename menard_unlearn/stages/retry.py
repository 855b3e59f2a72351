"""`menard retry runs/<study>`: do what failed, was ended or never began again, as it was launched.

What a job was given lies beside the runs, and how it was launched in the ledger: nothing is composed anew. What is
finished, running or queued is left alone, and another launch at the same time never does a run twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from menard_unlearn.config import to_plain
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.summary import NAME, REFERENCES
from menard_unlearn.files import canonical
from menard_unlearn.launch import local, slurm
from menard_unlearn.launch.failures import Failed, refuse
from menard_unlearn.launch.listing import Listed, chosen
from menard_unlearn.launch.planning import Planned, deciding, told
from menard_unlearn.launch.progress import states_of
from menard_unlearn.launch.slurm_queue import present
from menard_unlearn.launch.state import FINISHED, QUEUED, RUNNING, Known
from menard_unlearn.launch.sweep import Entry, Payload, Sweep
from menard_unlearn.run import RunDir
from menard_unlearn.stages.typed import typed

SAME = "same"
KINDS = SLURM, PARALLEL, LOCAL = "slurm", "parallel", "local"
"""In the order in which they are launched: the first returns at once."""
CONFIGS = {SLURM: slurm.SlurmConfig, PARALLEL: local.ParallelConfig}
"""Kind of launcher → its settings, all of which can be changed; a local one has none."""
KEYS = {kind: tuple(field.name for field in dataclasses.fields(config)) for kind, config in CONFIGS.items()}
TYPED_AT_MOST = 5
"""Commands that are worked out: each takes a second."""


def main(cfg: DictConfig) -> None:
    """Do them again, here or on Slurm. Raises UserError where runs fail again."""
    config = to_plain(cfg)
    given = config["runs"] if isinstance(config["runs"], list) else [config["runs"]]
    changes = {key: value for key, value in config["launcher"].items() if value != SAME}
    studies = [(study, _launched(study)) for study in chosen([str(place) for place in given])]
    for study, found in studies:
        _refuse(study, found, changes)
    refuse(sum(_retry(study, found, changes) for study, found in studies))


def _launched(study: Listed) -> dict[str, list[Payload]]:
    """What those of the runs were given that a sweep has launched, by the kind of its launcher."""
    entries = study.sweep.entries()
    found: dict[str, list[Payload]] = {}
    for run in study.runs:
        if run.path.name in entries and study.sweep.payload_path(run).is_file():
            found.setdefault(entries[run.path.name].launcher["kind"], []).append(_payload(study.sweep, run))
    return found


def _left(found: Mapping[str, Sequence[Payload]]) -> set[str]:
    """The kinds of launchers whose runs are not all finished."""
    return {kind for kind, payloads in found.items() if not all(payload.done for payload in payloads)}


def _retry(study: Listed, found: Mapping[str, Sequence[Payload]], changes: Mapping[str, Any]) -> int:
    """Launch what is left of one study; returns how many runs failed."""
    names = [payload.directory.path.name for payloads in found.values() for payload in payloads]
    _tell_others(study, [run for run in study.runs if run.path.name not in names])
    left = _left(found)
    failed = sum(_again(study, kind, found[kind], changes) for kind in sorted(left, key=KINDS.index))
    if not left:
        ended = f"all {len(names)} runs of sweeps are finished" if names else "no run of a sweep among these"
        print(f"{study.path}: nothing to do, {ended}")
    return failed


def _refuse(study: Listed, found: Mapping[str, Sequence[Payload]], changes: Mapping[str, Any]) -> None:
    """Raises UserError at a change that is of none of the launchers or means nothing, and without Slurm where that is
    one of them."""
    kinds = _left(found)
    for key in changes if kinds else ():
        if not any(key in KEYS.get(kind, ()) for kind in kinds):
            names = " and ".join(f"hydra/launcher={kind}" for kind in sorted(kinds))
            raise UserError(f"launcher.{key} is not of {names}, by which these runs were launched: leave it out")
    if SLURM in kinds and not present():
        raise UserError(
            f"runs of {study.path} were submitted to Slurm, and squeue is not installed here: "
            "type this on a login node of the cluster"
        )
    entries = study.sweep.entries()
    names = [payload.directory.path.name for kind in kinds for payload in found[kind] if not payload.done]
    launchers = {canonical(entries[name].launcher): entries[name].launcher for name in names}
    for launcher in launchers.values():
        if launcher["kind"] in CONFIGS:
            CONFIGS[launcher["kind"]].of(_settings(launcher, changes))


def _again(study: Listed, kind: str, found: Sequence[Payload], changes: Mapping[str, Any]) -> int:
    """Decide about runs that were launched in one way, and launch those that are left in the same way; returns how many
    failed."""
    with ExitStack() as held:
        with deciding(found) as planned:
            to_do = [job for job in planned if job.to_do]
            _tell(study, planned)
            groups = _groups(to_do, study.sweep.entries(), changes)
            path_of: dict[str, Path] = {}
            if kind == SLURM:
                for group in groups:
                    slurm.submit([job.payload for job in group.jobs], _slurm(group))
            else:
                jobs = [job for group in groups for job in group.jobs]
                launchers = [{"kind": kind, **group.settings} for group in groups for _ in group.jobs]
                paths = held.enter_context(local.launched(jobs, launchers))
                path_of = {job.payload.run: path for job, path in zip(jobs, paths, strict=True)}
        return sum(_failed(kind, group, path_of) for group in groups)


def _failed(kind: str, group: _Group, path_of: Mapping[str, Path]) -> int:
    """Do the runs of a group here, or wait for them where that was asked; returns how many failed."""
    try:
        if kind == LOCAL:
            local.one_by_one(group.jobs)
        elif kind == PARALLEL:
            local.at_once(group.jobs, [path_of[job.payload.run] for job in group.jobs], _parallel(group))
        elif _slurm(group).wait and not _slurm(group).dry_run:
            slurm.wait([job.payload for job in group.jobs])
    except Failed as failed:
        return failed.count
    return 0


def _tell(study: Listed, planned: Sequence[Planned]) -> None:
    if all(job.state.name == FINISHED for job in planned):
        return
    print(f"{study.path}: {told(planned)}")
    for job in planned:
        if job.state.name in (RUNNING, QUEUED):
            print(f"{job.payload.directory.path.name}: {job.state.name} ({job.state.by}), left alone")


@dataclasses.dataclass(frozen=True)
class _Group:
    """Runs that are launched with the same settings."""

    settings: dict[str, Any]
    jobs: list[Planned]


def _groups(jobs: Sequence[Planned], entries: Mapping[str, Entry], changes: Mapping[str, Any]) -> list[_Group]:
    found: dict[str, _Group] = {}
    for job in jobs:
        settings = _settings(entries[job.payload.directory.path.name].launcher, changes)
        found.setdefault(canonical(settings), _Group(settings, [])).jobs.append(job)
    return list(found.values())


def _settings(launcher: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Of a launcher as the ledger has it, with the changes that are of its kind."""
    changed = {key: value for key, value in changes.items() if key in KEYS.get(launcher["kind"], ())}
    return {**{key: value for key, value in launcher.items() if key != "kind"}, **changed}


def _slurm(group: _Group) -> slurm.SlurmConfig:
    return slurm.SlurmConfig.of(group.settings)


def _parallel(group: _Group) -> local.ParallelConfig:
    return local.ParallelConfig.of(group.settings)


def _payload(sweep: Sweep, run: RunDir) -> Payload:
    """What the run's job was given. Its paths hold where the launch was typed, and there alone."""
    payload = Payload.read(sweep.payload_path(run))
    if payload.directory.path.resolve() == run.path.resolve():
        return payload
    parts = Path(payload.run).parts
    inside = parts == run.path.resolve().parts[-len(parts) :]
    where = str(Path(*run.path.resolve().parts[: -len(parts)])) if inside else "the folder in which it was launched"
    raise UserError(f"{run.path} was launched as {payload.run}: type this in {where}")


def _tell_others(study: Listed, runs: Sequence[RunDir]) -> None:
    """Of runs that no sweep has launched, how they are resumed."""
    states = states_of(dataclasses.replace(study, runs=tuple(runs)), Known(study.sweep, None))
    open_ones = [run for run in runs if states[run.path.name].name not in (FINISHED, RUNNING)]
    for number, run in enumerate(open_ones):
        name = NAME.fullmatch(run.path.name)
        if name is not None and name["method"] in REFERENCES:
            print(f"{run.path.name}: a reference, evaluated by whichever run of the study needs it first")
        elif not run.config_path.is_file():
            print(f"{run.path.name}: planned and never submitted; launch its sweep again")
        elif number < TYPED_AT_MOST:
            print(f"{run.path.name}: no run of a sweep; resume it by: {typed(run)}")
        else:
            print(f"{run.path.name}: no run of a sweep; the command that began it resumes it")
