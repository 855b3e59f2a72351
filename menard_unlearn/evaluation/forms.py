"""How a fact is asked for: by an answer's likelihood, by its cause, by a letter, by its year.

statement   prompt → the true answer or a wrong one
cloze       true subject or a wrong one → the rest of the sentence
choice      lettered answers → a letter
year        a wording that ends in the year → any year
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.documents import Fact
from menard_unlearn.corpus.encoding import beginning, encode_statement
from menard_unlearn.corpus.statements import ANY_RELATION, Statement, Template, answer_of, render
from menard_unlearn.evaluation.distractors import counterpart, slots

Kind = Literal["statement", "cloze", "choice", "year"]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DATA = Path(__file__).parent / "data" / "questions.json"
ASKING = re.compile(r"\s*Answer:[^:]*$")


@dataclass(frozen=True, eq=False)
class Question:
    """One question: what may be answered, and which of it is true."""

    kind: Kind
    fact: Fact
    wording: str
    """Id of the wording."""
    states_year: bool
    """Whether the fact's year stands in the question or its true answer."""
    question: bool
    """Whether it is worded as a question."""
    items: tuple[TokenItem, ...]
    """One a candidate."""
    true: int
    """Place of the true candidate."""
    n_bytes: tuple[int, ...]
    """What a candidate's nats are divided by before they are compared: the bytes of an answer, or 1."""
    candidates: tuple[str, ...]
    """Ids of the facts that the candidates come from; in kind `year` the years themselves."""

    @property
    def id(self) -> str:
        """Unique within a plan."""
        return f"{self.fact.id}/{self.kind}/{self.wording}"


@cache
def wordings() -> dict[str, Any]:
    """What questions.json holds: the layout of a choice, and wordings by relation that end in the year."""
    return json.loads(DATA.read_text(encoding="utf-8"))


def statement_question(
    tokenizer: PreTrainedTokenizerBase, statement: Statement, template: Template, candidates: Sequence[Fact]
) -> Question:
    """Each candidate's answer after the prompt, compared by log-probability per UTF-8 byte."""
    answers = [answer_of(fact, template) for fact in candidates]
    return Question(
        kind="statement",
        fact=statement.fact,
        wording=statement.template,
        states_year=statement.states_year,
        question=statement.question,
        items=tuple(encode_statement(tokenizer, statement.prompt, answer, statement.id) for answer in answers),
        true=0,
        n_bytes=tuple(len(answer.encode()) for answer in answers),
        candidates=tuple(fact.id for fact in candidates),
    )


def causes(statement: Statement, template: Template, candidates: Sequence[Fact]) -> list[tuple[str, str]] | None:
    """The sentence cut after the slot that the prompt gives, (beginning, rest), with each candidate in that slot.

    None where the slot stands in the prompt twice or not at all, or nothing follows it but the candidate.
    """
    name = counterpart(template)
    if name is None or template.prompt.count(f"{{{name}}}") != 1:
        return None
    cut = template.prompt.index(f"{{{name}}}") + len(name) + 2
    head = Template(template.id, template.prompt[:cut], template.answer)
    if slots(head.prompt) & slots(template.answer):
        return None
    pairs = []
    for fact in candidates:
        # Only the cause is another one: the year and the answer are the asked fact's.
        one = replace(statement.fact, **{name: getattr(fact, name)})
        begun, whole = render(one, head), render(one, template)
        if begun is None or whole is None:
            return None
        pairs.append((begun.prompt, whole.text[len(begun.prompt) :]))
    return pairs


def cloze_question(
    tokenizer: PreTrainedTokenizerBase, statement: Statement, template: Template, candidates: Sequence[Fact]
) -> Question | None:
    """The same rest after each candidate; None where `causes` has none."""
    pairs = causes(statement, template, candidates)
    if pairs is None:
        return None
    return Question(
        kind="cloze",
        fact=statement.fact,
        wording=statement.template,
        states_year=statement.states_year,
        question=statement.question,
        items=tuple(encode_statement(tokenizer, begun, rest, statement.id) for begun, rest in pairs),
        true=0,
        n_bytes=(1,) * len(pairs),
        candidates=tuple(fact.id for fact in candidates),
    )


