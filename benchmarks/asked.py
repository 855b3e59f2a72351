"""What `benchmarks/evaluation.py` asks of the model: the evaluation's plan, cut into the sequences of each metric."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from menard_unlearn.compose import compose
from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.evaluation.config import EvaluationConfig
from menard_unlearn.evaluation.encoded import encode_target, in_context
from menard_unlearn.evaluation.material import Material, Plan
from menard_unlearn.evaluation.target import Target
from menard_unlearn.evaluation.tokens import pad_id
from menard_unlearn.models.load import LoadedModel, load, resolve
from menard_unlearn.stages.settings import Settings, prepare

SIZES = {
    "paper": (),
    "tiny": (
        "evaluation.questions.per_year=1",
        "evaluation.dating.last=1860",
        "evaluation.extraction.stride=50",
        "evaluation.attribution.max_tokens=128",
        "evaluation.attribution.windows=1",
    ),
}
"""Changes to the settings of `menard evaluate`."""
EVERY = {"paper": 1, "tiny": 40}
"""One in so many probes and retained texts."""
YEARS = {"paper": range(10_000), "tiny": range(1930, 1950)}
"""Of the facts that questions are made of."""
BATCH = 64
SHARE, LEAST = 0.1, 4
"""Of the plain side's batches that are timed."""
KINDS = ("statement", "cloze", "choice", "year")
T = TypeVar("T")


@dataclass(frozen=True)
class Metric:
    """What a script of its own would compute."""

    name: str
    sets: tuple[str, ...]
    """The sets of sequences that it runs."""
    times: int = 1
    """So many metrics run the same."""


METRICS = (
    Metric("A1, A2, A3, A5, agreement of paraphrases, covariates", ("probes",), 6),
    Metric("statement: likelihood of answers", ("statement",)),
    Metric("cloze", ("cloze",)),
    Metric("choice of a letter", ("choice",)),
    Metric("year of an event", ("year",)),
    Metric("A4, surprisal by year", ("surprisal",)),
    Metric("A6, self-dating", ("dating",)),
    Metric("A8, residue", ("residue",)),
    Metric("B1, B3, B4 teacher-forced, C1, C2", ("target",), 5),
    Metric("B1 of controls", ("controls",)),
    Metric("B5, full softmax and top-k", ("windows",), 2),
    Metric("B6, heat map", ("windows", "heat")),
    Metric("C3 and C6, variants", ("variants",), 2),
    Metric("C4, other prefixes", ("passages",)),
    Metric("C5, the same of controls", ("beside",)),
    Metric("bits a byte of retained text", ("retain",)),
)
OF_KINDS = (
    *(Metric(f"A1, A2, A5 of {kind} questions", (kind,), 3) for kind in KINDS),
    *(Metric(f"A3 of {kind} questions, true answers alone", (f"{kind}_true",)) for kind in KINDS),
)
"""What kinds.json adds; A3 compares the true answer with itself in another model."""


@dataclass(frozen=True, eq=False)
class Work:
    """What is asked of the model."""

    loaded: LoadedModel
    plain: PreTrainedModel
    """The same weights, loaded by transformers alone."""
    plan: Plan
    config: EvaluationConfig
    texts: tuple[TokenItem, ...]
    """The target, its editions and its controls, read whole."""
    n_controls: int

    @cached_property
    def sets(self) -> dict[str, list[TokenItem]]:
        """Sequences by what they are of, a candidate a sequence."""
        plan, (own, *beside) = self.plan, _present(self.plan.attribution).texts
        of_kind = {kind: [question for question in plan.questions.questions if question.kind == kind] for kind in KINDS}
        n_own = len(self.texts) - self.n_controls
        return {
            "probes": list(plan.probes),
            **{kind: [item for question in of_kind[kind] for item in question.items] for kind in KINDS},
            **{f"{kind}_true": [question.items[question.true] for question in of_kind[kind]] for kind in KINDS},
            "surprisal": plan.surprisal.items,
            "dating": plan.dating.items,
            "residue": plan.residue.items,
            "target": list(self.texts[:n_own]),
            "controls": list(self.texts[n_own:]),
            "windows": _present(plan.windows).items,
            "heat": [item for _, reading in _present(plan.heat).shown for item in reading.items],
            "variants": [own.passage.item, *own.variants],
            "passages": [item for window in own.windows for item in window.items],
            "beside": [item for text in beside for item in text.items],
            "retain": [item for windows in plan.retain for item in windows],
        }

    @cached_property
    def sampled(self) -> dict[str, list[list[TokenItem]]]:
        """The plain side's batches that are timed, by set. True answers are timed with the others."""
        found = {}
        for name, items in self.sets.items():
            batches = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
            n = min(len(batches), max(LEAST, round(SHARE * len(batches))))
            found[name] = random.Random(f"evaluation {name}").sample(batches, n)
        return found

    @cached_property
    def n_sampled(self) -> dict[str, int]:
        """Sequences of these."""
        return {name: sum(map(len, batches)) for name, batches in self.sampled.items()}

    @property
    def padding(self) -> int:
        return pad_id(self.loaded.tokenizer)


def prepared(size: str) -> Work:
    """What `menard evaluate` asks of the embedded model, or a small part of it."""
    settings = Settings.of(compose("evaluate", ["tracking=none", *SIZES[size]]))
    material, loaded = _thinned(prepare(settings).material, size), load(settings.model)
    plain = AutoModelForCausalLM.from_pretrained(resolve(settings.model.path), dtype=torch.float32).eval()
    target = _present(material.target)
    texts = [_whole(loaded, text) for text in (target, *target.editions, *target.controls)]
    plan = Plan.of(loaded.model, loaded.tokenizer, material, settings.evaluation)
    return Work(loaded, plain, plan, settings.evaluation, tuple(texts), len(target.controls))


def _thinned(material: Material, size: str) -> Material:
    parts = {name: getattr(material, name)[:: EVERY[size]] for name in ("probes", "retain_texts")}
    return replace(material, facts=tuple(fact for fact in material.facts if fact.year in YEARS[size]), **parts)


def _whole(loaded: LoadedModel, text: Target) -> TokenItem:
    (item,), _ = in_context(loaded.model, encode_target(loaded.tokenizer, text, text.prompt), None)
    return item


def _present(found: T | None) -> T:
    if found is None:
        raise SystemExit("error: the evaluation has no target")
    return found
