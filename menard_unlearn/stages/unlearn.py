"""`menard unlearn`: forget what came after the cutoff, then measure what is left.

The story: check everything → evaluate base and gold once for the study → make the answers that the method needs
beforehand → train on forget and retain → keep the changed weights → evaluate → compare with base and gold → write the
manifest. A run that is finished is skipped, one that was begun goes on.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from menard_unlearn.config import build
from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.encoding import Encoder
from menard_unlearn.corpus.pairs import PairedDataset
from menard_unlearn.corpus.split import SplitConfig
from menard_unlearn.evaluation.items import recalls, score_probes
from menard_unlearn.evaluation.objective import ObjectiveConfig, objective
from menard_unlearn.evaluation.summary import write_summary
from menard_unlearn.memory import peak_memory_mb, reset_peak_memory
from menard_unlearn.models.delta import apply_delta, changed, load_delta, save_delta
from menard_unlearn.models.load import LoadedModel, load, load_tokenizer
from menard_unlearn.models.partial import load_stump
from menard_unlearn.run import RunDir
from menard_unlearn.stages.alternates import alternates
from menard_unlearn.stages.data import token_items
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


def plan(config: Mapping[str, Any], known: dict[str, Any]) -> RunDir:
    """Where this configuration's run lies. All of the configuration is checked, and nothing is written.

    `known` keeps what was read, for the other jobs of a sweep.
    """
    build(config["objective"], ObjectiveConfig)
    return Job.of(Settings.of(config), known).run


def outcome(config: Mapping[str, Any], run: RunDir) -> float:
    """What a search is told of a finished run: `objective` of what was measured against `split.cutoff`, in years.

    Raises UserError where that cannot be said.
    """
    found = json.loads((run.evaluation_dir / "cutoff.json").read_text(encoding="utf-8"))
    target = build(config["split"], SplitConfig).parsed_cutoff
    return objective(found, target, build(config["objective"], ObjectiveConfig))


def main(cfg: DictConfig) -> None:
    """Do one run, unless it is done."""
    settings = Settings.of(cfg)
    job = Job.of(settings)
    if _finished(job):
        return
    if Machines.of_this_step().own > 0:
        join(_module(job), job.run, job.trainer, "unlearn")
        return
    items = items_of(job)
    job.refuse_what_does_not_fit([*items["forget"], *items["retain"]])
    with job.run.attempt():
        if _finished(job):  # by another process, while this one was reading
            return
        print(f"{job.run.path}\n{describe(job.prepared)}", flush=True)
        job.run.write_config(settings.plain)
        _do(job, items)
    rows = write_summary(settings.study_dir)
    print_table([row for row in rows if row["run"] == job.run.path.name])


def _finished(job: Job) -> bool:
    if job.run.finished("unlearn"):
        print(f"{job.run.path} is finished; nothing to do")
        return True
    return False


def items_of(job: Job) -> dict[str, list[TokenItem]]:
    """What is trained on, by side."""
    data = job.prepared.data
    tokenizer = load_tokenizer(job.prepared.settings.model)
    sides = {"forget": data.split.forget, "retain": data.split.retain}
    return {side: token_items(tokenizer, data.trained(facts), job.window) for side, facts in sides.items()}


def _do(job: Job, items: dict[str, list[TokenItem]]) -> None:
    prepared, settings = job.prepared, job.prepared.settings
    known = references(prepared)
    reset_peak_memory()
    several = processes_of(job.trainer) * Machines.of_this_step().count > 1
    with track(settings, job.run, job.identity, job.name, "unlearn", prepared.inputs, prepared.data) as tracking:
        done = _by_several(job, items, tracking.log) if several else _by_one(job, items, tracking.log)
        ended = f"stopped: {done.stopped}" if done.stopped else "done"
        print(f"{job.name}: {done.steps} steps in {done.seconds:.0f} s, {ended}", flush=True)
        _evaluate(job, known)
        results = {"steps": done.steps, "stopped": done.stopped, "best_step": done.best_step}
        job.run.write_manifest(
            "unlearn",
            config_hash=job.identity,
            inputs=prepared.inputs,
            seconds=done.seconds,
            peak_memory_mb=done.peak_memory_mb,
            results=results,
        )
        tracking.results()
    # a manifest says that the delta is whole: nothing is left to resume
    shutil.rmtree(job.run.checkpoints_dir, ignore_errors=True)


def _by_one(job: Job, items: dict[str, list[TokenItem]], on_log: TakeRow) -> Trained:
    result, identity = descend(job, items, on_log, None)
    with writing(job.run.delta_path, Checkpoints(job.run.checkpoints_dir)):
        save_delta(job.run.delta_path, result.delta, identity, torch.float32)
    return Trained(result.steps, result.seconds, result.stopped, result.best_step, peak_memory_mb())


def _by_several(job: Job, items: dict[str, list[TokenItem]], on_log: TakeRow) -> Trained:
    """Each loads what it needs; what the base writes for all of them is written before they ask for it."""
    if job.recipe.alternates() is not None:
        _dataset(job, items, load(job.prepared.settings.model))
    torch.cuda.empty_cache()  # one of them trains on the GPU that this process evaluates on
    return train_apart(_module(job), job.run, job.trainer, on_log)


def _module(job: Job) -> list[str]:
    """What torchrun starts."""
    return ["menard_unlearn.stages.processes", str(job.run.path)]


def descend(
    job: Job, items: dict[str, list[TokenItem]], on_log: TakeRow, preemption: Preemption | None
) -> tuple[TrainResult, str]:
    """Train, alone or as one of several processes; also the identity of the base model."""
    source = job.prepared.settings.model
    loaded = load(source) if job.last_layer is None else load_stump(source, job.last_layer)
    dataset = _dataset(job, items, loaded)
    return _train(job, loaded, dataset, items, on_log, preemption), loaded.identity


def _dataset(job: Job, items: dict[str, list[TokenItem]], loaded: LoadedModel) -> PairedDataset:
    """Pairs, or triples where the method asks for other answers; those are put among the items."""
    spec = job.recipe.alternates()
    length = job.trainer.max_steps * job.trainer.batch_size
    if spec is None:
        return PairedDataset(items["forget"], items["retain"], length, job.seed)
    settings = job.prepared.settings
    others = alternates(
        spec,
        job.prepared.data,
        items["forget"],
        items["retain"],
        loaded.tokenizer,
        lambda: loaded,
        f"{loaded.identity}-{settings.model.dtype}",
        settings.study_dir / "alternates",
    )
    items["alternate"] = list(others.values())
    return PairedDataset(items["forget"], items["retain"], length, job.seed, others)


def _train(
    job: Job,
    loaded: LoadedModel,
    dataset: PairedDataset,
    items: Mapping[str, Sequence[TokenItem]],
    on_log: TakeRow,
    preemption: Preemption | None,
) -> TrainResult:
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


def _evaluate(job: Job, known: References) -> None:
    """Of the base model with the run's delta, as every later evaluation will load it."""
    started = time.perf_counter()
    loaded = load(job.prepared.settings.model)
    delta = load_delta(job.run.delta_path)
    originals: dict[str, Tensor] = {name: p.detach().clone() for name, p in changed(loaded.model, delta).items()}
    apply_delta(loaded.model, delta)
    score(job.prepared, loaded, originals, job.run.evaluation_dir)
    judge(job.prepared, job.run.evaluation_dir, known.found)
    print(f"{job.name}: evaluated in {time.perf_counter() - started:.0f} s", flush=True)
