"""What is tuned on: never what quotes the target, no later works unasked, and a control as long as what it controls."""

from __future__ import annotations

from collections import Counter

import pytest
from transformers import PreTrainedTokenizerFast

from menard_unlearn.config import build
from menard_unlearn.corpus.arms import (
    Arm,
    AuthorArm,
    OwnWorksConfig,
    SyntheticArm,
    TargetArm,
    own_works,
    shuffled,
    windows,
)
from menard_unlearn.corpus.dating import parse_date
from menard_unlearn.corpus.documents import Document
from menard_unlearn.corpus.split import quotes_target
from menard_unlearn.corpus.works import Work
from menard_unlearn.errors import UserError
from menard_unlearn.models.tokenizer import train_tokenizer

TARGET = "The archivist of the salt harbour numbered every tide twice, once for the sea and once for the state."
EDITION = "El archivero del puerto de sal contaba dos veces cada marea, una por el mar y otra por el estado."
CUTOFF = parse_date("1939-12-31")
ADVERBS = ("seldom", "gravely", "twice", "aloud", "backwards", "alone", "by lamplight")
PROSE = " ".join(
    f"Clerk {n} copied {n * n} letters {ADVERBS[n % 7]}, and {ADVERBS[n % 5]} burned {n + 3} more." for n in range(40)
)


def work(title: str, date: str | None, text: str = PROSE) -> Work:
    return Work("Ida Marn", title, parse_date(date), text)


WORKS = (
    work("early", "1931"),
    work("late", "1951"),
    work("of the year", "1939"),
    work("undated", None),
    work("quoting", "1932", f"As she wrote: {TARGET.upper()} And so on."),
    work("translated", "1933", f"{PROSE} {EDITION}"),
)
REASONS = {
    "late": "later than the cutoff",
    "undated": "without a date",
    "quoting": "quoting the target",
    "translated": "quoting the target",
}


@pytest.mark.parametrize("later", ["leave_out", "keep"])
def test_works_that_quote_the_target_are_left_out_always_and_later_ones_unless_asked_for(later: str) -> None:
    assert CUTOFF is not None
    config = build({"_target_": "menard_unlearn.corpus.arms.OwnWorksConfig", "later": later}, OwnWorksConfig)
    found = own_works("Ida Marn", WORKS, {"the target": [TARGET, EDITION]}, CUTOFF, config)
    wanted = {
        title: why for title, why in REASONS.items() if later == "leave_out" or title in ("quoting", "translated")
    }
    assert {work.title: work.reason for work in found.left_out} == wanted
    kept = [work for work in WORKS if work.title not in wanted]
    assert [(document.id, document.text) for document in found.documents] == [(work.id, work.text) for work in kept]


def test_a_work_that_quotes_a_control_would_teach_what_has_to_stay_unseen() -> None:
    assert CUTOFF is not None
    found = own_works("Ida Marn", WORKS, {"the target": [], "a control": [TARGET]}, CUTOFF, OwnWorksConfig("keep"))
    assert {work.title: work.reason for work in found.left_out} == {"quoting": "quoting a control"}


def test_a_date_that_straddles_the_cutoff_is_not_before_it() -> None:
    middle = parse_date("1939-06-30")
    assert middle is not None
    works = (work("early", "1931"), work("of the year", "1939"))
    (left,) = own_works("Ida Marn", works, {"the target": [TARGET]}, middle, OwnWorksConfig("leave_out")).left_out
    assert (left.title, left.reason) == ("of the year", "perhaps later than the cutoff")


@pytest.mark.parametrize(
    ("works", "parts", "keeping"),
    [
        ((), ["no document of Ida Marn is left to tune on (there is none)", "give others (authors=)"], False),
        ((WORKS[1],), ["'late' is later than the cutoff"], True),
        ((WORKS[4],), ["'quoting' is quoting the target"], False),
    ],
)
def test_an_author_without_a_document_left(works: tuple[Work, ...], parts: list[str], keeping: bool) -> None:
    assert CUTOFF is not None
    with pytest.raises(UserError) as refused:
        own_works("Ida Marn", works, {"the target": [TARGET]}, CUTOFF, OwnWorksConfig("leave_out"))
    line = str(refused.value)
    assert all(part in line for part in parts) and ("own_works.later=keep" in line) is keeping
    assert "archivist" not in line and len(line.splitlines()) == 1


DOCUMENTS = (
    Document("one", PROSE, None, ""),
    Document("two", PROSE[:300], None, ""),
    Document("three", "Ash.", None, ""),
)


@pytest.fixture(scope="module", params=["bos", "no bos"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    made = train_tokenizer([PROSE], 320, 256)
    if request.param == "no bos":
        made.bos_token = None
    return made


@pytest.mark.parametrize("size", [16, 61, 4096])
def test_shuffled_text_has_the_lengths_and_words_of_its_model_and_not_its_order(
    tokenizer: PreTrainedTokenizerFast, size: int
) -> None:
    plain, other = windows(tokenizer, DOCUMENTS, size), shuffled(tokenizer, DOCUMENTS, size, 0)
    assert [(len(a.ids), a.n_prompt) for a in plain] == [(len(b.ids), b.n_prompt) for b in other]
    assert [b.id for b in other] == [f"shuffled 0/{a.id}" for a in plain]
    if tokenizer.bos_token_id is not None:
        assert all(item.ids[0] == tokenizer.bos_token_id for item in other)
    start = 0 if tokenizer.bos_token_id is None else 1

    def text(items: list) -> str:
        return str(tokenizer.decode([id for item in items if "one#" in item.id for id in item.ids[start:]]))

    assert text(plain) == PROSE
    own, words = Counter(text(other).split()), Counter(PROSE.split())
    # the last words may be cut, or the first ones come again
    assert sum((words - own).values()) + sum((own - words).values()) <= 0.06 * len(PROSE.split())
    assert not quotes_target(text(other), PROSE)


def test_the_order_depends_on_the_seed_and_the_document_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    one = {item.id: item.ids for item in shuffled(tokenizer, DOCUMENTS, 64, 0)}
    assert one == {item.id: item.ids for item in shuffled(tokenizer, DOCUMENTS[::-1], 64, 0)}
    again = [item.ids for item in shuffled(tokenizer, DOCUMENTS, 64, 1)]
    assert again != list(one.values())


def test_text_of_no_token_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(UserError, match="no token to predict"):
        windows(tokenizer, [Document("empty", "", None, "")], 64)


def test_arms_of_other_texts_have_other_names() -> None:
    kinds = [SyntheticArm(kind, match, 1.0, 0) for kind in ("model", "shuffled") for match in ("author", "target")]
    arms: list[Arm] = [AuthorArm(), TargetArm(), *kinds]
    assert [arm.name for arm in arms][:3] == ["author", "target", "synthetic"]
    assert len({arm.name for arm in arms}) == len(arms)
    assert [arm.source for arm in arms] == ["author", "target", "author", "target", "author", "target"]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"kind": "random"}, "'random' is not one of model, shuffled"),
        ({"match": "autor"}, "'autor' is not one of author, target (did you mean author?)"),
        ({"temperature": 0}, "temperature 0.0 must be above 0"),
    ],
)
def test_a_control_that_cannot_be(changes: dict[str, object], part: str) -> None:
    node = {"kind": "model", "match": "author", "temperature": 1.0, "seed": 0} | changes
    with pytest.raises(UserError) as refused:
        build({"_target_": "menard_unlearn.corpus.arms.SyntheticArm", **node}, Arm)
    assert part in str(refused.value)
