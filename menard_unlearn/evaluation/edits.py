"""Small edits that leave the meaning alone: the package's rules of English, and a user's file.

A rules file is CSV (or TSV) with the columns `from` and `to`, and where a rule is to be kept from some contexts,
`not_after` and `not_before`: words or punctuation marks, separated by spaces. data/edits_en.csv is such a file.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from menard_unlearn.errors import UserError

DATA = Path(__file__).parent / "data"
LANGUAGES = ("en",)
"""Those that the package has rules for: data/edits_<language>.csv."""

_COLUMNS = ("from", "to", "not_after", "not_before")
_BEFORE = re.compile(r"(\w[\w'’-]*|[^\w\s])\s*$")
_AFTER = re.compile(r"\s*(\w[\w'’-]*|[^\w\s])")
_VOWELS = frozenset("aeiou")
_OPENS = frozenset(("", *".!?:;“”\"‘'"))
"""What a word with a capital that is no name comes after."""


@dataclass(frozen=True)
class Rule:
    """Words that may stand for others."""

    found: str
    replacement: str
    not_after: frozenset[str]
    """Words or marks before it that forbid the rule."""
    not_before: frozenset[str]
    """Words or marks after it that forbid the rule."""


@dataclass(frozen=True)
class Site:
    """A place in a text that can be edited."""

    start: int
    end: int
    """Characters start … end − 1 are replaced."""
    options: tuple[str, ...]
    """By any of these."""


@dataclass(frozen=True, eq=False)
class Edits:
    """Rules, ready to be applied."""

    rules: Mapping[str, tuple[Rule, ...]]
    """By what they look for, in lower case."""
    finder: re.Pattern[str]
    """Finds all of these, the longest first, between word boundaries."""
    patterns: tuple[tuple[re.Pattern[str], str], ...]
    """Punctuation: what is found as group `edit`, and what replaces it."""

    def sites(self, text: str) -> list[Site]:
        """All places, in their order; they do not overlap. Where two would, that of more words is kept."""
        found = [site for match in self.finder.finditer(text) if (site := self._site(match)) is not None]
        taken = [range(site.start, site.end) for site in found]
        for pattern, replacement in self.patterns:
            for match in pattern.finditer(text):
                # An edit that puts something in has no characters of its own; the places about it count.
                start, end = match.span("edit")
                span = range(start - 1, end + 1)
                if not any(span.start < other.stop and other.start < span.stop for other in taken):
                    found.append(Site(start, end, (replacement,)))
                    taken.append(span)
        return sorted(found, key=lambda site: site.start)

    def _site(self, match: re.Match[str]) -> Site | None:
        words, text = match.group(), match.string
        before, after = _BEFORE.search(text, 0, match.start()), _AFTER.match(text, match.end())
        last, following = (neighbour.group(1).lower() if neighbour else "" for neighbour in (before, after))
        options = [
            _cased(words, rule)
            for rule in self.rules[words.lower()]
            if last not in rule.not_after and following not in rule.not_before and _fits(words, rule, last)
        ]
        return Site(match.start(), match.end(), tuple(options)) if options else None


def load_edits(path: str | None, language: str) -> Edits | tuple[str, ...] | None:
    """The rules for a language, a user's rules, or a user's whole alternative texts; None for a language without rules.

    `path` is a CSV or TSV file of rules, a JSONL file of `{"text": …}` or a folder of text files; null takes the
    package's rules. Raises UserError for another kind of file, or one that cannot be read.
    """
    if path is None:
        return _shipped(language) if language in LANGUAGES else None
    where = Path(path)
    if where.is_dir():
        texts = [read_edits(file).strip() for file in sorted(where.glob("*.txt"))]
    elif not where.is_file():
        raise UserError(f"no edits at {path}: give a CSV of from,to, or a folder or JSONL of whole texts")
    elif where.suffix in (".csv", ".tsv"):
        return _edits(_rules(read_edits(where), "\t" if where.suffix == ".tsv" else ",", path), ())
    elif where.suffix == ".jsonl":
        texts = list(_texts(read_edits(where), path))
    else:
        raise UserError(
            f"edits {path} end in {where.suffix!r}: give .csv or .tsv (from, to), .jsonl or a folder of .txt"
        )
    if not any(texts):
        raise UserError(f"edits {path} hold no text: give one file or line for each alternative text")
    return tuple(text for text in texts if text)


def _shipped(language: str) -> Edits:
    patterns = json.loads(read_edits(DATA / f"edits_{language}_patterns.json"))
    name = f"edits_{language}.csv"
    rules = _rules(read_edits(DATA / name), ",", name)
    return _edits(rules, tuple((re.compile(pattern), replacement) for _, pattern, replacement in patterns))


def _edits(rules: Sequence[Rule], patterns: tuple[tuple[re.Pattern[str], str], ...]) -> Edits:
    by_words: dict[str, tuple[Rule, ...]] = {}
    for rule in rules:
        by_words[rule.found.lower()] = (*by_words.get(rule.found.lower(), ()), rule)
    longest_first = sorted(by_words, key=lambda words: (-len(words), words))
    # Numbers are whole: no 3 in 1,300, 0.3 or $3. A hyphen or an apostrophe makes another word.
    finder = re.compile(
        rf"(?<![\w'’$£€-])(?<!\d[.,])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-]|['’]\w|[.,]\d)",
        re.IGNORECASE,
    )
    return Edits(by_words, finder, patterns)


def _rules(raw: str, delimiter: str, path: str) -> list[Rule]:
    reader = csv.DictReader(io.StringIO(raw), delimiter=delimiter)
    header = list(reader.fieldnames or ())
    if not {"from", "to"} <= set(header) <= set(_COLUMNS):
        raise UserError(
            f"edits {path} have the columns {header}: the first line must name from, to, and no others than "
            f"{', '.join(_COLUMNS)}"
        )
    rules = []
    for number, row in enumerate(reader, start=2):
        found, replacement = ((row[name] or "").strip() for name in ("from", "to"))
        if not found or found == replacement or row["to"] is None or None in row:
            raise UserError(f"edits {path}, line {number}: from and to must be two different texts, from not empty")
        excluded = (frozenset((row.get(name) or "").lower().split()) for name in ("not_after", "not_before"))
        rules.append(Rule(found, replacement, *excluded))
    if not rules:
        raise UserError(f"edits {path} hold no rule: write a line for each, from{delimiter!r}to")
    return rules


def _texts(raw: str, path: str) -> Iterator[str]:
    for number, line in enumerate(raw.splitlines(), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f'edits {path}, line {number} is not JSON: write {{"text": …}} on each line') from error
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise UserError(f'edits {path}, line {number} has no text: write {{"text": …}} on each line')
        yield row["text"].strip()


def read_edits(path: Path) -> str:
    """A UTF-8 text. Raises UserError for a file that is missing or in another encoding."""
    if not path.is_file():
        raise UserError(
            f"no text at {path}: give a UTF-8 file, attribution.edits=<file> or attribution.original=<file>"
        )
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"edits {path} are not UTF-8 (byte {error.start}): convert them to UTF-8") from error


def _cased(words: str, rule: Rule) -> str:
    """The replacement with the capital that the words have; a rule that begins with one keeps its own."""
    if rule.found[0].isupper() or not words[0].isupper():
        return rule.replacement
    if len(words) > 1 and words.isupper():
        return rule.replacement.upper()
    return rule.replacement[:1].upper() + rule.replacement[1:]


def _fits(words: str, rule: Rule, last: str) -> bool:
    """Whether a capital is a sentence's or the rule's own, no name's, and `a` or `an` before the words stays right."""
    if rule.found[0].isupper() != words[0].isupper() and (rule.found[0].isupper() or last not in _OPENS):
        return False
    vowels = [text[:1].lower() in _VOWELS for text in (words, rule.replacement)]
    return last not in ("a", "an") or vowels[0] == vowels[1]
