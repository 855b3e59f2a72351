"""`menard retry runs/<study>`: do what failed, was ended or never began again, as it was launched.

What a job was given lies beside the runs, and how it was launched in the ledger: nothing is composed anew. What is
finished, running or queued is left alone, and another launch at the same time never does a run twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from menard_unlearn.config import build, to_plain
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.summary import NAME, REFERENCES
from menard_unlearn.files import canonical
from menard_unlearn.launch import local, slurm
from menard_unlearn.launch.failures import Failed
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
KEYS = {
    LOCAL: (),
    PARALLEL: tuple(field.name for field in dataclasses.fields(local.ParallelConfig)),
    SLURM: tuple(field.name for field in dataclasses.fields(slurm.SlurmConfig)),
}
"""Kind of launcher → what of it can be changed."""
TYPED_AT_MOST = 5
"""Commands that are worked out: each takes a second."""


def main(cfg: DictConfig) -> None:
    """Do them again, here or on Slurm. Raises UserError where runs fail again."""
    config = to_plain(cfg)
    given = config["runs"] if isinstance(config["runs"], list) else [config["runs"]]
    changes = {key: value for key, value in config["launcher"].items() if value != SAME}
    for study in chosen([str(place) for place in given]):
        _retry(study, changes)


def _retry(study: Listed, changes: Mapping[str, Any]) -> None:
    entries = study.sweep.entries()
    launched = [run for run in study.runs if run.path.name in entries and study.sweep.payload_path(run).is_file()]
    _tell_others(study, [run for run in study.runs if run not in launched])
    found: dict[str, list[Payload]] = {}
    for run in launched:
        found.setdefault(entries[run.path.name].launcher["kind"], []).append(_payload(study.sweep, run))
    left = {kind for kind, payloads in found.items() if not all(payload.done for payload in payloads)}
    _refuse(study, changes, left)
    failures: list[Failed] = []
    for kind in sorted(found, key=KINDS.index):
        try:
            _again(study, kind, found[kind], changes)
        except Failed as failed:  # the others are done nevertheless
            failures.append(failed)
    if not left:
        count = len(launched)
        ended = f"all {count} runs of sweeps are finished" if count else "no run of a sweep among these"
        print(f"{study.path}: nothing to do, {ended}")
    for failed in failures:
        raise failed


def _refuse(study: Listed, changes: Mapping[str, Any], kinds: Collection[str]) -> None:
    """Raises UserError at a change that is of none of the launchers, and without Slurm where that is one of them."""
    for key in changes if kinds else ():
        if not any(key in KEYS[kind] for kind in kinds):
            names = " and ".join(f"hydra/launcher={kind}" for kind in sorted(kinds))
            raise UserError(f"launcher.{key} is not of {names}, by which these runs were launched: leave it out")
    if SLURM in kinds and not present():
        raise UserError(
            f"runs of {study.path} were submitted to Slurm, and squeue is not installed here: "
            "type this on a login node of the cluster"
        )


def _again(study: Listed, kind: str, found: Sequence[Payload], changes: Mapping[str, Any]) -> None:
    """Decide about runs that were launched in one way, and launch those that are left in the same way."""
    with ExitStack() as held:
        with deciding(found) as planned:
            to_do = [job for job in planned if job.to_do]
            _tell(study, planned)
            groups = _groups(to_do, study.sweep.entries(), changes)
            if kind == SLURM:
                for group in groups:
                    slurm.submit([job.payload for job in group.jobs], _slurm(group))
            else:
                jobs = [job for group in groups for job in group.jobs]
                launchers = [{"kind": kind, **group.settings} for group in groups for _ in group.jobs]
                paths = held.enter_context(local.launched(jobs, launchers))
                path_of = {job.payload.run: path for job, path in zip(jobs, paths, strict=True)}
        for group in groups:
            if kind == LOCAL:
                local.one_by_one(group.jobs)
            elif kind == PARALLEL:
                local.at_once(group.jobs, [path_of[job.payload.run] for job in group.jobs], _parallel(group))
            elif _slurm(group).wait and not _slurm(group).dry_run:
                slurm.wait([job.payload for job in group.jobs])


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
        launcher = entries[job.payload.directory.path.name].launcher
        kind = launcher["kind"]
        changed = {key: value for key, value in changes.items() if key in KEYS[kind]}
        settings = {**{key: value for key, value in launcher.items() if key != "kind"}, **changed}
        found.setdefault(canonical(settings), _Group(settings, [])).jobs.append(job)
    return list(found.values())


def _slurm(group: _Group) -> slurm.SlurmConfig:
    return slurm.SlurmConfig.of(group.settings)


def _parallel(group: _Group) -> local.ParallelConfig:
    target = f"{local.__name__}.{local.ParallelConfig.__name__}"
    return build({"_target_": target, **group.settings}, local.ParallelConfig)


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
