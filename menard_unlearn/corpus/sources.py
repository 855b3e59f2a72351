"""What every source of a corpus gives, and the checks that all of them share.

A source reads everything before it complains, so that one message tells how many lines are wrong and which come first.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from menard_unlearn.corpus.dating import PartialDate, parse_date
from menard_unlearn.corpus.documents import Document, Fact, T
from menard_unlearn.corpus.split import first_five, hash_of, refuse_repeated_ids
from menard_unlearn.corpus.statements import Templates
from menard_unlearn.errors import UserError


@dataclass(frozen=True)
class CorpusData:
    """What a source holds, in an order that does not depend on that of its files and lines: made by `corpus_data`."""

    documents: tuple[Document, ...]
    """Running text, by id."""
    facts: tuple[Fact, ...]
    """Dated statements, by id; no id is also a document's."""
    templates: Templates | None
    """Wordings of the facts; None where the source brings none of its own."""
    neutral: tuple[str, ...]
    """Timeless text, by which utility is measured; empty where the source has none."""
    digest: str
    """SHA-256 of the contents: ids, texts, dates, facts, wordings. Where things come from does not enter."""


class Corpus(ABC):
    """A kind of source. Each is a frozen dataclass whose values stand in conf/corpus/<name>.yaml."""

    @abstractmethod
    def load(self) -> CorpusData:
        """Read all of it. Raises UserError where something is missing, unreadable, undatable or empty."""


def corpus_data(
    *,
    documents: Iterable[Document] = (),
    facts: Iterable[Fact] = (),
    templates: Templates | None = None,
    neutral: Iterable[str] = (),
) -> CorpusData:
    """Put contents in canonical order and hash them. Raises UserError for repeated ids and for nothing at all."""
    by_id_documents = tuple(sorted(documents, key=lambda document: document.id))
    by_id_facts = tuple(sorted(facts, key=lambda fact: fact.id))
    if not by_id_documents and not by_id_facts:
        raise UserError("the corpus is empty: loosen its filters or name other data")
    refuse_repeated_ids((*by_id_documents, *by_id_facts))
    texts = tuple(neutral)
    return CorpusData(
        by_id_documents, by_id_facts, templates, texts, _digest(by_id_documents, by_id_facts, templates, texts)
    )


def _digest(
    documents: Iterable[Document], facts: Iterable[Fact], templates: Templates | None, neutral: Iterable[str]
) -> str:
    hasher = hashlib.sha256()

    def add(*parts: object) -> None:
        # a JSON list a line: no two different contents can give the same bytes
        hasher.update(json.dumps([None if part is None else str(part) for part in parts]).encode() + b"\n")

    for document in documents:
        add("document", document.id, document.date, document.text)
    for fact in facts:
        # Data without the column keeps the digest that it had before there was one.
        other = () if fact.alternate is None else (fact.alternate,)
        if fact.popularity is not None:
            other = (*other, "popularity", fact.popularity)
        add("fact", fact.id, fact.date, fact.subject, fact.relation, fact.object, fact.category, *other)
    for relation, wordings in sorted(templates.by_relation.items()) if templates else ():
        for template in wordings:
            add("template", relation, template.id, template.prompt, template.answer)
    for text in neutral:
        add("neutral", text)
    return hasher.hexdigest()


def existing(path: str, what: str) -> Path:
    """The path, which must exist."""
    found = Path(path).expanduser()
    if not found.exists():
        raise UserError(f"{what} {path!r} does not exist (looked in {Path.cwd()}): give its path")
    return found


def read_text(path: Path) -> str:
    """A UTF-8 file, line ends as they are."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 at byte {error.start}: convert it with iconv -t UTF-8") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): give a readable file") from error


def at_least_one(field: str, value: int | None) -> None:
    """Refuse a limit of nothing or less; None is no limit."""
    if value is not None and value < 1:
        raise UserError(f"corpus.{field} {value} is not allowed: give 1 or more, or null for no limit")


def read_rows(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file with a header; missing cells are empty. Raises UserError naming the missing columns."""
    reader = csv.DictReader(io.StringIO(read_text(path).lstrip("\ufeff"), newline=""), restval="")
    require_columns(str(path), reader.fieldnames or (), needed)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise UserError(f"{path} is not CSV near line {reader.line_num} ({error}): write it again as CSV") from error
    torn = [f"row {number}" for number, row in enumerate(rows, start=1) if None in row]
    if torn:
        raise UserError(
            f"{path}: {len(torn)} rows have more cells than the header ({first_five(torn)}): quote cells with commas"
        )
    return rows


def require_columns(where: str, present: Iterable[str], needed: Iterable[str]) -> None:
    """Refuse data without a column, naming those that there are."""
    columns = list(present)
    missing = [column for column in needed if column not in columns]
    if missing:
        there = ", ".join(columns) or "none"
        raise UserError(f"{where} has no column {', '.join(missing)}; its columns are: {there}")


def refuse_bad(where: str, what: str, bad: Sequence[str], advice: str) -> None:
    """Refuse data of which some items are wrong: how many, the first five, what to do."""
    if bad:
        raise UserError(f"{where}: {len(bad)} {what} ({first_five(bad)}): {advice}")


def parse_dates(where: str, given: Mapping[str, str | int | None]) -> dict[str, PartialDate | None]:
    """Dates by item. Raises UserError with the count and the first five that cannot be read; blank ones stay None."""
    dates: dict[str, PartialDate | None] = {}
    bad: list[str] = []
    for item, text in given.items():
        try:
            dates[item] = parse_date(text)
        except ValueError:
            bad.append(f"{item}: {text!r}")
    refuse_bad(where, "dates cannot be read", bad, "write 1939, 1939-05, 1939-05-01 or 44 BC, or leave them empty")
    return dates


def level(items: Iterable[T], limit: int | None) -> list[T]:
    """At most `limit` items, as evenly over the decades as the data allows, always the same ones; None keeps all.

    Each decade ranks its items by a hash of their ids and gives its first, then its second, and so on in turns.
    """
    seen: Counter[int | None] = Counter()
    turns: list[tuple[int, T]] = []
    for item in sorted(items, key=lambda item: hash_of("level", item.id)):
        decade = item.date.decade if item.date else None
        turns.append((seen[decade], item))
        seen[decade] += 1
    # a stable sort: within a turn the hash decides, not the decade
    return [item for _, item in sorted(turns, key=lambda turn: turn[0])][:limit]