def choice_question(
    tokenizer: PreTrainedTokenizerBase, statement: Statement, template: Template, candidates: Sequence[Fact], place: int
) -> Question:
    """Lettered answers after the prompt, the true one, which comes first in `candidates`, put at `place`.

    A letter that is one token of the tokenizer costs nothing beyond the first: the prompt is one row.
    """
    layout = wordings()["choice"]
    placed = [*candidates[1 : place + 1], candidates[0], *candidates[place + 1 :]]
    stem = ASKING.sub("", statement.prompt) if statement.question else statement.prompt + layout["ending"]
    options = [
        layout["option"].format(letter=letter, answer=answer_of(fact, template).strip(" ."))
        for letter, fact in zip(LETTERS, placed, strict=False)
    ]
    prompt = "\n".join([stem, *options, layout["ask"]])
    letters = LETTERS[: len(placed)]
    return Question(
        kind="choice",
        fact=statement.fact,
        wording=statement.template,
        states_year=str(statement.fact.year) in prompt,
        question=statement.question,
        items=tuple(encode_statement(tokenizer, prompt, f" {letter}", statement.id) for letter in letters),
        true=place,
        n_bytes=(1,) * len(placed),
        candidates=tuple(fact.id for fact in placed),
    )


def year_prompt(fact: Fact, held: Sequence[Statement]) -> tuple[str, str] | None:
    """(id of the wording, prompt) that the year answers: a held-out wording where one asks for the year, else the
    relation's in questions.json. None where the prompt states the year."""
    own = [(s.template, s.prompt) for s in held if s.answer.strip(" .") == str(fact.year)]
    by_relation = wordings()["year"]
    wording = by_relation.get(fact.relation, by_relation[ANY_RELATION])
    found = render(fact, Template("year", wording, "{year}"))
    candidates = [*own, *([] if found is None else [("year", found.prompt)])]
    return next(((id, prompt) for id, prompt in candidates if str(fact.year) not in prompt), None)


def year_question(
    tokenizer: PreTrainedTokenizerBase, fact: Fact, wording: str, prompt: str, years: Sequence[int]
) -> Question:
    """Every year after one prompt, without a full stop: years of one token share a row."""
    return Question(
        kind="year",
        fact=fact,
        wording=wording,
        states_year=True,
        question=False,
        items=_year_items(tokenizer, fact.id, prompt, years),
        true=years.index(fact.year),
        n_bytes=(1,) * len(years),
        candidates=tuple(map(str, years)),
    )


def _year_items(
    tokenizer: PreTrainedTokenizerBase, id: str, prompt: str, years: Sequence[int]
) -> tuple[TokenItem, ...]:
    """`encode_statement` of each year. Where the first and the last year show that a year's tokens are the same after
    the prompt as alone, the prompt is encoded once for all."""
    lead = (*beginning(tokenizer), *tokenizer.encode(prompt, add_special_tokens=False))
    alone = _tokens_of_years(tokenizer, tuple(years))
    joined = [TokenItem(id, (*lead, *tokens), len(lead)) for tokens in alone] if lead else []
    ends = [encode_statement(tokenizer, prompt, f" {years[place]}", id) for place in (0, -1)]
    if joined and [joined[0], joined[-1]] == ends and len({len(str(year)) for year in years}) == 1:
        return tuple(joined)
    return tuple(encode_statement(tokenizer, prompt, f" {year}", id) for year in years)


@cache
def _tokens_of_years(tokenizer: PreTrainedTokenizerBase, years: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(tokenizer.encode(f" {year}", add_special_tokens=False)) for year in years)
