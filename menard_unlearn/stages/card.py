"""What a freshly trained variant knows, measured on its stored weights: the known answer that the instruments are tried
on."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from menard_unlearn.config import build
from menard_unlearn.corpus.dating import Era, era
from menard_unlearn.corpus.statements import Statement
from menard_unlearn.corpus.study import StudyData
from menard_unlearn.evaluation.items import probe, score_probes
from menard_unlearn.evaluation.reproduction import reproduce
from menard_unlearn.evaluation.target import Target
from menard_unlearn.files import replace as replace_file
from menard_unlearn.models.load import LoadedModel, ModelSource, load
from menard_unlearn.stages.settings import Settings

FIGURES = {
    "trained_before": "recall of facts up to the cutoff in wordings that these facts were trained in",
    "trained_after": "the same of facts after the cutoff",
    "heldout_before": "recall of facts up to the cutoff in wordings that only other facts were trained in",
    "heldout_after": "the same of facts after the cutoff",
    "heldout_silent_after": "the same, wordings that do not state the year alone",
    "permuted_after": "recall after the cutoff if every probe is asked for another fact's answer: what guessing gives",
    "target_bits_per_byte": "bits a byte of the target",
    "target_greedy_prefix": "tokens of the target that greedy decoding writes",
    "target_tokens": "tokens of the target",
}
"""Figure of card.json → meaning. Recalls are shares of wordings whose answer is the greedy one in every token."""

PERMUTATIONS = 5


def card(folder: Path, data: StudyData, settings: Settings, target: Target) -> dict[str, float | int | None]:
    """The figures of one variant; a recall of no wordings is None."""
    source = build({**settings.plain["model"], "path": str(folder), "gold": None, "dtype": "float32"}, ModelSource)
    loaded = load(source)
    cutoff = settings.split.parsed_cutoff

    def side(found: Sequence[Statement], wanted: Era) -> list[Statement]:
        return [s for s in found if era(s.fact.date, cutoff) is wanted]

    def recall(found: Sequence[Statement], answers: Sequence[str] | None = None) -> float | None:
        return _recall(loaded, found, answers, settings)

    def guessed(found: Sequence[Statement]) -> float | None:
        dealt = [recall(found, permuted_answers(found, n)) for n in range(PERMUTATIONS)]
        return statistics.fmean(known) if (known := [share for share in dealt if share is not None]) else None

    after = side(data.wording.probes, Era.AFTER)
    found, _ = reproduce(loaded.model, loaded.tokenizer, target, prompt=target.prompt, chunk=settings.evaluation.chunk)
    return {
        "trained_before": recall(side(data.wording.trained, Era.BEFORE)),
        "trained_after": recall(side(data.wording.trained, Era.AFTER)),
        "heldout_before": recall(side(data.wording.probes, Era.BEFORE)),
        "heldout_after": recall(after),
        "heldout_silent_after": recall([s for s in after if not s.states_year]),
        "permuted_after": guessed(after),
        "target_bits_per_byte": found["bits_per_byte"],
        "target_greedy_prefix": found["greedy_prefix"],
        "target_tokens": found["n_tokens"],
    }


def permuted_answers(probes: Sequence[Statement], seed: int) -> list[str]:
    """Answers dealt anew among the probes of the same relation."""
    places: dict[str, list[int]] = {}
    for place, asked in enumerate(probes):
        places.setdefault(asked.fact.relation, []).append(place)
    answers = [""] * len(probes)
    for own in places.values():
        dealt = own.copy()
        random.Random(seed).shuffle(dealt)
        for place, other in zip(own, dealt, strict=True):
            answers[place] = probes[other].answer
    return answers


def _recall(
    loaded: LoadedModel, found: Sequence[Statement], answers: Sequence[str] | None, settings: Settings
) -> float | None:
    if not found:
        return None
    probes = [probe(statement, "retain") for statement in found]
    if answers is not None:
        probes = [replace(asked, answer=answer) for asked, answer in zip(probes, answers, strict=True)]
    evaluation = settings.evaluation
    scores = score_probes(
        loaded.model, loaded.tokenizer, probes, batch_size=evaluation.batch_size, chunk=evaluation.chunk
    )
    return round(sum(score.correct for score in scores) / len(scores), 4)


def write_card(to: Path) -> Path:
    """CARD.md: the figures of all variants in `to`, a column each."""
    variants = sorted(path.parent.name for path in to.glob("*/card.json"))
    cards = {name: json.loads((to / name / "card.json").read_text()) for name in variants}
    records = {name: json.loads((to / name / "pretrain.json").read_text()) for name in variants}
    lines = [
        "# Model card",
        "",
        "Written by `menard pretrain`; every figure was measured on the stored bf16 weights, scored in fp32.",
        "",
        f"| figure | {' | '.join(variants)} | meaning |",
        f"|---|{'---|' * len(variants)}---|",
    ]
    for key, meaning in FIGURES.items():
        lines.append(f"| {key} | {' | '.join(_shown(cards[name][key]) for name in variants)} | {meaning} |")
    for key, meaning in (("steps", "optimizer steps"), ("seconds", "training time"), ("threads", "CPU threads")):
        lines.append(f"| {key} | {' | '.join(_shown(records[name][key]) for name in variants)} | {meaning} |")
    path = to / "CARD.md"
    replace_file(path, ("\n".join(lines) + "\n").encode())
    return path


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
