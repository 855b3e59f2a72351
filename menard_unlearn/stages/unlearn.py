"""`menard unlearn`: forget what came after the cutoff, then measure what is left.

The story is `stages.descent`'s; what is told here is what unlearning trains on: forget and retain side, and the answers
that a method needs, made beforehand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from menard_unlearn.config import build
from menard_unlearn.corpus.pairs import PairedDataset
from menard_unlearn.corpus.split import SplitConfig
from menard_unlearn.evaluation.objective import ObjectiveConfig, objective
from menard_unlearn.models.load import LoadedModel, load, load_tokenizer
from menard_unlearn.models.partial import load_stump
from menard_unlearn.run import RunDir
from menard_unlearn.stages.alternates import alternates
from menard_unlearn.stages.data import token_items
from menard_unlearn.stages.descent import Descent, Items, carry_out, train_on
from menard_unlearn.stages.job import Job
from menard_unlearn.stages.settings import Settings
from menard_unlearn.training.loop import TrainResult
from menard_unlearn.training.preemption import Preemption
from menard_unlearn.training.rank import TakeRow


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
    carry_out(UNLEARNING, cfg)


def items_of(job: Job) -> Items:
    """What is trained on, by side."""
    data = job.prepared.data
    tokenizer = load_tokenizer(job.prepared.settings.model)
    sides = {"forget": data.split.forget, "retain": data.split.retain}
    return {side: token_items(tokenizer, data.trained(facts), job.window) for side, facts in sides.items()}


def descend(job: Job, items: Items, on_log: TakeRow, preemption: Preemption | None) -> tuple[TrainResult, str]:
    """Train, alone or as one of several processes; also the identity of the base model."""
    source = job.prepared.settings.model
    loaded = load(source) if job.last_layer is None else load_stump(source, job.last_layer)
    dataset = _dataset(job, items, loaded)
    return train_on(job, loaded, dataset, items, on_log, preemption), loaded.identity


def _beforehand(job: Job, items: Items) -> None:
    if job.recipe.alternates() is not None:
        _dataset(job, items, load(job.prepared.settings.model))


def _dataset(job: Job, items: Items, loaded: LoadedModel) -> PairedDataset:
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


UNLEARNING = Descent("unlearn", Job.of, items_of, _beforehand, descend, lambda job, items: {})
