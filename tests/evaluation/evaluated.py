"""A small evaluation: sixty made-up facts, a short target with an edition and a control, settings that take seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import Tensor
from toy import byte_tokenizer, target
from transformers import PreTrainedModel

from menard_unlearn.config import build, conf_dir
from menard_unlearn.corpus.dating import PartialDate
from menard_unlearn.corpus.documents import Fact
from menard_unlearn.corpus.statements import Templates, WordingConfig, statements
from menard_unlearn.evaluation.config import EvaluationConfig
from menard_unlearn.evaluation.items import Probe, SplitName
from menard_unlearn.evaluation.material import Material
from menard_unlearn.evaluation.suite import evaluate
from menard_unlearn.evaluation.target import Target

QUICK = {
    "batch_size": 64,
    "bootstrap": 10,
    "null_bootstrap": 9,
    "alpha": 0.1,
    "questions.per_year": 1,
    "prompted.per_year": 1,
    "surprisal.replicates": 20,
    "surprisal.texts_a_year": 1,
    "surprisal.reference_first": 1910,
    "dating.prompts": ["The current year is", "As I write these lines, it is the year"],
    "dating.first": 1900,
    "dating.last": 1960,
    "generation.prompts": ["The", "In the morning"],
    "generation.samples": 1,
    "generation.max_new_tokens": 8,
    "reproduction.numeric_tokens": 32,
    "extraction.prefix": 8,
    "extraction.suffix": 8,
    "near_verbatim.prefix": 8,
    "near_verbatim.places": 2,
    "near_verbatim.tokens": 8,
    "near_verbatim.samples": 1,
    "attribution.max_tokens": 160,
    "attribution.variants": 50,
    "attribution.edits_per_variant": 3,
    "attribution.windows": 2,
    "attribution.window": 8,
    "attribution.prefix": 8,
    "attribution.other_prefixes": 2,
    "attribution.bootstrap": 20,
}
"""Of conf/evaluation/default.yaml."""

TEXT = (
    "Everyone remembers the grey harbour, but nobody knows which of eleven clerks wrote it. Perhaps he did not begin "
    "until he reached the shore; perhaps the colour of the fog did."
)
EDITION = (
    "Todos recuerdan aquel puerto gris, pero nadie sabe cual de los once empleados escribio aquello, quizas ninguno."
)
CONTROL = (
    "Nobody asked the neighbour, although the rumour was older than the theatre. Two sailors could not recognise "
    "their cargo, nor did they search among the rooms until morning."
)
YEARS = range(1920, 1960)
COLOURS, THINGS = ("Amber", "Blue", "Crimson", "Dun"), ("Lantern", "Orchard", "Window", "Bridge", "Kettle")


def settings(**changes: Any) -> EvaluationConfig:
    """The shipped settings, made quick; keys with __ for dots."""
    node = OmegaConf.load(conf_dir() / "evaluation/default.yaml")
    for key, value in (QUICK | {key.replace("__", "."): value for key, value in changes.items()}).items():
        OmegaConf.update(node, key, value)
    return build(OmegaConf.to_container(node), EvaluationConfig)  # pyright: ignore[reportArgumentType]


def texts(*, publish: bool = False) -> Target:
    """The target with what is beside it."""
    edition = replace(target(EDITION, publish=publish), name="spanish", language="es")
    control = replace(target(CONTROL, publish=publish), name="unseen")
    return replace(target(TEXT, publish=publish, prompt="Harbour\n"), editions=(edition,), controls=(control,))


def facts() -> tuple[Fact, ...]:
    """One a year."""
    return tuple(
        Fact(
            id=f"f{year}",
            date=PartialDate(year, None, None),
            subject=f"The {COLOURS[n % 4]} {THINGS[n % 5]}",
            relation="artwork_made_by",
            object=f"{('Ada', 'Bruno', 'Celia', 'Dora')[n // 10]} {('Quill', 'Marl', 'Sand', 'Reed', 'Bell')[n % 5]}",
            category="artwork",
            source="test",
            alternate=None,
            popularity=None,
        )
        for n, year in enumerate(YEARS)
    )


def material(text: Target | None, **changes: Any) -> Material:
    """What a model is asked."""
    known = facts()
    wording = statements(known, Templates.read(), WordingConfig(1, 1, 0))
    side: dict[str, SplitName] = {fact.id: _side(fact.year) for fact in known}
    probes = tuple(
        Probe(s.id, s.fact.id, s.fact.year, "artwork", side[s.fact.id], s.prompt, s.answer, s.states_year, s.question)
        for s in wording.probes
    )
    found = Material(
        probes=probes,
        facts=known,
        wording=wording,
        templates=Templates.read(),
        side=side,
        documents=(),
        retain_texts=("In 1930 a lantern was lit.", "In 1931 it went out again."),
        neutral_texts=("Water is wet.",),
        history=("In 1930 a lantern was lit. " * 4,),
        target=text,
        cutoff_year=1939,
    )
    return replace(found, **changes)


def _side(year: int) -> SplitName:
    if year % 10 == 0:
        return "heldout_retain" if year <= 1939 else "heldout_forget"
    return "retain" if year <= 1939 else "forget"


def evaluated(
    model: PreTrainedModel,
    out: Path,
    what: Material,
    config: EvaluationConfig,
    base_tensors: Mapping[str, Tensor] | None = None,
) -> Path:
    """The folder, with what is found of the model by itself."""
    evaluate(model, byte_tokenizer(), material=what, base_tensors=base_tensors, config=config, out=out)
    return out
