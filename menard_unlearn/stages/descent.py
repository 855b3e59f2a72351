"""What the stages that train a model have in common: the story of a run, whatever it is trained on and for.

Check everything → evaluate base and gold once for the study → train → keep the changed weights → evaluate → compare
with base and gold → write the manifest. A run that is finished is skipped, one that was begun goes on.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from omegaconf import DictConfig
from torch import Tensor

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.encoding import Encoder
from menard_unlearn.corpus.pairs import PairedDataset
from menard_unlearn.evaluation.items import recalls, score_probes
from menard_unlearn.evaluation.summary import write_summary
from menard_unlearn.memory import peak_memory_mb, reset_peak_memory
from menard_unlearn.models.delta import apply_delta, changed, load_delta, save_delta
from menard_unlearn.models.load import LoadedModel, load
from menard_unlearn.stages.job import Job
from menard_unlearn.stages.logging import track
from menard_unlearn.stages.measure import judge, score
from menard_unlearn.stages.references import References, references
from menard_unlearn.stages.settings import Settings, describe
from menard_unlearn.stages.table import print_table
from menard_unlearn.training.cache import caching
from menard_unlearn.training.checkpoints import Checkpoints, writing
from menard_unlearn.training.loop import TrainResult, train
from menard_unlearn.training.memory import processes_of
from menard_unlearn.training.preemption import Preemption
from menard_unlearn.training.rank import TakeRow
from menard_unlearn.training.session import Trained
from menard_unlearn.training.torchrun import Machines, join, train_apart

J = TypeVar("J", bound=Job)
Items = dict[str, list[TokenItem]]
"""What is trained on, by side."""


@dataclass(frozen=True)
class Descent(Generic[J]):
    """What a stage that trains does in its own way."""

    stage: str
    """Its name."""
    job_of: Callable[[Settings], J]
    """Checks and reads everything."""
    items_of: Callable[[J], Items]
    """What is trained on, as long as it will be; loads no model."""
    beforehand: Callable[[J, Items], None]
    """Writes what several processes, each of which loads its own model, have to find."""
    descend: Callable[[J, Items, TakeRow, Preemption | None], tuple[TrainResult, str]]
    """Trains, alone or as one of several processes; also the identity of the base model."""
    results: Callable[[J, Items], Mapping[str, Any]]
    """What the manifest says beside how the training ended."""


def carry_out(descent: Descent[J], cfg: DictConfig) -> None:
    """Do one run, unless it is done."""
    settings = Settings.of(cfg)
    job = descent.job_of(settings)
    if _finished(descent, job):
        return
    if Machines.of_this_step().own > 0:
        join(_module(job), job.run, job.trainer, descent.stage)
        return
    items = descent.items_of(job)
    job.refuse_what_does_not_fit([item for side in items.values() for item in side])
    with job.run.attempt():
        if _finished(descent, job):  # by another process, while this one was reading
            return
        print(f"{job.run.path}\n{describe(job.prepared)}", flush=True)
        job.run.write_config(settings.plain)
        _do(descent, job, items)
    rows = write_summary(settings.study_dir)
    print_table([row for row in rows if row["run"] == job.run.path.name])


def _finished(descent: Descent[J], job: J) -> bool:
    if job.run.finished(descent.stage):
        print(f"{job.run.path} is finished; nothing to do")
        return True
    return False


def _do(descent: Descent[J], job: J, items: Items) -> None:
    prepared, settings = job.prepared, job.prepared.settings
    known = references(prepared)
    reset_peak_memory()
    several = processes_of(job.trainer) * Machines.of_this_step().count > 1
    with track(settings, job.run, job.identity, job.name, descent.stage, prepared.inputs, prepared.data) as tracking:
        done = (_by_several if several else _by_one)(descent, job, items, tracking.log)
        ended = f"stopped: {done.stopped}" if done.stopped else "done"
        print(f"{job.name}: {done.steps} steps in {done.seconds:.0f} s, {ended}", flush=True)
        evaluate(job, known)
        results = {"steps": done.steps, "stopped": done.stopped, "best_step": done.best_step}
        job.run.write_manifest(
            descent.stage,
            config_hash=job.identity,
            inputs=prepared.inputs,
            seconds=done.seconds,
            peak_memory_mb=done.peak_memory_mb,
            results={**results, **descent.results(job, items)},
        )
        tracking.results()
    # a manifest says that the delta is whole: nothing is left to resume
    shutil.rmtree(job.run.checkpoints_dir, ignore_errors=True)


def _by_one(descent: Descent[J], job: J, items: Items, on_log: TakeRow) -> Trained:
    result, identity = descent.descend(job, items, on_log, None)
    with writing(job.run.delta_path, Checkpoints(job.run.checkpoints_dir)):
        save_delta(job.run.delta_path, result.delta, identity, torch.float32)
    return Trained(result.steps, result.seconds, result.stopped, result.best_step, peak_memory_mb())


def _by_several(descent: Descent[J], job: J, items: Items, on_log: TakeRow) -> Trained:
    """Each loads what it needs; what a model writes for all of them is written before they ask for it."""
    descent.beforehand(job, items)
    torch.cuda.empty_cache()  # one of them trains on the GPU that this process evaluates on
    return train_apart(_module(job), job.run, job.trainer, on_log)


def _module(job: Job) -> list[str]:
    """What torchrun starts."""
    return ["menard_unlearn.stages.processes", str(job.run.path)]


def train_on(
    job: Job,
    loaded: LoadedModel,
    dataset: PairedDataset,
    items: Mapping[str, Sequence[TokenItem]],
    on_log: TakeRow,
    preemption: Preemption | None,
) -> TrainResult:
    """Train a loaded model in place. `loaded.identity` is that of its weights, by which what it says is cached."""
    settings, probes = job.prepared.settings, job.prepared.probes
    evaluation = settings.evaluation

    def recall_now(step: int) -> Mapping[str, Any]:
        found = score_probes(
            loaded.model,
            loaded.tokenizer,
            probes,
            batch_size=evaluation.batch_size,
            chunk=evaluation.chunk,
        )
        return recalls(found)

    return train(
        loaded.model,
        job.recipe,
        dataset,
        Encoder.of(loaded.tokenizer),
        job.trainer,
        job.run,
        seed=job.seed,
        on_log=on_log,
        on_evaluate=recall_now if evaluation.every else None,
        evaluate_every=evaluation.every,
        wrapper=job.wrapper,
        gold=load(settings.gold).model if job.recipe.needs_gold() and settings.gold is not None else None,
        make_frozen=caching(job.cache, loaded.identity, settings.model.dtype, items),
        preemption=preemption,
    )


def evaluate(job: Job, known: References) -> None:
    """Of the base model with the run's delta, as every later evaluation will load it."""
    started = time.perf_counter()
    loaded = load(job.prepared.settings.model)
    delta = load_delta(job.run.delta_path)
    originals: dict[str, Tensor] = {name: p.detach().clone() for name, p in changed(loaded.model, delta).items()}
    apply_delta(loaded.model, delta)
    score(job.prepared, loaded, originals, job.run.evaluation_dir)
    judge(job.prepared, job.run.evaluation_dir, known.found)
    print(f"{job.name}: evaluated in {time.perf_counter() - started:.0f} s", flush=True)
