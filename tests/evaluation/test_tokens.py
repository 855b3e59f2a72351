"""Batches of like length, and the bytes of tokens."""

from __future__ import annotations

from toy import byte_tokenizer, successor

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.encoding import encode_document
from menard_unlearn.evaluation.tokens import in_batches, scored_bytes, token_bytes
from menard_unlearn.models.scores import score


def test_every_item_is_in_one_batch() -> None:
    items = [TokenItem(str(n), (1, *range(5, 5 + n)), 1) for n in (3, 9, 1, 7, 5)]
    places = [place for own, _ in in_batches(items, 2, 0) for place in own]
    assert sorted(places) == [0, 1, 2, 3, 4]


def test_an_answer_is_correct_only_when_all_its_tokens_are() -> None:
    model = successor([1, 10, 11, 12, 13])
    items = [
        TokenItem("all", (1, 10, 11, 12, 13), 2),
        TokenItem("last wrong", (1, 10, 11, 12, 14), 2),
        TokenItem("first wrong", (1, 10, 14, 12, 13), 2),
        TokenItem("wrong prompt", (14, 12, 13), 2),
        TokenItem("a tie", (14, 15), 1),
    ]
    scores = score(model, items, batch_size=2, chunk=2, padding=0)
    assert [scores.of(item).correct for item in items] == [True, False, False, True, False]


def test_bytes_of_tokens_sum_to_those_of_the_text() -> None:
    tokenizer, text = byte_tokenizer(), "Él leyó – “1939”"
    ids = tokenizer.encode(text, add_special_tokens=False)
    counts = token_bytes(tokenizer, text, ids)
    assert len(counts) == len(ids) == len(text.encode())
    assert sum(counts) == len(text.encode())
    assert counts[2:5] == [1, 1, 1]


def test_bytes_that_no_window_scores_are_not_counted() -> None:
    text = "abcdefghij"
    for bos, expected in ((True, 10), (False, 7)):
        tokenizer = byte_tokenizer(bos)
        windows = encode_document(tokenizer, text, "x", 4)
        assert scored_bytes(tokenizer, text, windows) == expected
        if not bos:
            assert sum(len(window.ids) - 1 for window in windows) == expected
