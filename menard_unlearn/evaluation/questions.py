"""Four kinds of probe made of the same facts, each in a wording that the fact was never trained in: the plan.

The forms are in `evaluation.forms`, wrong answers come from `evaluation.distractors`, scores are in
`evaluation.question_scores`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

from transformers import PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.documents import Fact
from menard_unlearn.corpus.split import hash_of
from menard_unlearn.corpus.statements import Statement, StatementSet, Templates
from menard_unlearn.evaluation.distractors import Distractors, Table, chosen, counterpart, is_before
from menard_unlearn.evaluation.forms import (
    LETTERS,
    Kind,
    Question,
    choice_question,
    cloze_question,
    statement_question,
    year_prompt,
    year_question,
)
from menard_unlearn.evaluation.items import SplitName

KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class QuestionsConfig:
    """Which questions are asked."""

    kinds: tuple[Kind, ...]
    """Of statement, cloze, choice and year; an empty list asks nothing."""
    per_year: int
    """Facts a year, one of each category before a second of any; 0 asks nothing."""
    distractors: int
    """Wrong answers beside the true one."""
    window: int
    """Years of an era that wrong answers are drawn from; more where facts are too few."""
    seed: int
    """Together with a fact's id it says which facts are asked for, and which wrong answers they get."""

    def __post_init__(self) -> None:
        if not 1 <= self.distractors < len(LETTERS):
            raise ValueError(f"distractors={self.distractors} must lie between 1 and {len(LETTERS) - 1}, as 3")
        if self.per_year < 0:
            raise ValueError(f"per_year={self.per_year} must be 0 (none) or a number of facts, as 5")
        if self.window < 1:
            raise ValueError(f"window={self.window} must be 1 year or more, as 5")
        if len(set(self.kinds)) != len(self.kinds):
            raise ValueError(f"kinds [{', '.join(self.kinds)}] has one twice: name each once")


@dataclass(frozen=True, eq=False)
class QuestionPlan:
    """All questions of an evaluation."""

    questions: tuple[Question, ...]
    side: Mapping[str, SplitName]
    """Id of a fact → its side."""
    skipped: Mapping[Kind, int]
    """Kind that is asked → number of chosen facts that could not be asked for in it."""
    cutoff_year: int

    @cached_property
    def items(self) -> list[TokenItem]:
        """What has to be scored."""
        return [item for question in self.questions for item in question.items]


def plan_questions(
    tokenizer: PreTrainedTokenizerBase,
    facts: Sequence[Fact],
    wording: StatementSet,
    templates: Templates,
    side: Mapping[str, SplitName],
    config: QuestionsConfig,
    cutoff_year: int,
) -> QuestionPlan:
    """Choose facts and write their questions; facts without a side are neither asked for nor wrong answers.

    A fact is left out of a kind where its side does not hold enough wrong answers, where none of its held-out wordings
    goes on after its subject, or where the prompt would state the year that is asked for.
    """
    sided = [fact for fact in facts if fact.id in side]
    held: dict[str, list[Statement]] = {}
    for statement in sorted(wording.probes, key=lambda statement: statement.states_year):
        held.setdefault(statement.fact.id, []).append(statement)
    names = chosen([(f.id, f.year, f.category) for f in sided if f.id in held], config.per_year, config.seed)
    asked = sorted((fact for fact in sided if fact.id in names), key=lambda fact: fact.id)
    years = [fact.year for fact in sided]
    writer = _Writer(
        tokenizer=tokenizer,
        templates=templates,
        distractors=Distractors(tuple(sided), side, config.distractors, config.window, config.seed),
        tables={},
        places=_places(asked, side, config),
        years=tuple(range(min(years), max(years) + 1)) if years else (),
    )
    written: dict[Kind, list[Question | None]] = {
        kind: [writer.write(kind, fact, held[fact.id]) for fact in asked] for kind in config.kinds
    }
    questions = tuple(question for own in written.values() for question in own if question is not None)
    skipped: dict[Kind, int] = {kind: sum(question is None for question in own) for kind, own in written.items()}
    return QuestionPlan(questions, side, skipped, cutoff_year)


def _places(facts: Sequence[Fact], side: Mapping[str, SplitName], config: QuestionsConfig) -> dict[str, int]:
    """Where the true answer stands among the lettered ones: on either side of the cutoff every place as often."""
    places: dict[str, int] = {}
    for before in (True, False):
        own = [fact.id for fact in facts if is_before(side[fact.id]) == before]
        ranked = sorted(own, key=lambda id: hash_of(f"place {config.seed}", id))
        places |= {id: rank % (config.distractors + 1) for rank, id in enumerate(ranked)}
    return places


@dataclass(frozen=True, eq=False)
class _Writer:
    """What it takes to write a question."""

    tokenizer: PreTrainedTokenizerBase
    templates: Templates
    distractors: Distractors
    tables: dict[tuple[str, str, str | None], Table]
    """(relation, what is asked for, what is given) → what is true; filled as wordings come."""
    places: Mapping[str, int]
    """Id of a fact → place of the true answer among lettered ones."""
    years: Sequence[int]
    """What may be answered to `year`."""

    def write(self, kind: Kind, fact: Fact, held: Sequence[Statement]) -> Question | None:
        """The question, or None where the fact cannot be asked for in this kind. `held` has silent wordings first."""
        if kind == "year":
            found = year_prompt(fact, held)
            return None if found is None else year_question(self.tokenizer, fact, *found, self.years)
        for statement in sorted(held, key=lambda s: (s.states_year, not s.question)) if kind == "choice" else held:
            template = self.templates.of(statement)
            candidates = self._candidates(statement)
            if candidates is None:
                continue
            if kind == "statement":
                return statement_question(self.tokenizer, statement, template, candidates)
            if kind == "choice":
                return choice_question(self.tokenizer, statement, template, candidates, self.places[fact.id])
            question = cloze_question(self.tokenizer, statement, template, candidates)
            if question is not None:
                return question
        return None

    def _candidates(self, statement: Statement) -> tuple[Fact, ...] | None:
        """The fact itself, then those whose answers are wrong."""
        relation, template = statement.fact.relation, self.templates.of(statement)
        key = (relation, template.answer, counterpart(template))
        if key not in self.tables:
            self.tables[key] = self.distractors.table(template, relation)
        wrong = self.distractors.of(statement.fact, statement.prompt, self.tables[key])
        return None if wrong is None else (statement.fact, *wrong)
