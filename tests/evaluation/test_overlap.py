"""Common blocks and edit distance, on known edits and against the plain definitions."""

from __future__ import annotations

import random

import pytest

from menard_unlearn.evaluation.overlap import KEYS, compare, edit_distance, longest_block, normalised, share_in_blocks

TEXT = "He did not want to compose another Quixote, which is easy, but the Quixote itself."


def by_table(one: str, other: str) -> int:
    """Levenshtein's table, cell by cell."""
    row = list(range(len(other) + 1))
    for a, letter in enumerate(one, start=1):
        above, row = row, [a]
        for b, own in enumerate(other, start=1):
            row.append(min(above[b] + 1, row[-1] + 1, above[b - 1] + (letter != own)))
    return row[-1]


def test_edit_distance_is_that_of_the_table() -> None:
    rng = random.Random(0)
    for _ in range(300):
        one, other = ("".join(rng.choices("abc ", k=rng.randrange(0, 90))) for _ in range(2))
        assert edit_distance(one, other) == by_table(one, other)
    assert edit_distance("", "abc") == 3 and edit_distance("abc", "") == 3 and edit_distance("", "") == 0


@pytest.mark.parametrize(
    ("edited", "distance", "block"),
    [
        (TEXT, 0, TEXT),
        (TEXT.replace("want", "wish"), 3, TEXT[15:]),
        (TEXT.replace("compose ", ""), 8, TEXT[26:]),
        (TEXT.replace("easy", "quite easy"), 6, TEXT[: TEXT.index("easy")]),
        (TEXT.replace("did not", "not did"), 6, TEXT[10:]),
    ],
)
def test_known_edits_cost_what_they_should(edited: str, distance: int, block: str) -> None:
    found = compare(edited, TEXT, TEXT)
    assert found["distance"] == pytest.approx(distance / max(len(edited), len(TEXT)))
    assert found["block_chars"] == len(block)
    assert set(found) == set(KEYS)


def test_the_longest_block_is_found_wherever_it_lies() -> None:
    assert longest_block("xxabcdyy", "zzzabcdz") == 4
    assert longest_block("abc", "xyz") == longest_block("", "abc") == longest_block("abc", "") == 0
    rng = random.Random(1)
    for _ in range(100):
        one, other = ("".join(rng.choices("ab", k=30)) for _ in range(2))
        strings = {one[i:j] for i in range(30) for j in range(i, 31)}
        assert longest_block(one, other) == max(len(string) for string in strings if string in other)


def test_the_share_counts_each_character_of_a_long_block_once() -> None:
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    assert share_in_blocks(letters[:25] + "#" * 25, letters) == 0.5
    assert share_in_blocks(letters[:19] + "#" * 19, letters) == 0
    assert share_in_blocks(letters[:20] + letters[10:30], letters) == 1
    assert share_in_blocks(letters, letters) == 1
    assert share_in_blocks("", letters) is None and share_in_blocks("abc", letters) == 0


def test_words_are_counted_in_their_order() -> None:
    found = compare("he did wish to compose another Quixote", TEXT, TEXT)
    assert found["block_words"] == 3  # "to compose another": what follows has a comma
    assert compare("Quixote another", TEXT, TEXT)["block_words"] == 1
    assert compare("", TEXT, TEXT) == {"block_chars": 0, "block_words": 0, "share_in_blocks": None, "distance": 1}
    assert compare("", "", "")["distance"] is None


def test_editions_are_the_same_when_normalised() -> None:
    one = "“It’s ﬁne,” said the author — and WROTE  on:\nin 1939…"
    other = "'It's fine', said the Author – and wrote on; in 1939."
    assert normalised(one) == normalised(other) == "it s fine said the author and wrote on in 1939"
    assert compare(normalised(one), normalised(other), normalised(other))["distance"] == 0
    assert compare(one, other, other)["distance"] > 0.1
