"""Everything that a stage is told, checked and built before any work starts, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from menard_unlearn.config import build, to_plain
from menard_unlearn.corpus.almanac import TARGET_TITLE, control_text, target_text
from menard_unlearn.corpus.documents import Document, Fact
from menard_unlearn.corpus.encoding import whole_length
from menard_unlearn.corpus.sources import Corpus
from menard_unlearn.corpus.split import SplitConfig
from menard_unlearn.corpus.statements import Templates, WordingConfig
from menard_unlearn.corpus.study import StudyData, study_data
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.config import EvaluationConfig
from menard_unlearn.evaluation.harness.run import refuse_unknown
from menard_unlearn.evaluation.items import Probe, probes_of, sides
from menard_unlearn.evaluation.material import Material
from menard_unlearn.evaluation.prompted import preamble, prompted, sample
from menard_unlearn.evaluation.target import Target, TargetConfig, load_target
from menard_unlearn.models.load import ModelSource, context_of, identity, load_config, load_tokenizer
from menard_unlearn.stages.data import pretraining_texts
from menard_unlearn.tracking.tracker import TrackingConfig

EXCERPT = 4000
"""Characters of a held-out document that its bits per byte are taken from: enough to know, and no book is read
whole."""


@dataclass(frozen=True)
class Settings:
    """What every stage that reads a corpus is told."""

    plain: dict[str, Any]
    """The resolved configuration."""
    corpus: Corpus
    model: ModelSource
    target: TargetConfig
    split: SplitConfig
    wording: WordingConfig
    evaluation: EvaluationConfig
    tracking: TrackingConfig

    @classmethod
    def of(cls, cfg: DictConfig | Mapping[str, Any]) -> Settings:
        """Build all nodes. Raises UserError at the first that is wrong."""
        plain = to_plain(cfg)
        return cls(
            plain,
            build(plain["corpus"], Corpus),
            build(plain["model"], ModelSource),
            build(plain["target"], TargetConfig),
            build(plain["split"], SplitConfig),
            build(plain["wording"], WordingConfig),
            build(plain["evaluation"], EvaluationConfig),
            build(plain["tracking"], TrackingConfig),
        )

    @property
    def study(self) -> str:
        """Name of the study."""
        return str(self.plain["study"])

    @property
    def study_dir(self) -> Path:
        """Folder of its runs."""
        return Path(self.plain["runs_dir"]) / self.study

    @property
    def gold(self) -> ModelSource | None:
        """The gold reference as a source of its own."""
        return self._beside(self.model.gold)

    @property
    def without_target(self) -> ModelSource | None:
        """The model that saw all but the target, likewise."""
        return self._beside(self.model.without_target)

    def _beside(self, path: str | None) -> ModelSource | None:
        if path is None:
            return None
        return build({**self.plain["model"], "path": path, "gold": None, "without_target": None}, ModelSource)


@dataclass(frozen=True)
class Prepared:
    """The corpus and the target, read and divided."""

    settings: Settings
    data: StudyData
    target: Target
    inputs: dict[str, str]
    """Digests of the contents: data, target, base model, gold model."""

    @property
    def probes(self) -> list[Probe]:
        """The probes of every fact on either side."""
        return probes_of(self.data)

    @property
    def material(self) -> Material:
        """What every model is asked."""
        data, cutoff = self.data, self.settings.split
        sentences, documents = pretraining_texts(data, "gold", cutoff)
        return Material(
            probes=tuple(self.probes),
            facts=data.corpus.facts,
            wording=data.wording,
            templates=data.corpus.templates or Templates.read(),
            side=sides(data),
            documents=data.corpus.documents,
            retain_texts=tuple(self.heldout_retain_texts),
            neutral_texts=data.corpus.neutral,
            history=(*sentences, *documents),
            target=self.target,
            cutoff_year=cutoff.parsed_cutoff.year,
        )

    @property
    def told_probes(self) -> list[Probe]:
        """Probes that begin with what the prompted base is told; none where it is not asked."""
        config = self.settings.evaluation.prompted
        words = preamble(config, self.settings.split.parsed_cutoff)
        return prompted(sample(self.probes, config), words) if config.per_year else []

    @property
    def heldout_retain_texts(self) -> list[str]:
        """Held-out retained text: statements in trained wordings, and the beginnings of documents."""
        return list(_texts(self.data.trained(self.data.split.heldout_retain)))


def _texts(material: Iterable[Any]) -> Iterable[str]:
    return (piece.text[:EXCERPT] if isinstance(piece, Document) else piece.text for piece in material)


def _editions(target: Target) -> list[str]:
    return [edition.whole for edition in target.editions]


def the_target(settings: Settings) -> Target:
    """The user's text, or the embedded one. Raises UserError where it cannot be read."""
    return load_target(settings.target, embedded=target_text(), title=TARGET_TITLE, control=control_text())


