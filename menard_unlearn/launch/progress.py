"""How far each run of a study is, read from as little of it as will do: a thousand runs take a second or two."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.summary import NAME, REFERENCES
from menard_unlearn.launch.fates import Fates
from menard_unlearn.launch.listing import Listed
from menard_unlearn.launch.reading import last_logged, read_json
from menard_unlearn.launch.slurm_queue import ASK_SECONDS, Queue, present
from menard_unlearn.launch.state import BEGUN, FAILED, FINISHED, PLANNED, Known, State
from menard_unlearn.launch.sweep import Entry, Sweep
from menard_unlearn.run import RunDir

MANIFEST = ".manifest.json"
HEADLINES = ("cutoff_change_status", "cutoff_change_year", "cutoff_status", "cutoff_year")
"""Keys of summary.json that are told of a finished run, the first of them that it has with its year."""
YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Where libyaml is there it is ten times as fast."""


@dataclass(frozen=True)
class Progress:
    """One run as it stands now; `menard status --json` prints these fields."""

    run: str
    """Path of its directory, which a planned run has not got yet."""
    state: str
    """finished | running | queued | failed | begun | planned. Begun: nobody works in it, and it can be resumed."""
    stages: list[str]
    """Stages that ended here."""
    step: int | None
    """Last step in history.jsonl; None before the first."""
    max_steps: int | None
    """Steps that the training was to have; None where the run trains nothing."""
    seconds: float | None
    """What the finished stages took together; None where none is finished."""
    age_seconds: float | None
    """Since something in its directory was last written; without one, since it was submitted; None without either."""
    held_by: str | None
    """Who works in it or has it queued: `<pid> on <host>`, `job 12_3`, or `launch <pid>@<host>`."""
    job: str | None
    """Slurm's job id, of arrays with the task's number, while the job is in the queue."""
    queue_state: str | None
    """Slurm's word for that job: PENDING, RUNNING, COMPLETING, REQUEUED, ..."""
    metric: dict[str, Any]
    """Of a finished run what summary.json says of its cutoff; else, or without that, the loss logged last."""
    log: str | None
    """Path of what its job printed; None where that went to a terminal."""
    why: str | None
    """Why it is not finished, as its failure.json or Slurm says; of a finished run, why training stopped early."""


@dataclass(frozen=True)
class Standing:
    """Of all runs that were asked for."""

    runs: list[Progress]
    """By study and name."""
    note: str | None
    """Why the queue was not asked, where it should have been."""


class Reader:
    """Reads how runs stand, again and again; what cannot change any more is read once."""

    def __init__(self) -> None:
        self._fates = Fates()
        self._finished: dict[Path, Progress] = {}

    def read(self, studies: Sequence[Listed]) -> Standing:
        """How the runs stand now. The queue is asked once, and only where a run was submitted to one."""
        known = {study.path: Known(study.sweep, None) for study in studies}
        queue, note = _queue(known.values())
        found: list[Progress] = []
        for study in studies:
            known[study.path].queue = queue
            found += self._of_study(study, known[study.path])
        return Standing(found, note)

    def _of_study(self, study: Listed, known: Known) -> Iterator[Progress]:
        rows = _summary(study.path)
        new = [run for run in study.runs if run.path not in self._finished]
        files = {run.path: _files(study.sweep, run) for run in new}
        states = {run.path: known.of(run, done=files[run.path].done) for run in new}
        gone = {path: _gone(known, path, state) for path, state in states.items()}
        self._fates.ask(job for job in gone.values() if job is not None)
        for run in study.runs:
            if run.path in self._finished:
                yield self._finished[run.path]
                continue
            state, job = states[run.path], gone[run.path]
            fate = None if job is None else self._fates.why(job)
            made = _progress(study.sweep, files[run.path], state, known, rows.get(run.path.name, {}), fate)
            if state.name == FINISHED:
                self._finished[run.path] = made
            yield made


def states_of(study: Listed, known: Known) -> dict[str, State]:
    """Of the study's runs, by name."""
    return {run.path.name: known.of(run, done=_files(study.sweep, run).done) for run in study.runs}


def _queue(known: Collection[Known]) -> tuple[Queue | None, str | None]:
    if not any(study.submitted for study in known):
        return None, None
    unknown = "the queue cannot be asked, and jobs that wait in it look as if they were not there"
    if not present():
        return None, f"{unknown}: squeue is not installed here; type this on a login node of the cluster"
    try:
        return Queue.ask(ASK_SECONDS), None
    except UserError as error:
        return None, f"{unknown}: {error}"


