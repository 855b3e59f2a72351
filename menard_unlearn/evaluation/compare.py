"""What can only be said beside other models: changes, distances, shares. Reads and writes the files of evaluations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from menard_unlearn.evaluation import counterfactual, residue, surprisal
from menard_unlearn.evaluation.attribution import excess
from menard_unlearn.evaluation.config import EvaluationConfig
from menard_unlearn.evaluation.covariates import popularity, predictability
from menard_unlearn.evaluation.curves import BIN, covariates, curve
from menard_unlearn.evaluation.cutoff import measure, measure_kind
from menard_unlearn.evaluation.items import ItemScore, paired, read_items
from menard_unlearn.evaluation.material import Material
from menard_unlearn.evaluation.ngram import bits, train
from menard_unlearn.evaluation.prompted import prompted_share
from menard_unlearn.evaluation.question_scores import QuestionScore, of_kind, read_questions
from menard_unlearn.files import write_json

KEYS = {
    "surprisal_to_base": "A4 against the base; keys of surprisal.AGAINST_KEYS",
    "surprisal_to_gold": "A5 of the surprisal curve; the same keys",
    "residue_to_base": "A8 against the base; keys of residue.AGAINST_KEYS",
    "attribution_to_without_target": "C3, C4 and C6 minus those of the model that never saw the target",
    "left_out": "references that are missing, and what needs them",
}
"""Key of compared.json → meaning; each holds an object."""

NEEDS = {
    "base": "A2, A3, A8's change, utility_kl: need a base other than the model itself",
    "gold": "A5: needs model.gold",
    "without_target": "C1, C2 and C3 to C6 against it: need model.without_target",
    "prompted": "prompted.json: needs evaluation.prompted.per_year above 0",
}
"""Reference → what is left out without it."""

NGRAM = "ngram.json"


@dataclass(frozen=True)
class Reference:
    """A finished evaluation on disk."""

    folder: Path

    @cached_property
    def items(self) -> list[ItemScore]:
        """Scores of the probes."""
        return read_items(self.folder / "items.jsonl")

    @cached_property
    def questions(self) -> list[QuestionScore]:
        """Scores of the questions; none where none were asked."""
        path = self.folder / "questions.jsonl"
        return read_questions(path) if path.is_file() else []

    def read(self, name: str) -> dict[str, Any] | None:
        """What a file holds; None where it is not there."""
        path = self.folder / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def compare(out: Path, references: Mapping[str, Reference], material: Material, config: EvaluationConfig) -> None:
    """Write cutoff.json, curve.json, covariates.json, kinds.json, compared.json, counterfactual.json and prompted.json.

    `references` are the others, by kind: a model is not compared with itself, and what is missing is named in
    compared.json. Raises UserError where a reference was scored on other probes.
    """
    own, year = Reference(out), material.cutoff_year
    base, gold = (_beside(own.items, references, kind, lambda other: other.items) for kind in ("base", "gold"))
    write_json(out / "cutoff.json", measure(own.items, base, gold, year, config.rules))
    curves = {"bins": curve(own.items, base, year, BIN), "years": curve(own.items, base, year, 1)}
    write_json(out / "curve.json", curves)
    known = {
        "predictability": dict(predictability(material.facts, material.templates)),
        "popularity": popularity(material.facts),
    }
    rows = {name: covariates(own.items, base, values, year) for name, values in known.items()}
    write_json(out / "covariates.json", rows)
    if own.questions:
        write_json(out / "kinds.json", _kinds(own, references, year, config))
    if (told := references.get("prompted")) is not None:
        _prompted(out, own, told, references, year, config)
    if own.read("surprisal.json") is not None:  # a model that was merely told has probes alone
        write_json(out / "compared.json", _compared(own, references, config))
    if material.target is not None and own.read("target_tokens.json") is not None:
        write_json(out / "counterfactual.json", _counterfactual(own, references, config))


def write_ngram(folder: Path, material: Material, config: EvaluationConfig) -> None:
    """Write ngram.json to the base's evaluation: B0, bits of each byte of the target under an n-gram model of the text
    up to the cutoff. It depends on no model, so that a study computes it once."""
    if material.target is not None and material.history:
        ngram = train(material.history, config.attribution.ngram_order)
        found = bits(ngram, material.target.text, material.target.prompt)
        write_json(folder / NGRAM, {"order": ngram.order, "bits": [round(float(value), 6) for value in found]})


def _beside(
    own: Sequence[ItemScore],
    references: Mapping[str, Reference],
    kind: str,
    read: Callable[[Reference], Sequence[ItemScore]],
) -> list[ItemScore] | None:
    return paired(own, read(references[kind]), kind) if kind in references else None


def _kinds(own: Reference, references: Mapping[str, Reference], year: int, config: EvaluationConfig) -> dict:
    """Kind → `cutoff.MEASURES` of its questions, above what guessing gets right."""
    found = {}
    for kind in config.questions.kinds:
        items = of_kind(own.questions, kind)
        if items:
            base, gold = (_beside(items, references, name, lambda other: other.questions) for name in ("base", "gold"))
            chance = float(np.mean([1 / item.n_candidates for item in items]))
            found[kind] = measure_kind(items, base, gold, year, config.rules, chance=chance)
    return found


def _prompted(
    out: Path,
    own: Reference,
    told: Reference,
    references: Mapping[str, Reference],
    year: int,
    config: EvaluationConfig,
) -> None:
    base = references.get("base")
    items = None if base is None else own.items
    share = prompted_share(items, (base or own).items, told.items, year, replicates=config.bootstrap, seed=config.seed)
    write_json(out / "prompted.json", share)


def _compared(own: Reference, references: Mapping[str, Reference], config: EvaluationConfig) -> dict:
    def of(kind: str, name: str) -> dict | None:
        return references[kind].read(name) if kind in references else None

    surprise = own.read("surprisal.json") or {}
    attribution = own.read("attribution.json")
    return {
        "surprisal_to_base": surprisal.against(surprise, of("base", "surprisal.json"), config.surprisal),
        "surprisal_to_gold": surprisal.against(surprise, of("gold", "surprisal.json"), config.surprisal),
        "residue_to_base": residue.against(own.read("residue.json") or {}, of("base", "residue.json")),
        "attribution_to_without_target": (
            None if attribution is None else excess(attribution, of("without_target", "attribution.json"))
        ),
        "left_out": [why for kind, why in NEEDS.items() if kind not in references],
    }


def _counterfactual(own: Reference, references: Mapping[str, Reference], config: EvaluationConfig) -> dict:
    """C1 and C2, with B0 from wherever the base's evaluation lies."""
    of_text = counterfactual.TextScore.of_tokens
    out = references.get("without_target")
    tokens = [found for reference in (own, out) if reference and (found := reference.read("target_tokens.json"))]
    scores = [of_text(found["tokens"]) for found in tokens]
    ngram = references.get("base", own).read(NGRAM)
    return counterfactual.against(
        scores[:1],
        scores[1:],
        None if ngram is None else np.array(ngram["bits"]),
        block=config.attribution.block,
        bootstrap=config.attribution.bootstrap,
        seed=config.seed,
    )