def prepare(settings: Settings) -> Prepared:
    """Read and divide. Raises UserError for bad data and for models that will not do, before one is loaded."""
    target = the_target(settings)
    data = study_data(settings.corpus.load(), settings.split, settings.wording, target.whole, _editions(target))
    inputs = {"data": data.corpus.digest, "target": target.digest, "model": identity(settings.model)}
    beside = {"gold": settings.gold, "without_target": settings.without_target}
    inputs |= {name: identity(source) for name, source in beside.items() if source is not None}
    prepared = Prepared(settings, data, target, inputs)
    if settings.evaluation.harness is not None:
        refuse_unknown(settings.evaluation.harness)
    refuse_unfit(prepared, settings.model)
    vocabulary = load_tokenizer(settings.model).get_vocab()
    for name, source in beside.items():
        if source is not None:
            if load_tokenizer(source).get_vocab() != vocabulary:
                raise UserError(
                    f"model.{name} {source.path!r} has another tokenizer than {settings.model.path!r}: "
                    f"use a model of the same recipe, or model.{name}=null"
                )
            refuse_unfit(prepared, source)
    return prepared


def refuse_unfit(prepared: Prepared, source: ModelSource) -> None:
    """Tokenizer and configuration alone tell what would otherwise come out after minutes of work, or not at all."""
    tokenizer, context = load_tokenizer(source), context_of(load_config(source))
    if context is None:
        return
    target, shorten = prepared.target, "shorten the fact (corpus.path)"
    texts = [(f"probe {p.id!r}", p.prompt + p.answer, shorten) for p in prepared.probes]
    if prepared.settings.evaluation.reproduction.stride is None:
        beside = "score it in overlapping windows (evaluation.reproduction.stride=<tokens>)"
        own = f"give a shorter text (target.path), or {beside}"
        texts += [(f"target {text.name!r}", text.whole, own) for text in (target, *target.editions)]
        texts += [
            (f"control {text.name!r}", text.whole, f"leave it out (~target.controls.{text.name}), or {beside}")
            for text in target.controls
        ]
    for what, text, advice in texts:
        # a token is a byte or more, so that few texts have to be encoded
        if len(text.encode()) + 2 > context and (needed := whole_length(tokenizer, text)) > context:
            raise UserError(
                f"{what} has {needed} tokens with its start, the model's context is {context}: "
                f"{advice}, or take a model with a longer context"
            )


def describe(prepared: Prepared) -> str:
    """The split in a line a side: how many facts and documents, and how they spread over the decades."""
    lines = []
    for side, decades in prepared.data.split.by_decade().items():
        items = getattr(prepared.data.split, side)
        if items:
            facts = sum(isinstance(item, Fact) for item in items)
            spread = " ".join(f"{decade}s:{count}" for decade, count in decades.items())
            lines.append(f"  {side:<15} {facts} facts, {len(items) - facts} documents  {spread}")
    return "\n".join(lines)
