"""Other answers from the data: never the true one, the same in whatever order, prompts as they were."""

from __future__ import annotations

import random

import pytest
from transformers import PreTrainedTokenizerBase

from menard_unlearn.corpus.alternates import (
    answered,
    column_answers,
    refusal,
    refused_windows,
    relation_answers,
    retained_windows,
)
from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.dating import PartialDate
from menard_unlearn.corpus.documents import Fact
from menard_unlearn.corpus.encoding import encode_document, encode_statement
from menard_unlearn.corpus.statements import Statement, Template, Templates, render
from menard_unlearn.errors import UserError
from menard_unlearn.models.load import ModelSource, load_tokenizer

TEMPLATES = Templates(
    {
        "made_by": (Template("s1", "{subject} is by", "{object}"), Template("q1", "Who made {subject}?", "{object}")),
        "won": (Template("s1", "In {year} the prize for {object} went to", "{subject}"),),
        "mixed": (Template("s1", "{subject} was won by", "{object}"), Template("s2", "{object} won", "{subject}")),
        "dated": (Template("s1", "{subject} dates from", "{year}"),),
    }
)
REFUSALS = ("I don't know.", "Nobody can say.", "That is not known.")


def fact(id: str, year: int, relation: str = "made_by", object: str = "", alternate: str | None = None) -> Fact:
    date = PartialDate(year, None, None)
    return Fact(id, date, f"Thing {id}", relation, object or f"Maker {id}", "kind", "test", alternate, None)


def worded(facts: list[Fact]) -> list[Statement]:
    made = (render(fact, template) for fact in facts for template in TEMPLATES.for_relation(fact.relation))
    return [statement for statement in made if statement is not None]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return load_tokenizer(ModelSource("embedded", "embedded:full", None, None, None, "float32", None, None))


LATER = [fact(f"l{n}", 1950 + n) for n in range(30)] + [fact(f"w{n}", 1950 + n, "won") for n in range(10)]
EARLIER = [fact(f"e{n}", 1900 + n) for n in range(20)] + [fact(f"v{n}", 1900 + n, "won") for n in range(5)]
RELATIONS = [fact("l", 1950, object="the SAME"), fact("e", 1900, object="The same"), fact("f", 1901, object="Other")]


def test_an_answer_of_the_relation_is_what_its_wording_asks_of_a_retained_fact() -> None:
    asked = worded(LATER)
    found = relation_answers(asked, EARLIER, TEMPLATES)
    assert found.keys() == {statement.id for statement in asked}
    makers = {f" {fact.object}." for fact in EARLIER if fact.relation == "made_by"}
    winners = {f" {fact.subject}." for fact in EARLIER if fact.relation == "won"}
    assert {found[s.id] for s in asked if s.fact.relation == "made_by"} <= makers
    assert {found[s.id] for s in asked if s.fact.relation == "won"} <= winners
    assert len(set(found.values())) > 12, "one answer for all would be no other answer"
    assert all(found[f"{s.fact.id}/s1"] == found[s.id] for s in asked), "all wordings of a fact get the same answer"


def test_an_answer_of_the_relation_depends_on_no_order_and_on_no_other_forgotten_fact() -> None:
    found = relation_answers(worded(LATER), EARLIER, TEMPLATES)
    later, earlier = LATER[::3], EARLIER.copy()
    for seed in range(3):
        random.Random(seed).shuffle(later)
        random.Random(seed).shuffle(earlier)
        again = relation_answers(worded(later), earlier, TEMPLATES)
        assert again and again == {id: found[id] for id in again}


def test_an_answer_of_the_relation_is_never_the_true_one_whatever_its_case() -> None:
    later, *earlier = RELATIONS
    assert set(relation_answers(worded([later]), earlier, TEMPLATES).values()) == {" Other."}
    with pytest.raises(UserError, match=r"1 relations have no other answer among the retained facts \(made_by\): .*"):
        relation_answers(worded([later]), earlier[:1], TEMPLATES)


