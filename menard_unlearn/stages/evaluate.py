"""`menard evaluate`: measure a model as it is, or measure a finished run again.

Without `run=` the model and its gold reference are evaluated as `base` and `gold` of the study. With `run=` the run's
changed weights are put into its base model, and its evaluation is written anew with the settings given now.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.summary import write_summary
from menard_unlearn.memory import peak_memory_mb, reset_peak_memory
from menard_unlearn.models.delta import apply_delta, load_delta, named
from menard_unlearn.models.load import load
from menard_unlearn.run import RunDir, run_id
from menard_unlearn.stages.measure import judge, score
from menard_unlearn.stages.references import references
from menard_unlearn.stages.settings import Prepared, Settings, prepare


def main(cfg: DictConfig) -> None:
    """Evaluate and bring the study's summary up to date."""
    settings = Settings.of(cfg)
    if settings.plain["run"] is None:
        references(prepare(settings))
    else:
        run = RunDir(Path(settings.plain["run"]))
        settings = _of_the_runs_study(settings, run)
        _again(prepare(settings), run)
    write_summary(settings.study_dir)
    print(settings.study_dir / "summary.json")


def _of_the_runs_study(settings: Settings, run: RunDir) -> Settings:
    """The settings with the study in which the run lies: its base and gold are there."""
    run.read_config()  # refuses what is no run directory
    if not run.finished("unlearn"):
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
    with run.lock():
        reset_peak_memory()
        started = time.perf_counter()
        loaded = load(settings.model)
        originals = {name: tensor.detach().clone() for name, tensor in named(loaded.model, delta.tensors).items()}
        apply_delta(loaded.model, delta.tensors)
        found = score(prepared, loaded, originals, run.evaluation_dir)
        judge(prepared, found.items, known.base, known.gold, run.evaluation_dir)
        run.write_manifest(
            "evaluate",
            config_hash=run_id(settings.plain, prepared.inputs),
            inputs=prepared.inputs,
            seconds=time.perf_counter() - started,
            peak_memory_mb=peak_memory_mb(),
        )
