"""Contexts are nested, the same for every model, and never longer than the window."""

from __future__ import annotations

from collections import Counter

import pytest
from toy import byte_tokenizer, target

from menard_unlearn.context.draws import Frame, Passages, lengths_of, refuse_too_few, shuffled, text_item
from menard_unlearn.corpus.dating import parse_date
from menard_unlearn.corpus.documents import Document
from menard_unlearn.errors import UserError

TOKENIZER = byte_tokenizer()
DOCUMENTS = tuple(Document(f"d{n}", chr(97 + n) * (20 + n), parse_date("1900"), "test") for n in range(6))
FRAME = Frame.of(TOKENIZER, "\n\n")


def decoded(ids: tuple[int, ...]) -> str:
    return str(TOKENIZER.decode(list(ids)))


def test_a_shorter_context_is_the_beginning_of_a_longer_one() -> None:
    passages = Passages.of(TOKENIZER, DOCUMENTS, 8)
    for number in range(4):
        longest = passages.draw(number, 64, FRAME, seed=3)
        assert all(passages.draw(number, length, FRAME, seed=3) == longest[:length] for length in (1, 8, 31))


def test_draws_differ_from_their_first_passage_on() -> None:
    passages = Passages.of(TOKENIZER, DOCUMENTS, None)
    firsts = [passages.draw(number, 20, FRAME, seed=0) for number in range(len(DOCUMENTS))]
    assert len(set(firsts)) == len(DOCUMENTS)
    assert [passages.draw(number, 20, FRAME, seed=1) for number in range(len(DOCUMENTS))] != firsts


def test_a_draw_uses_each_passage_once_with_separators_between() -> None:
    passages = Passages.of(TOKENIZER, DOCUMENTS, None)
    whole = passages.n_tokens + len(FRAME.separator) * (len(DOCUMENTS) - 1)
    text = decoded(passages.draw(0, whole, FRAME, seed=0))
    assert sorted(text.split("\n\n")) == [d.text for d in DOCUMENTS]
    with pytest.raises(ValueError, match="give no context"):
        passages.draw(0, whole + 1, FRAME, seed=0)


@pytest.mark.parametrize("size", [1, 7, 8, None])
def test_passages_hold_every_token_once(size: int | None) -> None:
    passages = Passages.of(TOKENIZER, DOCUMENTS, size)
    assert "".join(map(decoded, passages.ids)) == "".join(d.text for d in DOCUMENTS)
    assert size is None or max(map(len, passages.ids)) <= size


def test_a_shuffled_context_has_the_same_tokens_at_every_length() -> None:
    lengths = (8, 16, 32, 64)
    context = Passages.of(TOKENIZER, DOCUMENTS, 8).draw(0, 64, FRAME, seed=0)
    mixed = shuffled(context, lengths, 0, seed=0)
    assert mixed != context and mixed == shuffled(context, lengths, 0, seed=0) != shuffled(context, lengths, 1, seed=0)
    for length in lengths:
        assert Counter(mixed[:length]) == Counter(context[:length])


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("prompt", ["", "Title. "])
def test_the_same_tokens_are_scored_whatever_stands_before(bos: bool, prompt: str) -> None:
    tokenizer = byte_tokenizer(bos)
    frame = Frame.of(tokenizer, "\n")
    item = text_item(tokenizer, target("The ferry waits.", prompt=prompt))
    assert frame.after((), item) == item
    context = tuple(tokenizer.encode("Fog."))
    after = frame.after(context, item)
    assert after.ids[after.n_prompt :] == item.ids[item.n_prompt :]
    lead = (tokenizer.bos_token_id,) if bos else ()
    assert after.ids == (*lead, *context, *frame.separator, *tokenizer.encode(f"{prompt}The ferry waits."))
    assert len(text_item(tokenizer, target("The ferry waits.", prompt=prompt), 5).ids) == item.n_prompt + 5


def test_lengths_are_powers_of_two_up_to_the_window() -> None:
    assert lengths_of(16, None, window=1024, taken=613) == (16, 32, 64, 128, 256)
    assert lengths_of(16, None, window=1024, taken=512) == (16, 32, 64, 128, 256, 512)
    assert lengths_of(16, None, window=1024, taken=513)[-1] == 256
    assert lengths_of(4, 32, window=1024, taken=613) == (4, 8, 16, 32)
    assert lengths_of(1, 4, window=None, taken=10**9) == (1, 2, 4)
    assert lengths_of(16, None, window=32, taken=16) == (16,)


@pytest.mark.parametrize(
    ("first", "last", "window", "message"),
    [
        (
            16,
            512,
            1024,
            "512 tokens of context and 613 with the text, the model reads 1024: .* that fits is 256",
        ),
        (16, None, 620, "context longer than the window: 16 tokens of context and 613 with the text.*fits is 4"),
        (16, None, 600, "context longer than the window.*give a shorter text"),
        (16, 48, 1024, "context.last=48 is no power of two from context.first=16 on: give 32"),
        (16, 8, 1024, "context.last=8 is no power of two from context.first=16 on"),
        (16, None, None, "the model sets no window"),
    ],
)
def test_a_context_that_does_not_fit_is_refused(first: int, last: int | None, window: int | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        lengths_of(first, last, window=window, taken=613)


def test_too_few_documents_are_refused() -> None:
    passages = Passages.of(TOKENIZER, DOCUMENTS, None)
    with pytest.raises(UserError, match="the documents hold 135 tokens, the longest context has 256"):
        refuse_too_few(passages, 256, 5, "documents")
    with pytest.raises(UserError, match=r"are 6 passages, 7 draws were asked for: .*context\.documents\.passage"):
        refuse_too_few(passages, 64, 7, "documents")
    refuse_too_few(passages, 128, 6, "documents")
