"""The documents that contexts are made of: dated wholly up to the cutoff, and free of the text that is scored."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from menard_unlearn.context.config import DocumentsConfig
from menard_unlearn.corpus.dating import Era, era
from menard_unlearn.corpus.documents import Document
from menard_unlearn.corpus.split import SplitConfig, first_five, words
from menard_unlearn.corpus.study import StudyData
from menard_unlearn.errors import UserError

Gram = tuple[str, ...]


@dataclass(frozen=True)
class Chosen:
    """Documents, and why others are not among them."""

    documents: tuple[Document, ...]
    """By id."""
    made_of: str
    """documents, or statements: those of the corpus's facts, a document a year."""
    left_out: Mapping[str, int]
    """How many are not in: after the cutoff, straddling it, in the gap around it, undated, quoting."""


class Overlaps:
    """Runs of words that no context may hold: those of some texts, but for the quotations in them."""

    def __init__(self, texts: Mapping[str, str], quotations: Iterable[str], n: int) -> None:
        """`texts` by name; one of fewer than `n` words is held by a document that holds all of it."""
        allowed = {gram for quotation in quotations for gram in _grams(words(quotation), n)}
        self._names: dict[int, dict[Gram, str]] = {}
        for name, text in texts.items():
            found = words(text)
            size = min(n, len(found))
            if size:
                grams = self._names.setdefault(size, {})
                grams.update((gram, name) for gram in _grams(found, size) if gram not in allowed)

    def first(self, text: str) -> tuple[int, str] | None:
        """The place, in words from 0, at which a run begins that the text shares with one of the others, and the
        latter's name; None where there is none."""
        found = words(text)
        places = (
            (at, names[gram])
            for size, names in self._names.items()
            for at, gram in enumerate(_grams(found, size))
            if gram in names
        )
        return min(places, default=None)


def _grams(found: Sequence[str], n: int) -> Iterable[Gram]:
    return zip(*(found[at:] for at in range(n)), strict=False)


def read_quotations(path: str | None) -> tuple[str, ...]:
    """The lines of the file that are not blank; nothing for None. Raises UserError where it cannot be read."""
    if path is None:
        return ()
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"context.documents.quotations={path} cannot be read: give a UTF-8 file, a quotation a line"
        ) from error
    return tuple(line for line in lines if line.strip())


def choose(
    data: StudyData, cutoff: SplitConfig, config: DocumentsConfig, pattern: str | None, overlaps: Overlaps
) -> Chosen:
    """The documents of a corpus whose id holds the pattern; without any documents, statements of its facts.

    Each fact is stated once, in a wording that models are trained on. Raises UserError where no document is left, and
    where one overlaps and `config.decontaminate` is "refuse": it names the document and the place, never the words.
    """
    made_of = "documents" if data.corpus.documents else "statements"
    named = [d for d in data.corpus.documents or _statements(data) if pattern is None or re.search(pattern, d.id)]
    if not named:
        raise UserError(_nobody(data, pattern))
    left_out: Counter[str] = Counter()
    kept: list[Document] = []
    for document in named:
        reason = _reason(document, cutoff) or _quoting(document, config, overlaps)
        if reason is None:
            kept.append(document)
        else:
            left_out[reason] += 1
    if not kept:
        told = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise UserError(
            f"no document is left for contexts up to {cutoff.cutoff} ({told}): add earlier documents, or move "
            "split.cutoff"
        )
    documents = kept if made_of == "documents" else _by_year(kept)
    return Chosen(tuple(documents), made_of, dict(left_out))


def _nobody(data: StudyData, pattern: str | None) -> str:
    ids = [item.id for item in data.corpus.documents or data.corpus.facts]
    return f"no document has an id with {pattern!r}; there are {len(ids)}: {first_five(ids)}; correct the pattern"


def _reason(document: Document, cutoff: SplitConfig) -> str | None:
    """Why its date keeps a document out. What nobody has dated may be later than the text."""
    found = era(document.date, cutoff.parsed_cutoff)
    if found is Era.BEFORE:
        return "in the gap" if document.date is not None and document.date.year in cutoff.gap else None
    return {Era.AFTER: "after the cutoff", Era.STRADDLES: "straddling it", Era.UNDATED: "undated"}[found]


def _quoting(document: Document, config: DocumentsConfig, overlaps: Overlaps) -> str | None:
    found = overlaps.first(document.text)
    if found is None:
        return None
    if config.decontaminate == "refuse":
        place, name = found
        raise UserError(
            f"document {document.id!r} shares {config.ngram} words with {name}, from its word {place} on: take it out, "
            "allow the quotation (context.documents.quotations=<file>), or context.documents.decontaminate=cut"
        )
    return "quoting"


def _statements(data: StudyData) -> list[Document]:
    """Each fact in the first of its trained wordings that is no question."""
    stated: dict[str, Document] = {}
    for s in sorted(data.wording.trained, key=lambda s: s.question):
        stated.setdefault(s.fact.id, Document(s.fact.id, s.text, s.fact.date, s.fact.source))
    return [stated[id] for id in sorted(stated)]


def _by_year(statements: Sequence[Document]) -> list[Document]:
    years: dict[int, list[Document]] = {}
    for statement in statements:
        if statement.date is not None:
            years.setdefault(statement.date.year, []).append(statement)
    return [
        Document(f"facts-{year}", " ".join(s.text for s in own), own[0].date, "facts")
        for year, own in sorted(years.items())
    ]
