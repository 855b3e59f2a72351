"""Texts from a folder, dated by a manifest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from menard_unlearn.corpus.dating import Era, PartialDate, era, parse_date
from menard_unlearn.corpus.documents import Document
from menard_unlearn.corpus.sources import (
    Corpus,
    CorpusData,
    at_least_one,
    corpus_data,
    existing,
    parse_dates,
    read_rows,
    read_text,
    refuse_bad,
)
from menard_unlearn.corpus.split import hash_of
from menard_unlearn.errors import UserError

COLUMNS = ("file", "year", "date")


@dataclass(frozen=True)
class Texts(Corpus):
    """UTF-8 files and a CSV manifest with the columns file, year and date; lang and tier where they are asked for."""

    folder: str
    """Folder to which the manifest's paths are relative."""
    manifest: str
    """The CSV file."""
    lang: str | None
    """Language to keep, as the manifest writes it; null keeps all."""
    tier: int | None
    """Tiers to keep, from 1 (best) to this one; null keeps all."""
    max_bytes: int | None
    """Bytes of text to keep on each side of `sides_at`; null keeps all. Long texts are cut before short ones: each
    gives at most the same number of bytes, in one passage."""
    sides_at: str | int
    """Date that divides the two sides for `max_bytes`; usually the cutoff. A text whose date straddles it counts as
    before."""

    def __post_init__(self) -> None:
        at_least_one("max_bytes", self.max_bytes)

    def load(self) -> CorpusData:
        """The texts as they are, line breaks included; ids are the manifest's paths. Undated ones stay in."""
        rows = self._kept(read_rows(existing(self.manifest, "corpus.manifest"), self._columns()))
        files = [row["file"] for row in rows]
        folder = existing(self.folder, "corpus.folder")
        gone = [file for file in files if not (folder / file).is_file()]
        refuse_bad(self.manifest, f"files are not in {self.folder}", gone, "correct corpus.folder or the manifest")
        dates = parse_dates(self.manifest, {row["file"]: row["date"].strip() or row["year"] for row in rows})
        if len(dates) < len(files):
            raise UserError(f"{self.manifest} names {len(files) - len(dates)} files twice: remove the repeated rows")
        texts = self._within_budget(folder, dates)
        sources = {row["file"]: row.get("source", "") or row["file"] for row in rows}
        blank = [file for file in files if not texts[file].strip()]
        refuse_bad(self.manifest, "texts are empty", blank, "remove their rows, or raise corpus.max_bytes")
        return corpus_data(documents=[Document(file, texts[file], dates[file], sources[file]) for file in files])

    def _columns(self) -> list[str]:
        used = {"lang": self.lang, "tier": self.tier}
        return [*COLUMNS, *(column for column, value in used.items() if value is not None)]

    def _kept(self, rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
        if self.lang is not None and self.lang not in (there := {row["lang"] for row in rows}):
            raise UserError(f"{self.manifest} has no lang {self.lang!r}; it has: {', '.join(sorted(there))}")
        if self.tier is None:
            return [row for row in rows if self.lang in (None, row.get("lang"))]
        odd = [f"{row['file']}: {row['tier']!r}" for row in rows if not row["tier"].isdecimal()]
        refuse_bad(self.manifest, "tiers are not whole numbers", odd, "write 1, 2, ... or set corpus.tier=null")
        return [row for row in rows if self.lang in (None, row.get("lang")) and int(row["tier"]) <= self.tier]

    def _within_budget(self, folder: Path, dates: dict[str, PartialDate | None]) -> dict[str, str]:
        texts = {file: read_text(folder / file) for file in dates}
        if self.max_bytes is None:
            return texts
        sides: dict[bool, list[str]] = {True: [], False: []}
        for file, date in dates.items():
            sides[era(date, _boundary(self.sides_at)) is Era.AFTER].append(file)
        for side in sides.values():
            share = fair_share([len(texts[file].encode()) for file in side], self.max_bytes)
            texts |= {file: passage(texts[file], share, file) for file in side}
        return texts


def _boundary(text: str | int) -> PartialDate:
    try:
        boundary = parse_date(text)
    except ValueError as error:
        raise UserError(f"corpus.sides_at: {error}") from error
    if boundary is None:
        raise UserError("corpus.sides_at is empty: give a date such as 1939-12-31")
    return boundary


def fair_share(sizes: Sequence[int], budget: int) -> int:
    """The most bytes that every text may give, the shorter ones less, for all of them to stay within the budget."""
    left = budget
    for done, size in enumerate(ordered := sorted(sizes)):
        share = left // (len(ordered) - done)
        if size > share:
            return share
        left -= size
    return max(sizes, default=0)


def passage(text: str, size: int, name: str) -> str:
    """A passage of at most `size` bytes that starts and ends between words, at a place that depends on the name alone.

    It is empty where no whole word fits.
    """
    encoded = text.encode()
    if len(encoded) <= size:
        return text
    # the start is drawn from where a whole passage still follows
    start = int(hash_of("passage", name)[:12], 16) % (len(encoded) - size + 1)
    end = start + size
    cut = encoded[start:end].decode(errors="ignore")
    if start > 0 and not encoded[start - 1 : start].isspace():
        cut = re.sub(r"^\S+", "", cut)
    if end < len(encoded) and not encoded[end : end + 1].isspace():
        cut = re.sub(r"\S+$", "", cut)
    return cut.strip()
