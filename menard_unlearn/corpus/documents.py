"""The two things that a corpus holds, running text and statements of fact, and what they share: an id and a date."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from menard_unlearn.corpus.dating import PartialDate


class Dated(Protocol):
    """What can be split: a document, a fact."""

    @property
    def id(self) -> str:
        """Unique."""
        ...

    @property
    def date(self) -> PartialDate | None:
        """None where it is not known."""
        ...


T = TypeVar("T", bound=Dated)


@dataclass(frozen=True)
class Document:
    """A text as it was written."""

    id: str
    """Unique within a corpus; the split depends on it, so it must not change from run to run."""
    text: str
    """The words, unchanged."""
    date: PartialDate | None
    """When it was written or published; None where nobody says."""
    source: str
    """Where it comes from, for people to read; nothing is computed from it."""


@dataclass(frozen=True)
class Fact:
    """A dated statement that can be asked for: subject, relation, object."""

    id: str
    """Unique within a corpus; the split depends on it, so it must not change from run to run."""
    date: PartialDate
    """When it happened."""
    subject: str
    """What the statement is about."""
    relation: str
    """Names the templates that turn the fact into sentences."""
    object: str
    """The answer."""
    category: str
    """Kind of fact, for results by kind."""
    source: str
    """Where it comes from, for people to read; nothing is computed from it."""
    alternate: str | None
    """Another answer than the true one, in the place of the subject or object that the wordings ask for; None where
    the data has none."""
    popularity: float | None
    """How well known it is, in the data's own unit, as page views or links; None where the data does not say."""

    @property
    def year(self) -> int:
        """Astronomical year of the date."""
        return self.date.year
