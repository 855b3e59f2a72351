"""Probes and their scores: the table that every cutoff metric is computed from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, TypeVar

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.encoding import encode_statement
from menard_unlearn.corpus.statements import Statement
from menard_unlearn.corpus.study import StudyData
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.tokens import pad_id
from menard_unlearn.files import replace
from menard_unlearn.models.scores import Scores, score

SplitName = Literal["forget", "retain", "heldout_forget", "heldout_retain"]
SPLITS: tuple[SplitName, ...] = ("forget", "retain", "heldout_forget", "heldout_retain")


@dataclass(frozen=True)
class Probe:
    """A question made from a fact, in a wording that the fact was never trained in."""

    id: str
    fact_id: str
    """Probes of one fact rise and fall together: statistics resample facts."""
    year: int
    category: str
    split: SplitName
    prompt: str
    answer: str
    """Starts with a space."""
    states_year: bool
    """Whether the year stands in prompt or answer."""
    question: bool
    """Whether it is worded as a question."""


@dataclass(frozen=True)
class ItemScore:
    """How a model answered a probe."""

    id: str
    fact_id: str
    year: int
    category: str
    split: SplitName
    states_year: bool
    question: bool
    correct: bool
    """Every answer token is the only argmax given the prompt and the answer before it."""
    logprob: float
    """Nats of the answer given the prompt."""
    n_tokens: int
    """Number of answer tokens."""


Row = TypeVar("Row", bound=ItemScore)


def sides(data: StudyData) -> dict[str, SplitName]:
    """Id of what is on either side → its side."""
    return {item.id: name for name in SPLITS for item in getattr(data.split, name)}


def probes_of(data: StudyData) -> list[Probe]:
    """The probes of every fact on either side."""
    side = sides(data)
    return [probe(piece, side[piece.fact.id]) for piece in data.wording.probes if piece.fact.id in side]


def probe(statement: Statement, split: SplitName) -> Probe:
    """A statement whose answer is asked for, of a fact on this side."""
    fact = statement.fact
    return Probe(
        id=statement.id,
        fact_id=fact.id,
        year=fact.year,
        category=fact.category,
        split=split,
        prompt=statement.prompt,
        answer=statement.answer,
        states_year=statement.states_year,
        question=statement.question,
    )


def score_probes(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, probes: Sequence[Probe], *, batch_size: int, chunk: int
) -> list[ItemScore]:
    """Score probes by teacher forcing, in their order."""
    items = probe_items(tokenizer, probes)
    return item_scores(
        probes, items, score(model, items, batch_size=batch_size, chunk=chunk, padding=pad_id(tokenizer))
    )


def probe_items(tokenizer: PreTrainedTokenizerBase, probes: Sequence[Probe]) -> list[TokenItem]:
    """What has to be scored of probes, in their order."""
    return [encode_statement(tokenizer, probe.prompt, probe.answer, probe.id) for probe in probes]


def item_scores(probes: Sequence[Probe], items: Sequence[TokenItem], scores: Scores) -> list[ItemScore]:
    """How probes were answered, in their order."""
    return [
        ItemScore(
            id=probe.id,
            fact_id=probe.fact_id,
            year=probe.year,
            category=probe.category,
            split=probe.split,
            states_year=probe.states_year,
            question=probe.question,
            correct=(found := scores.of(item)).correct,
            logprob=found.logprob,
            n_tokens=found.n_tokens,
        )
        for probe, item in zip(probes, items, strict=True)
    ]


def write_items(path: Path, items: Sequence[ItemScore]) -> None:
    """One JSON object a line; the file is whole or not there."""
    replace(path, "".join(json.dumps(asdict(item), allow_nan=False) + "\n" for item in items).encode())


def read_items(path: Path) -> list[ItemScore]:
    """Read back what `write_items` wrote. Raises UserError for a missing or another kind of file."""
    if not path.is_file():
        raise UserError(f"no scored items at {path}: evaluate that run first")
    return read_rows(path, ItemScore, f"scored items ({', '.join(sorted(field.name for field in fields(ItemScore)))})")


def read_rows(path: Path, kind: type[Row], what: str) -> list[Row]:
    """The rows of one kind of score. Raises UserError where a row has other fields."""
    names = {field.name for field in fields(kind)}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if any(set(row) != names for row in rows):
        raise UserError(f"{path} does not hold {what}: evaluate that run again")
    return [kind(**row) for row in rows]


def recalls(items: Sequence[ItemScore]) -> dict[str, float | None]:
    """Share of probes answered in each split, `<split>_recall`; None for a split without probes."""
    answers = {split: [item.correct for item in items if item.split == split] for split in SPLITS}
    return {f"{split}_recall": sum(a) / len(a) if a else None for split, a in answers.items()}


def paired(items: Sequence[ItemScore], reference: Sequence[ItemScore], name: str) -> list[ItemScore]:
    """The reference's scores of the same probes in the same order. Raises UserError where it lacks any."""
    by_id = {item.id: item for item in reference}
    missing = [item.id for item in items if item.id not in by_id]
    if missing:
        raise UserError(
            f"{name} has no score of {len(missing)} of {len(items)} probes (first {missing[0]!r}): "
            f"evaluate {name} on the same corpus and split"
        )
    return [by_id[item.id] for item in items]
