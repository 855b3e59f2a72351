"""Facts from CSV: one row a fact, with a subject, a relation, an object and a date."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from menard_unlearn.corpus.dating import PartialDate
from menard_unlearn.corpus.documents import Fact
from menard_unlearn.corpus.sources import (
    Corpus,
    CorpusData,
    at_least_one,
    corpus_data,
    existing,
    level,
    parse_dates,
    read_rows,
    refuse_bad,
)
from menard_unlearn.corpus.split import refuse_repeated_ids
from menard_unlearn.corpus.statements import Template, Templates
from menard_unlearn.errors import UserError

COLUMNS = ("id", "year", "date", "subject", "relation", "object", "category", "source")
RELATION_COLUMNS = ("relation", "statement_template", "question_template")
SLOT = re.compile(r"\{(subject|object|year|category)\}")


@dataclass(frozen=True)
class Facts(Corpus):
    """Facts from a CSV file with the columns id, year, date, subject, relation, object, category and source, and
    optionally `alternate`, another answer than the true one, for methods that teach it instead, and `popularity`, a
    number that says how well known the fact is, by which recall is tabulated."""

    path: str
    """The CSV file, or a folder of which all *.csv are read as one."""
    relations: str | None
    """CSV with the columns relation, statement_template and question_template, whose wordings join those that are
    shipped; or null."""
    categories: tuple[str, ...]
    """Categories to keep; empty keeps all."""
    limit: int | None
    """At most so many facts, as evenly over the decades as the data allows; null keeps all."""

    def __post_init__(self) -> None:
        at_least_one("limit", self.limit)

    def load(self) -> CorpusData:
        """The facts, dated by `date` where it is filled, else by `year`; a fact with neither is refused."""
        rows = [row for file in self._files() for row in read_rows(file, COLUMNS)]
        nameless = [f"subject {row['subject']}" for row in rows if not row["id"]]
        refuse_bad(self.path, "rows have no id", nameless, "give them one")
        facts = _facts(self.path, self._kept(rows))
        refuse_repeated_ids(facts)
        templates = _templates(self.relations) if self.relations else None
        return corpus_data(facts=level(facts, self.limit), templates=templates)

    def _files(self) -> list[Path]:
        path = existing(self.path, "corpus.path")
        files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
        if not files:
            raise UserError(f"{path} has no *.csv: give a CSV file or a folder of them")
        return files

    def _kept(self, rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
        there = {row["category"] for row in rows}
        unknown = [category for category in self.categories if category not in there]
        if unknown:
            raise UserError(
                f"{self.path} has no category {', '.join(unknown)}; its categories are: {', '.join(sorted(there))}"
            )
        return [row for row in rows if not self.categories or row["category"] in self.categories]


def _facts(where: str, rows: Sequence[dict[str, str]]) -> list[Fact]:
    for column in ("subject", "relation", "object"):
        empty = [row["id"] for row in rows if not row[column].strip()]
        refuse_bad(where, f"facts have an empty {column}", empty, "fill it")
    dates = parse_dates(where, {row["id"]: row["date"].strip() or row["year"] for row in rows})
    years = parse_dates(where, {row["id"]: row["year"] for row in rows})
    undated = [id for id, date in dates.items() if date is None]
    refuse_bad(where, "facts have no date", undated, "fill year or date, or remove them")
    apart = [id for id, year in years.items() if year is not None and year.year != getattr(dates[id], "year", None)]
    refuse_bad(where, "facts have a year that is not the year of their date", apart, "correct either")
    odd = [row["id"] for row in rows if (value := _popularity(row)) is not None and math.isnan(value)]
    refuse_bad(where, "facts have a popularity that is no finite number", odd, "give a number, or leave it empty")
    true = [row["id"] for row in rows if _alternate(row) in (row["subject"].strip(), row["object"].strip())]
    refuse_bad(where, "facts have an alternate that is their own subject or object", true, "write another answer")
    return [_fact(row, date) for row in rows if (date := dates[row["id"]]) is not None]


def _fact(row: dict[str, str], date: PartialDate) -> Fact:
    subject, relation, object = row["subject"], row["relation"], row["object"]
    return Fact(
        id=row["id"],
        date=date,
        subject=subject,
        relation=relation,
        object=object,
        category=row["category"],
        source=row["source"],
        alternate=_alternate(row),
        popularity=_popularity(row),
    )


def _popularity(row: dict[str, str]) -> float | None:
    """NaN for what is no finite number, so that it can be refused by the rows' ids."""
    text = row.get("popularity", "").strip()
    try:
        return (float(text) if math.isfinite(float(text)) else math.nan) if text else None
    except ValueError:
        return math.nan


def _alternate(row: dict[str, str]) -> str | None:
    return row.get("alternate", "").strip() or None


def _templates(path: str) -> Templates:
    """The shipped wordings, joined by a statement and a question of one's own for each relation that the file names."""
    rows = read_rows(existing(path, "corpus.relations"), RELATION_COLUMNS)
    shipped = Templates.read()
    joined = dict(shipped.by_relation)
    for row in rows:
        question = f"Question: {row['question_template']} Answer: {{object}}"
        own = (_template(path, "own", row["statement_template"]), _template(path, "qown", question))
        joined[row["relation"]] = (*shipped.for_relation(row["relation"]), *own)
    return Templates(joined)


def _template(path: str, id: str, wording: str) -> Template:
    """Prompt and answer of a sentence: the answer begins with its last slot."""
    slots = list(SLOT.finditer(wording))
    if not slots or slots[-1].start() == 0:
        raise UserError(
            f"{path}: wording {wording!r} needs a slot after its first word: one of {{subject}}, {{object}}, {{year}}"
        )
    at = slots[-1].start()
    return Template(id, wording[:at].rstrip(), wording[at:])
