"""How a model answered the four kinds of question.

`statement` compares answers by log-probability per UTF-8 byte. `cloze` is partial evaluation (Trinh & Le, arXiv
1806.02847): log P(rest of the sentence | beginning with this subject), so how likely a subject is by itself cancels.
`choice` compares the letters of lettered answers, `year` all years that the facts span.

Fails when: a model too small for lettered answers is at chance in `choice` from the start, which says nothing about
forgetting; a wording of `year` is nobody's, so that a small model does not follow it; one answer of four is easier than
an open one, so recalls of different kinds are not compared with each other, but each with chance and with the base's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.forms import Kind, Question
from menard_unlearn.evaluation.items import ItemScore, SplitName, read_rows
from menard_unlearn.evaluation.questions import KINDS, QuestionPlan
from menard_unlearn.models.scores import Scores
from menard_unlearn.statistics.intervals import wilson

TIE = 1e-9
"""Nats (a byte, in `statement`) within which candidates count as equal; then none is the answer."""

_SIDES = {"before": "of the years up to the cutoff's", "after": "of later years"}
_MEASURES = {
    "n": "number of questions",
    "chance": "share that guessing gets right",
    "accuracy": "share answered: the true candidate alone is likeliest",
    "low": "lower end of accuracy's 95% Wilson interval",
    "high": "upper end of accuracy's 95% Wilson interval",
    "probability": "mean share of the true candidate in the probability of all candidates",
}
_YEAR_MEASURES = {
    "error_years": "median of |likeliest year - true year|, years",
    "mass_after": "mean share of the years after the cutoff in the probability of all years",
}
KEYS = {
    **{
        f"{kind}_{key}_{side}": f"{kind} questions {of}: {meaning}"
        for kind in KINDS
        for side, of in _SIDES.items()
        for key, meaning in (_MEASURES | (_YEAR_MEASURES if kind == "year" else {})).items()
    },
    "left_out": "kinds that are not asked, and numbers of facts that could not be asked for in a kind",
}
"""Key of questions.json → meaning and unit; null where there are no such questions."""


@dataclass(frozen=True)
class QuestionScore(ItemScore):
    """How a model answered a question. `correct`: the true candidate alone is likeliest. `logprob` and `n_tokens` are
    the true candidate's: of the answer, in `cloze` of the rest of the sentence, in `choice` of the letter."""

    kind: Kind
    probability: float
    """Softmax of the candidates' nats at the true one."""
    n_candidates: int
    error_years: float | None
    """|likeliest year − true year|, the mean where years tie; None in other kinds."""
    mass_after: float | None
    """Share of the years after the cutoff in the probability of all years; None in other kinds."""


def measure_questions(plan: QuestionPlan, scores: Scores) -> list[QuestionScore]:
    """One score a question, in the plan's order."""
    return [_score(q, plan.side[q.fact.id], plan.cutoff_year, scores) for q in plan.questions]


def _score(question: Question, split: SplitName, cutoff_year: int, scores: Scores) -> QuestionScore:
    true = scores.of(question.items[question.true])
    logprob_C = np.array([scores.of(item).logprob for item in question.items])
    compared_C = logprob_C / np.array(question.n_bytes)
    best_C = compared_C >= compared_C.max() - TIE
    weight_C = np.exp(logprob_C - logprob_C.max())
    probability_C = weight_C / weight_C.sum()
    error_years, mass_after = None, None
    if question.kind == "year":
        year_C = np.array([int(year) for year in question.candidates])
        error_years = float(np.abs(year_C[best_C] - question.fact.year).mean())
        mass_after = float(probability_C[year_C > cutoff_year].sum())
    return QuestionScore(
        id=question.id,
        fact_id=question.fact.id,
        year=question.fact.year,
        category=question.fact.category,
        split=split,
        states_year=question.states_year,
        question=question.question,
        correct=bool(best_C[question.true]) and int(best_C.sum()) == 1,
        logprob=true.logprob,
        n_tokens=true.n_tokens,
        kind=question.kind,
        probability=float(probability_C[question.true]),
        n_candidates=len(question.items),
        error_years=error_years,
        mass_after=mass_after,
    )


def of_kind(scores: Sequence[QuestionScore], kind: Kind) -> list[QuestionScore]:
    """The scores of one kind; they are `ItemScore`s, and go wherever these go."""
    return [score for score in scores if score.kind == kind]


def summary(plan: QuestionPlan, scores: Sequence[QuestionScore]) -> dict:
    """What goes into questions.json: keys of `KEYS`. The cutoff's own year is before it."""
    result: dict = {}
    for kind in KINDS:
        own = of_kind(scores, kind)
        sides = {
            "before": [score for score in own if score.year <= plan.cutoff_year],
            "after": [score for score in own if score.year > plan.cutoff_year],
        }
        for side, found in sides.items():
            measured = _side(found) | (_years(found) if kind == "year" else {})
            result |= {f"{kind}_{key}_{side}": value for key, value in measured.items()}
    silent = [f"{kind}: evaluation.questions does not ask it" for kind in KINDS if not of_kind(scores, kind)]
    skipped = [f"{kind}: {n} facts could not be asked for" for kind, n in plan.skipped.items() if n]
    return result | {"left_out": [*silent, *skipped]}


def _side(scores: Sequence[QuestionScore]) -> dict:
    n, correct = len(scores), sum(score.correct for score in scores)
    low, high = wilson(correct, n) or (None, None)
    return {
        "n": n,
        "chance": _mean([1 / score.n_candidates for score in scores]),
        "accuracy": correct / n if n else None,
        "low": low,
        "high": high,
        "probability": _mean([score.probability for score in scores]),
    }


def _years(scores: Sequence[QuestionScore]) -> dict:
    errors = [score.error_years for score in scores if score.error_years is not None]
    return {
        "error_years": float(np.median(errors)) if errors else None,
        "mass_after": _mean([score.mass_after for score in scores if score.mass_after is not None]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def read_questions(path: Path) -> list[QuestionScore]:
    """Read back the questions that `write_items` wrote. Raises UserError for a missing or another kind of file."""
    if not path.is_file():
        raise UserError(f"no scored questions at {path}: evaluate that run again")
    return read_rows(path, QuestionScore, "scored questions")
