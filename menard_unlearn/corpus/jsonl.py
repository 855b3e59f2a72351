"""Documents from JSON lines: one object a line, with a text and a date."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from menard_unlearn.corpus.documents import Document
from menard_unlearn.corpus.sources import (
    Corpus,
    CorpusData,
    corpus_data,
    existing,
    parse_dates,
    read_text,
    refuse_bad,
    require_columns,
)
from menard_unlearn.corpus.split import hash_of

log = logging.getLogger(__name__)
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Jsonl(Corpus):
    """A file of JSON objects, one a line; blank lines are skipped."""

    path: str
    """The file, UTF-8."""
    text_column: str
    """Key of the text."""
    date_column: str
    """Key of the date: text or a year. Lines without it are undated, and the split says what becomes of them."""
    id_column: str | None
    """Key of the id; null makes ids from text and date, so that they do not depend on the order of the lines."""

    def load(self) -> CorpusData:
        """The documents of the file."""
        lines = [
            (f"line {number}", line)
            for number, line in enumerate(read_text(existing(self.path, "corpus.path")).split("\n"), start=1)
            if line.strip()
        ]
        rows: dict[str, Mapping[str, object]] = {}
        bad: list[str] = []
        for place, line in lines:
            try:
                rows[place] = json.loads(line)
            except json.JSONDecodeError as error:
                bad.append(f"{place}: {error.msg}")
        bad += [f"{place}: not an object" for place, row in rows.items() if not isinstance(row, dict)]
        refuse_bad(self.path, "lines are not JSON objects", bad, "write one {...} a line")
        return corpus_data(
            documents=documents_from_rows(self.path, rows, self.text_column, self.date_column, self.id_column)
        )


def documents_from_rows(
    where: str, rows: Mapping[str, Mapping[str, object]], text_column: str, date_column: str, id_column: str | None
) -> list[Document]:
    """Documents from rows, which are named by their place ("line 7") in messages.

    Where there is no id column, rows with the same text and the same date are one document: kept apart, one of them
    could be trained on while the other is held out. How many were dropped is logged.
    """
    columns = dict.fromkeys(column for row in rows.values() for column in row)
    require_columns(where, columns, [column for column in (text_column, date_column, id_column) if column is not None])
    texts = {place: row.get(text_column) for place, row in rows.items()}
    blank = [place for place, text in texts.items() if not isinstance(text, str) or not text.strip()]
    refuse_bad(where, f"rows have no text in column {text_column}", blank, "fill or remove them")
    broken = [place for place, text in texts.items() if LONE_SURROGATE.search(str(text))]
    refuse_bad(where, "rows have half a character (a lone surrogate such as \\ud83d)", broken, "repair or remove them")
    dates = parse_dates(where, {place: _plain(row.get(date_column)) for place, row in rows.items()})
    made: dict[str, Document] = {}
    found: list[Document] = []
    for place, row in rows.items():
        text = str(texts[place])
        id = str(row.get(id_column)) if id_column else hash_of("row", f"{dates[place]}\n{text}")[:16]
        document = Document(id, text, dates[place], f"{where} {place}")
        found.append(document)
        made.setdefault(id, document)
    if id_column:
        without = [place for place, row in rows.items() if row.get(id_column) in (None, "")]
        refuse_bad(where, f"rows have no id in column {id_column}", without, "fill them, or set corpus.id_column=null")
        return found
    if len(made) < len(found):
        log.warning(
            "%s: %d rows repeat the text and the date of another and are dropped", where, len(found) - len(made)
        )
    return list(made.values())


def _plain(value: object) -> str | int | None:
    """What `parse_date` reads: dates become text; numbers that are no year stay what they are and are refused there."""
    if isinstance(value, datetime):
        return value.date().isoformat()
    if isinstance(value, date):
        return value.isoformat()
    return value if isinstance(value, str | int) or value is None else str(value)