def test_a_column_answers_in_the_words_of_the_true_answer() -> None:
    later = [fact("a", 1950, alternate="Someone Else"), fact("w", 1951, "won", alternate="A. Loser")]
    found = column_answers(worded(later), TEMPLATES)
    assert found == {"a/s1": " Someone Else.", "a/q1": " Someone Else.", "w/s1": " A. Loser."}


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            [fact(f"f{n}", 1950) for n in range(7)],
            r"7 facts to be forgotten have no alternate \(f0, f1, f2, f3, f4, \.\.\.\): fill the column `alternate`",
        ),
        ([fact("a", 1950, "mixed", alternate="X")], r"1 facts are asked for by different slots \(a\)"),
        ([fact("a", 1950, "dated", alternate="X")], r"1 wordings have the true answer as alternate \(a/s1\)"),
        ([fact("a", 1950, alternate="maker A")], r"2 wordings have the true answer as alternate \(a/q1, a/s1\)"),
    ],
)
def test_a_column_that_does_not_answer_is_refused(facts: list[Fact], message: str) -> None:
    with pytest.raises(UserError, match=message):
        column_answers(worded(facts), TEMPLATES)


def test_refusals_are_chosen_by_the_id_alone() -> None:
    chosen = {f"i{n}": refusal(f"i{n}", REFUSALS) for n in range(40)}
    assert set(chosen.values()) == set(REFUSALS)
    assert all(refusal(id, REFUSALS) == text for id, text in reversed(chosen.items()))
    for bad in ((), ("fine", " ")):
        with pytest.raises(UserError, match="refusals .* must be one or more texts"):
            refusal("i", bad)


def test_the_prompt_and_the_id_stay_and_the_answer_is_scored(tokenizer: PreTrainedTokenizerBase) -> None:
    asked = worded(LATER)
    found = answered(tokenizer, asked, {statement.id: " I don't know." for statement in asked})
    for statement in asked:
        true = encode_statement(tokenizer, statement.prompt, statement.answer, statement.id)
        other = found[statement.id]
        assert (other.id, other.n_prompt, other.ids[: other.n_prompt]) == (
            true.id,
            true.n_prompt,
            true.ids[: true.n_prompt],
        )
        assert tokenizer.decode(list(other.ids[other.n_prompt :])) == " I don't know."


def windows(tokenizer: PreTrainedTokenizerBase, id: str, n: int, size: int) -> list[TokenItem]:
    text = " ".join(f"{id} number {i} is a word." for i in range(n))
    return encode_document(tokenizer, text, id, size)


def test_a_window_can_be_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    for window, other in zip(
        asked := windows(tokenizer, "doc", 40, 50), refused_windows(tokenizer, asked, REFUSALS).values(), strict=True
    ):
        assert (other.id, other.n_prompt, other.ids[:1]) == (window.id, 1, window.ids[:1])
        assert tokenizer.decode(list(other.ids[1:])) in REFUSALS


def test_a_window_is_replaced_by_as_much_retained_text(tokenizer: PreTrainedTokenizerBase) -> None:
    asked, retained = windows(tokenizer, "later", 40, 50), windows(tokenizer, "earlier", 90, 64)
    found = retained_windows(tokenizer, asked, retained)
    assert [len(found[window.id].ids) for window in asked] == [len(window.ids) for window in asked]
    long = {window.ids[1:50] for window in retained}
    assert sum(found[window.id].ids[1:] in long for window in asked) >= len(asked) - 2, "retained text as it stands"
    assert all(found[window.id].ids[:1] == window.ids[:1] for window in asked)
    shuffled = random.Random(0).sample(retained, len(retained))
    assert retained_windows(tokenizer, asked[::-1], shuffled) == found


def test_short_retained_texts_are_strung_together(tokenizer: PreTrainedTokenizerBase) -> None:
    (asked,) = windows(tokenizer, "later", 12, 200)
    retained = [encode_statement(tokenizer, f"Thing {n} is by", f" Maker {n}.", f"s{n}") for n in range(3)]
    other = retained_windows(tokenizer, [asked], retained)[asked.id]
    assert len(other.ids) == len(asked.ids) and other.ids.count(tokenizer.convert_tokens_to_ids("<s>")) == 1
    lines = str(tokenizer.decode(list(other.ids[1:]))).split("\n")[:-1]
    assert len(lines) >= 3 and set(lines) == {f"Thing {n} is by Maker {n}." for n in range(3)}
    with pytest.raises(UserError, match="nothing is retained"):
        retained_windows(tokenizer, [asked], [])
