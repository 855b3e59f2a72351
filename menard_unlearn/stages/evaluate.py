"""`menard evaluate`: measure a model as it is, beside another one, or measure a finished run again.

Without `run=` the model and its references are evaluated as rows of the study, nothing unlearned. With `base=` the
model is one more row, compared with that base. With `run=` the run's changed weights are put into its base model, and
its evaluation is written anew with the settings given now. What needs a reference that is not there is left out by
name.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from menard_unlearn.config import to_plain
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.summary import write_summary
from menard_unlearn.memory import peak_memory_mb, reset_peak_memory
from menard_unlearn.models.delta import apply_delta, load_delta, named
from menard_unlearn.models.load import ModelSource, identity, load
from menard_unlearn.run import RunDir, run_id
from menard_unlearn.stages.job import prepared_once
from menard_unlearn.stages.logging import track
from menard_unlearn.stages.measure import judge, score
from menard_unlearn.stages.references import EVALUATION_KEYS, INPUTS, base_run, references, shared_parameters
from menard_unlearn.stages.settings import Prepared, Settings, prepare, refuse_unfit
from menard_unlearn.stages.starts import STAGES
from menard_unlearn.stages.table import print_table


def plan(config: Mapping[str, Any], known: dict[str, Any]) -> RunDir:
    """Where this configuration's evaluation lies. All of the configuration is checked, and nothing is written.

    `known` keeps what was read, for the other jobs of a sweep.
    """
    settings, run = _told(config)
    prepared = prepared_once(settings, known)
    if run is not None:
        return run
    if config["base"] is None:
        return base_run(prepared)  # whose manifest comes last of all references'
    return _row(prepared, Settings.of(config).model).run


def config_hash(config: Mapping[str, Any], known: dict[str, Any]) -> str | None:
    """What the manifest of a run that was evaluated with these settings bears; None where its directory's name has
    it."""
    settings, run = _told(config)
    return None if run is None else run_id(settings.plain, prepared_once(settings, known).inputs)


def main(cfg: DictConfig) -> None:
    """Evaluate and bring the study's summary up to date."""
    plain = to_plain(cfg)
    settings, run = _told(plain)
    shown: Path | None = None
    if run is not None:
        _again(prepare(settings), run)
        shown = run.path
    elif plain["base"] is not None:
        shown = _beside(settings, Settings.of(plain).model)
    else:
        references(prepare(settings))
    rows = write_summary(settings.study_dir)
    print_table([row for row in rows if shown is None or row["run"] == shown.name])
    print(settings.study_dir / "summary.json")


def _told(plain: Mapping[str, Any]) -> tuple[Settings, RunDir | None]:
    """The settings, and the run that is evaluated again, whose study they are of."""
    settings = Settings.of(_with_references(plain))
    if plain["run"] is None:
        return settings, None
    run = RunDir(Path(plain["run"]))
    return _of_the_runs_study(settings, run), run


def _with_references(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration in which `base=` is the model, and `gold=` its gold."""
    given = {key: plain[key] for key in ("base", "gold") if plain[key] is not None}
    if plain["run"] is not None and given:
        raise UserError(f"run= is compared with its own base and gold: leave out {' and '.join(given)}=, or run=")
    renamed = {{"base": "path", "gold": "gold"}[key]: path for key, path in given.items()}
    return {**plain, "model": {**plain["model"], **renamed}}


@dataclass(frozen=True)
class _Row:
    """A model as a row of its own."""

    run: RunDir
    name: str
    identity: str
    inputs: dict[str, str]


def _row(prepared: Prepared, source: ModelSource) -> _Row:
    """Raises UserError where the model cannot be asked all that it has to be."""
    refuse_unfit(prepared, source)
    settings = prepared.settings
    config = {key: settings.plain[key] for key in EVALUATION_KEYS}
    inputs = {key: prepared.inputs[key] for key in INPUTS if key in prepared.inputs} | {"evaluated": identity(source)}
    found = run_id(config, inputs)
    name = re.sub(r"[^\w.]+", "_", Path(source.path).name).strip("_") or "model"
    return _Row(RunDir(settings.study_dir / f"{name}-{found[:8]}"), name, found, inputs)


def _beside(settings: Settings, source: ModelSource) -> Path:
    """Evaluate a model as a row of its own, beside its base; returns its run directory."""
    prepared = prepare(settings)
    row = _row(prepared, source)
    run = row.run
    known = references(prepared)
    if run.finished("evaluate"):
        print(f"{run.path} is finished; nothing to do")
        return run.path
    with run.attempt():
        print(f"evaluating {source.path}", flush=True)
        reset_peak_memory()
        started = time.perf_counter()
        run.write_config({**settings.plain, "model": {**settings.plain["model"], "path": source.path}})
        loaded, base = load(source), load(settings.model)
        score(prepared, loaded, shared_parameters(base.model, loaded.model), run.evaluation_dir)
        judge(prepared, run.evaluation_dir, known.found)
        seconds, memory = time.perf_counter() - started, peak_memory_mb()
        with track(settings, run, row.identity, row.name, "evaluate", row.inputs, prepared.data) as tracking:
            run.write_manifest(
                "evaluate", config_hash=row.identity, inputs=row.inputs, seconds=seconds, peak_memory_mb=memory
            )
            tracking.results()
    return run.path


def _of_the_runs_study(settings: Settings, run: RunDir) -> Settings:
    """The settings with the study in which the run lies: its base and gold are there."""
    run.read_config()  # refuses what is no run directory
    if not any(run.finished(stage) for stage in STAGES):
        raise UserError(f"run={run.path} is not finished: the command that began it resumes it (see menard status)")
    study_dir = run.path.resolve().parent
    return replace(settings, plain={**settings.plain, "runs_dir": str(study_dir.parent), "study": study_dir.name})


def _again(prepared: Prepared, run: RunDir) -> None:
    delta = load_delta(run.delta_path)
    settings = prepared.settings
    if delta.identity != prepared.inputs["model"]:
        raise UserError(
            f"run={run.path} changed another model than {settings.model.path}: set model= as in its config.yaml"
        )
    known = references(prepared)
    with run.attempt():
        reset_peak_memory()
        started = time.perf_counter()
        loaded = load(settings.model)
        originals = {name: tensor.detach().clone() for name, tensor in named(loaded.model, delta.tensors).items()}
        apply_delta(loaded.model, delta.tensors)
        score(prepared, loaded, originals, run.evaluation_dir)
        judge(prepared, run.evaluation_dir, known.found)
        run.write_manifest(
            "evaluate",
            config_hash=run_id(settings.plain, prepared.inputs),
            inputs=prepared.inputs,
            seconds=time.perf_counter() - started,
            peak_memory_mb=peak_memory_mb(),
        )
