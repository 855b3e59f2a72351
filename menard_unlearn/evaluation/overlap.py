"""How much of a text another one shares: common blocks and edit distance, exact or after normalisation.

Found with Python's own substring search and long integers, which is exact and, for a few hundred characters against a
book, fast enough to need no library.
"""

from __future__ import annotations

import re
import unicodedata

BLOCK = 20
"""Characters from which on a common block counts in `share_in_blocks`; below, set phrases and chance fill it."""

KEYS = {
    "block_chars": "characters of the longest common block",
    "block_words": "words of the longest common block of words, as white space parts them",
    "share_in_blocks": "share of the written characters that lie in common blocks of at least 20; null of nothing",
    "distance": "edit distance by the longer of the two: 0 is the same text, 1 nothing in common; null of nothing",
}
"""Key of a comparison → meaning and unit."""


def normalised(text: str) -> str:
    """Without what tells editions apart: the words alone, one space between them, without case, punctuation and
    compatibility forms (ligatures, full-width letters)."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def compare(written: str, rest: str, aligned: str) -> dict:
    """Keys of `KEYS`: blocks that `written` shares with `rest`, and its edit distance to `aligned`."""
    longer = max(len(written), len(aligned))
    return {
        "block_chars": longest_block(written, rest),
        "block_words": longest_block(*_as_letters(written.split(), rest.split())),
        "share_in_blocks": share_in_blocks(written, rest),
        "distance": edit_distance(written, aligned) / longer if longer else None,
    }


def longest_block(one: str, other: str) -> int:
    """Length of the longest string that stands in both."""
    longest = 0
    for start in range(len(one)):
        while start + longest < len(one) and one[start : start + longest + 1] in other:
            longest += 1
    return longest


def share_in_blocks(written: str, rest: str, block: int = BLOCK) -> float | None:
    """Share of the characters of `written` that lie in strings of `block` or more that `rest` holds too."""
    reached = covered = 0
    for start in range(len(written) - block + 1):
        if written[start : start + block] in rest:
            covered += start + block - max(reached, start)
            reached = start + block
    return covered / len(written) if written else None


def edit_distance(one: str, other: str) -> int:
    """Fewest characters to insert, delete or replace (Levenshtein).

    A column of the table of distances at a time, as two bit vectors of its steps up and down (Myers 1999, in the form
    of Hyyrö 2003); a long integer is the vector.
    """
    if not one:
        return len(other)
    last, every = 1 << (len(one) - 1), (1 << len(one)) - 1
    places: dict[str, int] = {}
    for place, character in enumerate(one):
        places[character] = places.get(character, 0) | 1 << place
    up, down, distance = every, 0, len(one)
    for character in other:
        match = places.get(character, 0)
        diagonal = (((match & up) + up) ^ up) | match | down
        right_up, right_down = down | ~(diagonal | up), diagonal & up
        distance += bool(right_up & last) - bool(right_down & last)
        right_up, right_down = right_up << 1 | 1, right_down << 1
        up, down = (right_down | ~(diagonal | right_up)) & every, right_up & diagonal & every
    return distance


def _as_letters(one: list[str], other: list[str]) -> tuple[str, str]:
    """Each distinct word as one character, so that blocks of words are blocks of characters."""
    # From the supplementary planes on: no surrogates among them, and room for a million words.
    letters = {word: chr(0x10000 + number) for number, word in enumerate(dict.fromkeys([*one, *other]))}
    return "".join(map(letters.__getitem__, one)), "".join(map(letters.__getitem__, other))
