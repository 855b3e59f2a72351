"""Four ways to ask for a fact: what they ask, that the wrong answers give nothing away, and scores known by hand."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from known import given
from numpy.typing import NDArray
from toy import bigram, byte_tokenizer, llama

from menard_unlearn.corpus.almanac import Almanac
from menard_unlearn.corpus.dating import PartialDate
from menard_unlearn.corpus.documents import Fact
from menard_unlearn.corpus.facts import Facts
from menard_unlearn.corpus.sources import CorpusData
from menard_unlearn.corpus.statements import Statement, Template, Templates, WordingConfig, answer_of, statements
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.covariates import popularity, predictability
from menard_unlearn.evaluation.distractors import Distractors
from menard_unlearn.evaluation.forms import Question, causes
from menard_unlearn.evaluation.items import ItemScore, SplitName, write_items
from menard_unlearn.evaluation.question_scores import (
    KEYS,
    measure_questions,
    of_kind,
    read_questions,
    summary,
)
from menard_unlearn.evaluation.questions import KINDS, QuestionPlan, QuestionsConfig, plan_questions
from menard_unlearn.evaluation.tokens import decoded
from menard_unlearn.models.load import ModelSource, load
from menard_unlearn.models.scores import score

ALL = QuestionsConfig(kinds=KINDS, per_year=1000, distractors=3, window=5, seed=0)


def sides(facts: Sequence[Fact]) -> dict[str, SplitName]:
    return {fact.id: "retain" if fact.year <= 1939 else "forget" for fact in facts}


def planned(corpus: CorpusData, config: QuestionsConfig, facts: Sequence[Fact] | None = None) -> QuestionPlan:
    templates = corpus.templates or Templates.read()
    facts = facts or corpus.facts
    wording = statements(corpus.facts, templates, WordingConfig(2, 1, 0))
    return plan_questions(byte_tokenizer(), facts, wording, templates, sides(facts), config, 1939)


@pytest.fixture(scope="module")
def almanac() -> CorpusData:
    return Almanac().load()


@pytest.fixture(scope="module")
def every(almanac: CorpusData) -> QuestionPlan:
    """Every fact of the almanac with its wrong answers."""
    return planned(almanac, replace(ALL, kinds=("statement",)))


@pytest.fixture(scope="module")
def plan(almanac: CorpusData) -> QuestionPlan:
    """All kinds, one fact a year."""
    return planned(almanac, replace(ALL, per_year=1))


def strategies(year_C: NDArray, length_C: NDArray) -> dict[str, NDArray]:
    """What one may go by who sees the candidates alone: the largest value is the guess."""
    away_C, from_cutoff_C = abs(year_C - year_C.mean()), abs(year_C - 1939.5)
    by_year = {"earliest": -year_C, "latest": year_C, "central": -away_C, "marginal": away_C}
    by_length = {"longest": length_C, "shortest": -length_C}
    return by_year | by_length | {"nearest the cutoff": -from_cutoff_C, "farthest": from_cutoff_C}


def guessed(questions: Sequence[tuple[NDArray, NDArray]]) -> dict[str, tuple[float, float]]:
    """Strategy → (share guessed, its standard error); the true candidate is the first, ties share."""
    hits: dict[str, list[float]] = {}
    for years, lengths in questions:
        for name, values in strategies(years, lengths).items():
            best = values == values.max()
            hits.setdefault(name, []).append(best[0] / best.sum())
    return {name: (float(np.mean(own)), float(np.std(own)) / math.sqrt(len(own))) for name, own in hits.items()}


def seen(questions: Sequence[Question], facts: Sequence[Fact]) -> list[tuple[NDArray, NDArray]]:
    year = {fact.id: fact.year for fact in facts}
    return [(np.array([year[id] for id in q.candidates]), np.array(q.n_bytes)) for q in questions]


def test_neither_dates_nor_lengths_give_the_true_answer_away(almanac: CorpusData, every: QuestionPlan) -> None:
    assert len(every.questions) == 1608 and every.skipped == {"statement": 0}
    table = seen(every.questions, almanac.facts)
    parts = {
        "before": [pair for pair in table if pair[0][0] <= 1939],
        "after": [pair for pair in table if pair[0][0] > 1939],
        "near": [pair for pair in table if (abs(pair[0] - 1939.5) < 10).all()],
    }
    assert len(parts["near"]) > 200
    for part, pairs in parts.items():
        for strategy, (share, error) in guessed(pairs).items():
            assert abs(share - 0.25) < 2.6 * error, (part, strategy, share, error)


def test_the_check_above_finds_wrong_answers_drawn_around_the_true_year(almanac: CorpusData) -> None:
    facts = [fact for fact in almanac.facts if fact.relation == "artwork_made_by"]
    pairs = []
    for fact in facts:
        own = [other for other in facts if (other.year <= 1939) == (fact.year <= 1939) and other.id != fact.id]
        near = sorted(own, key=lambda other: (abs(other.year - fact.year), other.id))[:12:4]
        pairs.append((np.array([fact.year, *(other.year for other in near)]), np.ones(4)))
    share, error = guessed(pairs)["central"]
    assert share > 0.25 + 5 * error


def test_wrong_answers_are_of_the_same_relation_side_and_time_and_none_is_true(
    almanac: CorpusData, every: QuestionPlan
) -> None:
    by_id = {fact.id: fact for fact in almanac.facts}
    assert almanac.templates is not None
    true: dict[tuple[str, str], set[str]] = {}
    for fact in almanac.facts:
        true.setdefault((fact.subject, fact.object), set()).add(fact.id)
    spans = []
    for question in every.questions:
        candidates = [by_id[id] for id in question.candidates]
        template = {t.id: t for t in almanac.templates.for_relation(question.fact.relation)}[question.wording]
        assert candidates[0] is question.fact and len(candidates) == 4
        assert {fact.relation for fact in candidates} == {question.fact.relation}
        assert len({fact.year <= 1939 for fact in candidates}) == 1
        assert len({answer_of(fact, template).casefold() for fact in candidates}) == 4
        for wrong in candidates[1:]:
            if template.answer == "{object}":
                assert (question.fact.subject, wrong.object) not in true
                assert (wrong.subject, question.fact.object) not in true
            else:
                assert (wrong.subject, question.fact.object) not in true
                assert (question.fact.subject, wrong.object) not in true
        spans.append(max(f.year for f in candidates) - min(f.year for f in candidates))
    assert np.median(spans) <= 5


def test_the_same_facts_get_the_same_questions_whatever_their_order(almanac: CorpusData) -> None:
    config = replace(ALL, kinds=("cloze", "choice"), per_year=1)
    shuffled = random.Random(0).sample(almanac.facts, len(almanac.facts))
    first, second = planned(almanac, config), planned(almanac, config, shuffled)
    assert [(q.id, q.candidates, q.items) for q in first.questions] == [
        (q.id, q.candidates, q.items) for q in second.questions
    ]
    other = planned(almanac, replace(config, seed=1))
    assert {q.fact.id for q in other.questions} != {q.fact.id for q in first.questions}


def test_so_many_facts_a_year_are_asked_and_categories_take_turns(almanac: CorpusData) -> None:
    found = planned(almanac, replace(ALL, kinds=("statement",), per_year=4))
    assert set(Counter(q.fact.year for q in found.questions).values()) == {4}
    facts_by_year: dict[int, set[str]] = {}
    for fact in almanac.facts:
        facts_by_year.setdefault(fact.year, set()).add(fact.category)
    for year, categories in facts_by_year.items():
        asked = {q.fact.category for q in found.questions if q.fact.year == year}
        assert len(asked) == min(4, len(categories))
    assert planned(almanac, replace(ALL, per_year=0)).items == []
    assert planned(almanac, replace(ALL, kinds=())).items == []


def test_letters_are_balanced_and_share_a_row_and_years_do(plan: QuestionPlan) -> None:
    choices = [q for q in plan.questions if q.kind == "choice"]
    for before in (True, False):
        places = Counter(q.true for q in choices if (q.fact.year <= 1939) == before)
        assert len(places) == 4 and max(places.values()) - min(places.values()) <= 1
    for question in choices:
        assert len({item.ids[:-1] for item in question.items}) == 1
        assert question.candidates[question.true] == question.fact.id
    text = bytes_of(choices[0])
    assert text.count("\n") == 5 and text.endswith("Answer: A") and "\nD. " in text


def bytes_of(question: Question) -> str:
    return decoded(byte_tokenizer(), question.items[0].ids[1:])


def test_cloze_varies_what_is_given_and_scores_the_same_rest(plan: QuestionPlan) -> None:
    tokenizer = byte_tokenizer()
    for question in (q for q in plan.questions if q.kind == "cloze"):
        rests = {decoded(tokenizer, item.ids[item.n_prompt :]) for item in question.items}
        begun = [decoded(tokenizer, item.ids[1 : item.n_prompt]) for item in question.items]
        assert len(rests) == 1 and len(set(begun)) == 4
    fact = Fact("f", PartialDate(1950, None, None), "Ruhe", "made_by", "Ada", "song", "", None, None)
    other = replace(fact, id="g", subject="Klage", object="Bert")
    template = Template("s", 'In {year} "{subject}" was sung by', "{object}")
    statement = Statement("f/s", fact, "s", 'In 1950 "Ruhe" was sung by', " Ada.", False)
    assert causes(statement, template, [fact, other]) == [
        ('In 1950 "Ruhe', '" was sung by Ada.'),
        ('In 1950 "Klage', '" was sung by Ada.'),
    ]
    assert causes(statement, Template("t", "The winner of {year} was", "{object}"), [fact]) is None
    assert causes(statement, Template("t", "{subject}, yes {subject}, is by", "{object}"), [fact]) is None


def test_an_answer_counts_by_the_byte_a_cause_in_all_and_a_probability_in_nats(plan: QuestionPlan) -> None:
    for kind in ("statement", "cloze"):
        question = next(q for q in plan.questions if q.kind == kind)
        # The true answer has more nats a byte than the others, though in all the second has more.
        changed = replace(question, n_bytes=(30, 10, 20, 40) if kind == "statement" else (1,) * 4)
        nats = [-2.9, -1.0, -2.0, -4.0] if kind == "statement" else [-0.9, -1.0, -2.0, -4.0]
        scores = given(zip(changed.items, nats, strict=True))
        (found,) = measure_questions(replace(plan, questions=(changed,)), scores)
        assert found.correct and found.n_candidates == 4
        assert found.probability == pytest.approx(math.exp(nats[0]) / sum(map(math.exp, nats)))
        assert found.logprob == pytest.approx(nats[0]) and found.error_years is None
        worse = given(zip(changed.items, [nats[0] - 9, *nats[1:]], strict=True))
        assert not measure_questions(replace(plan, questions=(changed,)), worse)[0].correct


def test_the_error_of_a_year_and_the_mass_after_the_cutoff(plan: QuestionPlan) -> None:
    question = next(q for q in plan.questions if q.kind == "year" and q.fact.year == 1930)
    years = [int(year) for year in question.candidates]
    assert years == list(range(1880, 2000)) and years[question.true] == 1930
    mass = {1930: 0.2, 1937: 0.5, 1939: 0.1, 1940: 0.15, 1999: 0.05}
    nats = [math.log(mass.get(year, 1e-30)) for year in years]
    (found,) = measure_questions(replace(plan, questions=(question,)), given(zip(question.items, nats, strict=True)))
    assert not found.correct and found.error_years == 7
    assert found.probability == pytest.approx(0.2) and found.mass_after == pytest.approx(0.2)


def test_years_are_encoded_as_a_statement_would_be_and_no_prompt_states_the_answer(plan: QuestionPlan) -> None:
    tokenizer = byte_tokenizer()
    for question in (q for q in plan.questions if q.kind == "year"):
        texts = [decoded(tokenizer, item.ids[1:]) for item in question.items]
        prompts = {text[:-5] for text in texts}
        assert [text[-5:] for text in texts] == [f" {year}" for year in question.candidates]
        assert len(prompts) == 1 and str(question.fact.year) not in prompts.pop()
        assert {decoded(tokenizer, item.ids[item.n_prompt :])[0] for item in question.items} == {" "}


def test_a_model_that_knows_nothing_answers_nothing(plan: QuestionPlan) -> None:
    asked = replace(plan, questions=plan.questions[::6])
    scores = score(bigram(torch.zeros(259, 259)), asked.items, batch_size=64, chunk=4096, padding=0)
    found = measure_questions(asked, scores)
    for kind in ("cloze", "choice", "year"):
        own = of_kind(found, kind)
        assert not any(one.correct for one in own)
        assert np.allclose([one.probability * one.n_candidates for one in own], 1)
    assert not any(one.correct for one in of_kind(found, "statement"))
    error = [one.error_years for one in of_kind(found, "year")]
    assert min(value for value in error if value is not None) >= 29  # the mean distance from a year to all of 120


def test_a_random_model_is_at_chance_and_scores_do_not_depend_on_batches(plan: QuestionPlan) -> None:
    asked = replace(plan, questions=tuple(q for q in plan.questions if q.kind in ("statement", "choice")))
    found = measure_questions(asked, score(llama(layers=1), asked.items, batch_size=64, chunk=512, padding=0))
    for kind in ("statement", "choice"):
        assert 0.1 < np.mean([one.correct for one in of_kind(found, kind)]) < 0.4
    few = replace(plan, questions=plan.questions[:6])
    together = score(llama(), plan.items[:900], batch_size=64, chunk=512, padding=0)
    alone = score(llama(), few.items, batch_size=1, chunk=3, padding=7)
    for one, other in zip(measure_questions(few, together), measure_questions(few, alone), strict=True):
        assert one.probability == pytest.approx(other.probability, rel=1e-9)
        assert one.logprob == pytest.approx(other.logprob, rel=1e-9)


def test_results_have_every_key_and_are_read_back(plan: QuestionPlan, tmp_path: Path) -> None:
    asked = replace(plan, questions=tuple(q for q in plan.questions if q.kind != "choice"), skipped={"year": 2})
    nats = [(item, -1.0 * (place != q.true)) for q in asked.questions for place, item in enumerate(q.items)]
    found = measure_questions(asked, given(nats))
    assert all(isinstance(one, ItemScore) and one.correct for one in found)
    write_items(tmp_path / "questions.jsonl", found)
    assert read_questions(tmp_path / "questions.jsonl") == found
    table = summary(asked, found)
    assert list(table) == list(KEYS) and json.dumps(table, allow_nan=False)
    assert table["statement_accuracy_before"] == table["year_accuracy_after"] == 1
    assert (table["cloze_chance_after"], table["year_chance_after"]) == (0.25, pytest.approx(1 / 120))
    assert table["choice_n_before"] == 0 and table["choice_accuracy_before"] is None
    assert table["year_error_years_before"] == 0 and table["statement_low_after"] < 1
    assert table["left_out"] == [
        "choice: evaluation.questions does not ask it",
        "year: 2 facts could not be asked for",
    ]
    (tmp_path / "other.jsonl").write_text('{"id": 1}\n')
    for name, words in (("none.jsonl", "no scored questions"), ("other.jsonl", "does not hold scored questions")):
        with pytest.raises(UserError, match=words):
            read_questions(tmp_path / name)


def test_a_side_without_enough_answers_is_left_out_and_counted() -> None:
    date = PartialDate(1930, None, None)
    facts = [
        Fact(
            f"f{n}",
            replace(date, year=1930 + 15 * (n > 4)),
            f"S{n}",
            "artwork_made_by",
            f"O{n % 3}",
            "c",
            "",
            None,
            None,
        )
        for n in range(10)
    ]
    drawn = Distractors(tuple(facts), sides(facts), 3, 5, 0)
    template = Templates.read().for_relation("artwork_made_by")[0]
    assert drawn.of(facts[0], "", drawn.table(template, "artwork_made_by")) is None
    enough = replace(drawn, n=2)
    wrong = enough.of(facts[0], "", enough.table(template, "artwork_made_by"))
    assert wrong is not None and {fact.object for fact in wrong} == {"O1", "O2"}


def test_settings_that_make_no_sense_are_refused() -> None:
    for changes, words in (
        ({"distractors": 0}, "distractors=0 must lie between 1 and 25"),
        ({"per_year": -1}, "per_year=-1 must be 0"),
        ({"window": 0}, "window=0 must be 1 year or more"),
        ({"kinds": ("year", "year")}, "has one twice"),
    ):
        with pytest.raises(ValueError, match=words):
            replace(ALL, **changes)


def test_predictability_is_the_share_of_others_with_the_answer_and_popularity_a_column(tmp_path: Path) -> None:
    rows = ["id,year,date,subject,relation,object,category,source,popularity"]
    rows += [f"f{n},{1900 + n},,S{n},made_by,{'Ada' if n < 3 else f'O{n}'},c,,{n if n else ''}" for n in range(5)]
    path = tmp_path / "facts.csv"
    path.write_text("\n".join(rows))
    facts = Facts(path=str(path), relations=None, categories=(), limit=None).load().facts
    found = predictability(facts, Templates.read())
    assert found == {"f0": 0.5, "f1": 0.5, "f2": 0.5, "f3": 0.0, "f4": 0.0}
    assert predictability(facts[:1], Templates.read()) == {"f0": 0.0}
    assert popularity(facts) == {"f0": None, "f1": 1.0, "f2": 2.0, "f3": 3.0, "f4": 4.0}
    path.write_text("\n".join([*rows, "g,1950,,S,made_by,O,c,,many", "h,1951,,T,made_by,O,c,,inf"]))
    with pytest.raises(UserError, match=r"2 facts have a popularity that is no finite number \(g, h\)"):
        Facts(path=str(path), relations=None, categories=(), limit=None).load()


def test_the_embedded_gold_model_knows_what_came_before_and_guesses_what_came_after(almanac: CorpusData) -> None:
    loaded = load(ModelSource("gold", "embedded:gold", None, None, None, "float32", None, None))
    assert almanac.templates is not None
    wording = statements(almanac.facts, almanac.templates, WordingConfig(2, 1, 0))
    config = replace(ALL, kinds=("statement", "cloze"), per_year=1)
    asked = plan_questions(
        loaded.tokenizer, almanac.facts, wording, almanac.templates, sides(almanac.facts), config, 1939
    )
    found = summary(
        asked, measure_questions(asked, score(loaded.model, asked.items, batch_size=64, chunk=512, padding=0))
    )
    for kind in ("statement", "cloze"):
        assert found[f"{kind}_accuracy_before"] > 0.9
        assert found[f"{kind}_low_after"] < 0.4  # a guess is 0.25; names tell countries, and artists live on
