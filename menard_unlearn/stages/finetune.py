"""`menard finetune`: tune a model toward its author, on the target itself, or on text of no meaning, and measure it.

All arms share steps, batch, learning rate and window, and go through the instruments by which unlearning is measured,
as rows of the same study. The model is `model.path` as it is, or what a finished run made of it (`run=`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from omegaconf import DictConfig
from torch import Tensor

from menard_unlearn.config import build
from menard_unlearn.corpus.arms import Arm, OwnWorks, OwnWorksConfig, SyntheticArm, own_works, shuffled, windows
from menard_unlearn.corpus.documents import Document
from menard_unlearn.corpus.pairs import PairedDataset
from menard_unlearn.corpus.study import TARGET_ID
from menard_unlearn.corpus.works import Authors, AuthorsData
from menard_unlearn.files import canonical
from menard_unlearn.methods.filtered import Relearn
from menard_unlearn.models.load import LoadedModel, load, load_tokenizer
from menard_unlearn.run import RunDir
from menard_unlearn.stages.descent import Descent, Items, carry_out, train_on
from menard_unlearn.stages.job import Job, place, prepared_once
from menard_unlearn.stages.settings import Prepared, Settings
from menard_unlearn.stages.starts import Start, against_base
from menard_unlearn.stages.synthetic import sampled
from menard_unlearn.training.cache import CacheConfig
from menard_unlearn.training.config import TrainerConfig
from menard_unlearn.training.loop import TrainResult
from menard_unlearn.training.preemption import Preemption
from menard_unlearn.training.rank import TakeRow

TEXT = "retain"
"""The side that is learned; the other one holds the same text, and nothing looks at it."""


@dataclass(frozen=True)
class TuningJob(Job):
    """Built from a configuration by `TuningJob.of`."""

    arm: Arm
    works: OwnWorks
    """What is tuned on, or whose lengths are matched; of the target alone, nothing is left out."""
    start: Start | None
    """The run that is gone on from."""

    @classmethod
    def of(cls, settings: Settings, known: dict[str, Any] | None = None) -> TuningJob:
        """Build and read everything. Raises UserError at the first that is wrong; `known` as for `Job.of`."""
        plain, known = settings.plain, {} if known is None else known
        trainer, cache = build(plain["trainer"], TrainerConfig), build(plain["cache"], CacheConfig)
        arm, config = build(plain["arm"], Arm), build(plain["own_works"], OwnWorksConfig)
        prepared = prepared_once(settings, known)
        start = None if plain["run"] is None else Start.of(plain["run"], prepared.inputs["model"], trainer)
        inputs = {} if start is None else {"start": start.digest}
        if arm.source == "author":
            authors = _read_once(plain["authors"], known)
            works, inputs = _works(authors, prepared, config), {**inputs, "authors": authors.digest}
        else:
            works = OwnWorks((Document(TARGET_ID, prepared.target.whole, None, TARGET_ID),), ())
        prepared = replace(prepared, inputs={**prepared.inputs, **inputs})
        name = f"finetune_{arm.name}" + ("" if start is None else f"_after_{start.method}")
        # by what the run left: its path may be written in many ways
        told = {**plain, "run": None if start is None else start.digest}
        identity, run = place(replace(prepared, settings=replace(settings, plain=told)), name)
        common = (prepared, Relearn(), None, trainer, cache, name, int(plain["seed"]), int(plain["window"]))
        return cls(*common, identity, run, arm, works, start)


def _read_once(node: Mapping[str, Any], known: dict[str, Any]) -> AuthorsData:
    key = canonical({"authors": node})
    if key not in known:
        known[key] = build(node, Authors).load()
    return known[key]


def _works(authors: AuthorsData, prepared: Prepared, config: OwnWorksConfig) -> OwnWorks:
    cutoff = prepared.settings.split.parsed_cutoff
    target = prepared.target
    texts = {
        "the target": [text.whole for text in (target, *target.editions)],
        "a control": [text.whole for text in target.controls],
    }
    return own_works(authors.author, authors.own, texts, cutoff, config)


def plan(config: Mapping[str, Any], known: dict[str, Any]) -> RunDir:
    """Where this configuration's run lies. All of the configuration is checked, and nothing is written.

    `known` keeps what was read, for the other jobs of a sweep.
    """
    return TuningJob.of(Settings.of(config), known).run


def main(cfg: DictConfig) -> None:
    """Do one run, unless it is done."""
    carry_out(FINETUNING, cfg)


def items_of(job: TuningJob) -> Items:
    """What is trained on; of text that the model has yet to write, text of the same lengths."""
    tokenizer = load_tokenizer(job.prepared.settings.model)
    if isinstance(job.arm, SyntheticArm) and job.arm.kind == "shuffled":
        return {TEXT: shuffled(tokenizer, job.works.documents, job.window, job.arm.seed)}
    return {TEXT: windows(tokenizer, job.works.documents, job.window)}


def descend(job: TuningJob, items: Items, on_log: TakeRow, preemption: Preemption | None) -> tuple[TrainResult, str]:
    """Train, alone or as one of several processes; also the identity of the base model, which the delta is against."""
    base = load(job.prepared.settings.model)
    loaded, first = _started(job, base)
    items = _written(job, items, loaded)
    dataset = PairedDataset(items[TEXT], items[TEXT], job.trainer.max_steps * job.trainer.batch_size, job.seed)
    result = train_on(job, loaded, dataset, items, on_log, preemption)
    return (result if job.start is None else replace(result, delta=against_base(first, result.delta))), base.identity


def _started(job: TuningJob, base: LoadedModel) -> tuple[LoadedModel, dict[str, Tensor]]:
    return (base, {}) if job.start is None else job.start.put_into(base, job.trainer)


def _written(job: TuningJob, items: Items, loaded: LoadedModel) -> Items:
    """The items, or in their place what the model itself writes."""
    if not isinstance(job.arm, SyntheticArm) or job.arm.kind != "model":
        return items
    return {TEXT: sampled(job.arm, items[TEXT], loaded, job.prepared)}


def _beforehand(job: TuningJob, items: Items) -> None:
    if isinstance(job.arm, SyntheticArm) and job.arm.kind == "model":
        _written(job, items, _started(job, load(job.prepared.settings.model))[0])


def _results(job: TuningJob, items: Items) -> dict[str, Any]:
    """How much was tuned on, and which of the author's works were not."""
    tokens = sum(len(item.ids) - item.n_prompt for item in items[TEXT])
    return {"windows": len(items[TEXT]), "tokens": tokens, "left_out": [asdict(work) for work in job.works.left_out]}


FINETUNING = Descent("finetune", TuningJob.of, items_of, _beforehand, descend, _results)