def _gone(known: Known, path: Path, state: State) -> str | None:
    """The job that was to do the run, where Slurm has done with it and the run says nothing itself."""
    entry = known.entries.get(path.name)
    asked = entry is not None and entry.launcher["kind"] == "slurm" and known.queue is not None
    return entry.job if entry is not None and asked and state.name in (BEGUN, PLANNED) else None


@dataclass(frozen=True)
class _Files:
    """What a run's small files say."""

    run: RunDir
    stages: list[str]
    stage: str | None
    """Of the run's last job."""
    done: bool
    max_steps: int | None
    written_at: float | None


def _files(sweep: Sweep, run: RunDir) -> _Files:
    written, stages = None, []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(run.path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            with contextlib.suppress(FileNotFoundError):  # renamed meanwhile
                written = max(written or 0.0, entry.stat().st_mtime)
            if entry.name.endswith(MANIFEST):
                stages.append(entry.name.removesuffix(MANIFEST))
    stage, identity, config = _told(sweep, run)
    name = NAME.fullmatch(run.path.name)
    reference = name is not None and name["method"] in REFERENCES
    done = bool(stages) if stage is None or reference else stage in stages
    if done and stage is not None and identity is not None:  # finished, but perhaps with other settings
        done = (run.manifest(stage) or {}).get("config_hash") == identity
    steps = (config.get("trainer") or {}).get("max_steps")
    return _Files(run, sorted(stages), stage, done, steps, written)


def _told(sweep: Sweep, run: RunDir) -> tuple[str | None, str | None, Mapping[str, Any]]:
    """The run's stage, `Payload.config_hash` and configuration: from what its job was given, or else from its own
    copy."""
    payload = read_json(sweep.payload_path(run))
    if payload is not None:
        return payload["stage"], payload.get("config_hash"), payload["config"]
    with contextlib.suppress(OSError, yaml.YAMLError):
        config = yaml.load(run.config_path.read_bytes(), Loader=YAML)
        if isinstance(config, Mapping):
            return config.get("stage"), None, config
    return None, None, {}


def _progress(
    sweep: Sweep, files: _Files, state: State, known: Known, row: Mapping[str, Any], fate: str | None
) -> Progress:
    run, entry = files.run, known.entries.get(files.run.path.name)
    manifests = [manifest for stage in files.stages if (manifest := run.manifest(stage)) is not None]
    failure = (run.failure() or {}) if state.name == FAILED else {}
    stopped = next((why for found in manifests if (why := found["results"].get("stopped"))), None)
    step, loss = last_logged(run.history_path)
    headline = _headline(row) if state.name == FINISHED else {}
    since = files.written_at or (None if entry is None else entry.submitted_at)
    return Progress(
        run=str(run.path),
        state=state.name,
        stages=files.stages,
        step=step,
        max_steps=files.max_steps,
        seconds=sum(manifest["seconds"] for manifest in manifests) if manifests else None,
        age_seconds=None if since is None else round(max(0.0, time.time() - since), 1),
        held_by=state.by,
        job=state.job,
        queue_state=None if state.job is None or known.queue is None else known.queue.live[state.job],
        metric=headline or ({} if loss is None else {"loss": loss}),
        log=failure.get("log") or _log(sweep, run, entry),
        why=failure.get("error") or fate or (f"stopped: {stopped}" if stopped else _half(files, state)),
    )


def _half(files: _Files, state: State) -> str | None:
    """Of a run that another stage was launched on since: that its own work is not lost."""
    other = bool(files.stages) and files.stage is not None and not files.done
    return f"{' and '.join(files.stages)}: finished; {files.stage}: {state.name}" if other else None


def _summary(study: Path) -> dict[str, Mapping[str, Any]]:
    rows = read_json(study / "summary.json")
    return {row["run"]: row for row in rows} if isinstance(rows, list) else {}


def _headline(row: Mapping[str, Any]) -> dict[str, Any]:
    status = next((key for key in HEADLINES if key.endswith("status") and row.get(key) is not None), None)
    return {} if status is None else {key: row.get(key) for key in (status, status.replace("status", "year"))}


def _log(sweep: Sweep, run: RunDir, entry: Entry | None) -> str | None:
    """The ledger's path; one that it has relative to where the launch was typed, as it is from here."""
    if entry is None or entry.log is None or Path(entry.log).is_absolute():
        return None if entry is None else entry.log
    return str(sweep.logs / Path(entry.log).name)
