"""Anachronisms in written text (A7): words that nobody had yet, and years that had not come yet."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from scipy.stats import chi2

LEXICON = Path(__file__).parent / "data" / "lexicon.csv"
"""English terms with the year of their first attestation, which may be off by some years. Terms whose letters had an
older sense are left out. Kind `control` marks those of 1880-1938, for earlier cutoffs."""

KEYS = {
    "n_texts": "number of texts",
    "n_words": "words in them; hyphens part words",
    "status": "measured, or too short: fewer words than are needed, so that silence is no good score",
    "hits": "terms first attested after the cutoff's year, each time that one stands",
    "rate": "A7, hits per 1,000 words; null where too short",
    "rate_low": "lower end of the rate's 95% interval, hits taken for a Poisson count",
    "rate_high": "upper end of it",
    "n_terms": "number of different terms hit",
    "terms": "term → hits, without the hidden ones, most frequent first",
    "latest": "latest year of first attestation among the hits; null without hits",
    "n_years": "years written in four digits, 1000 to 2099",
    "n_years_after": "those of them that lie after the cutoff's year",
    "years_after": "share of the latter; null without years, or where too short",
}
"""Key of the result → meaning and unit."""

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
YEAR = re.compile(r"(?<![\w.,])(?:1\d|20)\d\d(?!\w)(?![.,]\d)")
HYPHENS = "-‐‑"
CHANCE = 0.95


@cache
def lexicon() -> Mapping[str, int]:
    """Term → year of first attestation."""
    with open(LEXICON, encoding="utf-8", newline="") as file:
        return {row["term"]: int(row["year"]) for row in csv.DictReader(file)}


def anachronisms(texts: Sequence[str], cutoff_year: int, *, min_words: int, hidden: Sequence[str]) -> dict:
    """A7 = 1,000 · hits / words over all texts together; keys are `KEYS`.

    Below `min_words` words in all there is no rate: who writes nothing makes no mistake. A term that also stands in a
    text of `hidden` (the target, where it is not published) is counted and not named.

    Fails when a model writes little, writes gibberish or stays with subjects that have no modern words: read it beside
    the number of words, and beside the same rate of the base. Hits come in clumps (one text about radar), so the
    Poisson interval is too narrow by as much. The lexicon is English. `years_after` also counts honest foresight ("by
    1950"). The idea that the latest word dates a text is philology's (Valla, 1440); the list is this project's own.
    """
    found = [hit for text in texts for hit in hits(text) if lexicon()[hit] > cutoff_year]
    secret = {hit for text in hidden for hit in hits(text)}
    n_words = sum(count_words(text) for text in texts)
    enough = n_words >= max(1, min_words)
    low, high = poisson(len(found))
    years = [int(year) for text in texts for year in YEAR.findall(text)]
    later = sum(year > cutoff_year for year in years)
    return {
        "n_texts": len(texts),
        "n_words": n_words,
        "status": "measured" if enough else "too short",
        "hits": len(found),
        "rate": 1000 * len(found) / n_words if enough else None,
        "rate_low": 1000 * low / n_words if enough else None,
        "rate_high": 1000 * high / n_words if enough else None,
        "n_terms": len(set(found)),
        "terms": {term: count for term, count in _by_count(found) if term not in secret},
        "latest": max((lexicon()[term] for term in found), default=None),
        "n_years": len(years),
        "n_years_after": later,
        "years_after": later / len(years) if years and enough else None,
    }


def count_words(text: str) -> int:
    """Runs of letters and digits; an apostrophe within one does not part it."""
    return len(WORD.findall(text))


def hits(text: str) -> Iterator[str]:
    """The terms in a text, in order, whatever their year: whole words, singular or plural, in any case.

    Of terms that begin at one word the longest counts, and none overlaps another. A space in a term stands for white
    space or a hyphen in the text, a hyphen for a hyphen alone ("a-bomb" is not "a bomb").
    """
    matches = list(WORD.finditer(text))
    words = [match[0].lower().replace("’", "'") for match in matches]
    gaps = [_gap(text[a.end() : b.start()]) for a, b in pairwise(matches)]
    place = 0
    while place < len(words):
        found = next((form for form in _forms().get(words[place], ()) if form.stands(words, gaps, place)), None)
        if found is not None:
            yield found.term
        place += 1 if found is None else len(found.words)


def poisson(count: int) -> tuple[float, float]:
    """Exact 95% interval of a Poisson mean (Garwood 1936): never empty, and above 0 at its upper end even for 0."""
    tail = (1 - CHANCE) / 2
    low = float(chi2.ppf(tail, 2 * count)) / 2 if count else 0.0
    return low, float(chi2.ppf(1 - tail, 2 * count + 2)) / 2


def _by_count(found: Sequence[str]) -> list[tuple[str, int]]:
    return sorted(Counter(found).items(), key=lambda entry: (-entry[1], entry[0]))


def _gap(between: str) -> str:
    """What parts two words: " ", "-", or "" where no term can lie across it."""
    if between and between in HYPHENS:
        return "-"
    return " " if between and not between.strip() else ""


@dataclass(frozen=True)
class _Form:
    """A way to write a term."""

    term: str
    words: tuple[str, ...]
    gaps: tuple[str, ...]
    """Between them: "-" is a hyphen, " " either."""

    def stands(self, words: Sequence[str], gaps: Sequence[str], place: int) -> bool:
        """Whether it stands at this word."""
        end = place + len(self.words)
        return tuple(words[place:end]) == self.words and all(
            gap in ("-", own) and gap for own, gap in zip(self.gaps, gaps[place : end - 1], strict=True)
        )


@cache
def _forms() -> Mapping[str, list[_Form]]:
    """First word → the terms that begin with it, in every number, the longest first."""
    table: dict[str, list[_Form]] = {}
    for term in lexicon():
        *lead, last = re.split(r"([ -])", term)
        for form in _numbers(last):
            pieces = (*lead, form)
            table.setdefault(pieces[0], []).append(_Form(term, pieces[::2], pieces[1::2]))
    return {word: sorted(forms, key=lambda form: -len(form.words)) for word, forms in table.items()}


def _numbers(word: str) -> list[str]:
    """Singular and plurals, each also as a possessive."""
    plurals = [f"{word}s"]
    if word.endswith(("s", "x", "z", "ch", "sh", "o")):
        plurals.append(f"{word}es")
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        plurals.append(f"{word[:-1]}ies")
    if word.endswith("man"):
        plurals.append(f"{word[:-2]}en")
    return [form + ending for form in (word, *plurals) for ending in ("", "'s")]
