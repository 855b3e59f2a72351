"""Works by one author and by others: what a feature of the author is found with, and what it is told from.

The unit is the work. What is held out are whole works and whole authors, so two works of the author and two others are
the least that is accepted.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from menard_unlearn.config import near
from menard_unlearn.corpus.almanac import HERE
from menard_unlearn.corpus.dating import PartialDate, parse_date
from menard_unlearn.corpus.sources import existing, parse_dates, read_rows, read_text, refuse_bad
from menard_unlearn.corpus.split import first_five, quotes_target
from menard_unlearn.corpus.texts import passage
from menard_unlearn.errors import UserError
from menard_unlearn.files import canonical, digest_text

EMBEDDED_AUTHOR = "Ambrose Velk"
"""Who wrote the package's own works: invented, like the five authors that they are told from."""
DATED = re.compile(r"(?P<date>-?\d{4}(?:-\d{2}){0,2})[\s_]+(?P<title>.+)")


@dataclass(frozen=True)
class Work:
    """A text of one author, never shown in a log."""

    author: str
    title: str
    """Unique among the author's."""
    date: PartialDate | None
    """When it was written or published; None where nobody says."""
    text: str = field(repr=False)

    @property
    def id(self) -> str:
        """Author and title."""
        return f"{self.author}/{self.title}"


@dataclass(frozen=True)
class AuthorsData:
    """What a source holds, in the order of ids: made by `authors_data`."""

    author: str
    """Whose feature is asked for."""
    own: tuple[Work, ...]
    """Works of this author, two or more."""
    others: tuple[Work, ...]
    """Works of the controls, of two authors or more."""
    left_out: tuple[str, ...]
    """Works that were there and may not be used, and why."""
    digest: str
    """SHA-256 of the author's name and of all works: authors, titles, dates, texts."""


class Authors(ABC):
    """A kind of source. Each is a frozen dataclass whose values stand in conf/authors/<name>.yaml."""

    @abstractmethod
    def load(self) -> AuthorsData:
        """Read all of it. Raises UserError where something is missing, unreadable, undatable or empty, or where
        nothing could be held out."""


def authors_data(author: str, own: Iterable[Work], others: Iterable[Work], left_out: Sequence[str] = ()) -> AuthorsData:
    """Put works in order and hash them. Raises UserError for empty texts, repeated titles and too few works."""
    own, others = (tuple(sorted(side, key=lambda work: work.id)) for side in (own, others))
    every = (*own, *others)
    refuse_bad("authors", "works are empty", [w.id for w in every if not w.text.strip()], "remove them, or fill them")
    seen: set[str] = set()
    twice = [work.id for work in every if work.id in seen or seen.add(work.id)]
    refuse_bad("authors", "works stand there twice", twice, "give each of an author's works a title of its own")
    _refuse_few(author, own, others, left_out)
    content = [[work.author, work.title, str(work.date), work.text] for work in every]
    return AuthorsData(author, own, others, tuple(left_out), digest_text(canonical([author, content])))


def _refuse_few(author: str, own: Sequence[Work], others: Sequence[Work], left_out: Sequence[str]) -> None:
    """Without a work of the author and a control to hold out, a feature could not be told from a coincidence."""
    without = f"; left out: {first_five(left_out)}" if left_out else ""
    if len(own) < 2:
        there = f"one work by {author!r} ({own[0].title})" if own else f"no document by {author!r}"
        raise UserError(
            f"{there}: give two works or more, one is held out; a collection may be cut into its pieces{without}"
        )
    names = sorted({work.author for work in others})
    if len(names) < 2:
        there = f"one author beside {author!r} ({names[0]})" if names else f"no author beside {author!r}"
        raise UserError(f"{there}: give works by two others or more as controls, one author is held out{without}")


def apart_from(data: AuthorsData, target: str) -> AuthorsData:
    """The data without the works that share eight words in a row with the target, which are named in `left_out`.

    A feature chosen on the target's own words would answer for memory where style is asked for. Raises UserError
    where too little is left.
    """
    quoting = {work.id for work in (*data.own, *data.others) if quotes_target(work.text, target)}
    if not quoting:
        return data
    own, others = ([work for work in side if work.id not in quoting] for side in (data.own, data.others))
    left_out = [*data.left_out, *(f"{name}: shares 8 words in a row with the target" for name in sorted(quoting))]
    return authors_data(data.author, own, others, left_out)


@dataclass(frozen=True)
class FolderAuthors(Authors):
    """Text files in folders. A date may stand before the title: `1933 Title.txt`, `1933-05 Title.txt`."""

    own: str
    """Folder of the author's works, a .txt file each."""
    others: str
    """Folder with a folder for each other author, named by the author and holding .txt files. One of the author's own
    name, or the folder `own` itself, is passed over."""
    author: str
    """The author's name, for results."""

    def load(self) -> AuthorsData:
        """The texts as they are, but for white space around them."""
        folder, own = existing(self.others, "authors.others"), existing(self.own, "authors.own")
        inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        loose = [path.name for path in inside if path.suffix == ".txt"]
        refuse_bad(self.others, "texts lie in no author's folder", loose, "make one folder an author, of his name")
        apart = [p for p in inside if p.is_dir() and p.name != self.author and not p.samefile(own)]
        others = {path.name: _works(path, path.name) for path in apart}
        bare = [name for name, works in others.items() if not works]
        refuse_bad(self.others, "authors' folders hold no .txt file", bare, "fill them or remove them")
        return authors_data(self.author, _works(own, self.author), [w for works in others.values() for w in works])


def _works(folder: Path, author: str) -> list[Work]:
    """The .txt files of a folder."""
    if not folder.is_dir():
        raise UserError(f"{folder} is a file: give the folder of the author's .txt files, one a work")
    return [_work(path, author) for path in sorted(folder.glob("*.txt"))]


def _work(path: Path, author: str) -> Work:
    text = read_text(path).lstrip("\ufeff").strip()
    dated = DATED.fullmatch(path.stem)
    if dated is None:
        return Work(author, path.stem, None, text)
    try:
        return Work(author, dated["title"], parse_date(dated["date"]), text)
    except ValueError as error:
        raise UserError(f"{path}: {error}; name it '1933 Title.txt', or without a date") from error


@dataclass(frozen=True)
class EmbeddedAuthors(Authors):
    """Eight pieces in the manner of the embedded target and ten in five others', written for this project; needs no
    file and no network."""

    def load(self) -> AuthorsData:
        """All eighteen."""
        folder = HERE / "authors"
        return FolderAuthors(str(folder / EMBEDDED_AUTHOR), str(folder), EMBEDDED_AUTHOR).load()


@dataclass(frozen=True)
class ManifestAuthors(Authors):
    """UTF-8 files and a CSV manifest with the columns file, year, date, author and work (or title)."""

    folder: str
    """Folder to which the manifest's paths are relative."""
    manifest: str
    """The CSV file."""
    author: str
    """The author, as the manifest writes the name."""
    others: list[str] | None
    """Authors to tell from, as the manifest writes them; null is all others."""
    era_years: int | None
    """Only controls dated within so many years of the author's own works, first to last: else the feature found may be
    one of an age. null takes all."""
    max_bytes: int | None
    """Bytes of each work that are read, a passage at a place that its file's name decides; null reads all."""

    def __post_init__(self) -> None:
        if self.era_years is not None and self.era_years < 0:
            raise UserError(f"authors.era_years {self.era_years} is negative: give 0 or more, or null for all years")
        if self.max_bytes is not None and self.max_bytes < 1:
            raise UserError(f"authors.max_bytes {self.max_bytes} is not allowed: give 1 or more, or null for all")

    def load(self) -> AuthorsData:
        """The texts as they are; the dates as precise as the manifest has them."""
        rows = read_rows(existing(self.manifest, "authors.manifest"), ("file", "year", "date", "author"))
        titled = next((name for name in ("work", "title") if rows and name in rows[0]), None)
        if titled is None:
            raise UserError(f"{self.manifest} has no row with a work or title: give each text its work's title")
        rows = self._chosen(rows)
        dates = parse_dates(self.manifest, {row["file"]: row["date"].strip() or row["year"] for row in rows})
        if len(dates) < len(rows):
            raise UserError(f"{self.manifest} names {len(rows) - len(dates)} files twice: remove the repeated rows")
        own, others = ([row for row in rows if (row["author"] == self.author) is side] for side in (True, False))
        if self.era_years is not None:
            others = self._contemporary(own, others, dates, self.era_years)
        folder = existing(self.folder, "authors.folder")
        gone = [row["file"] for row in (*own, *others) if not (folder / row["file"]).is_file()]
        refuse_bad(self.manifest, f"files are not in {self.folder}", gone, "correct authors.folder or the manifest")

        def work(row: Mapping[str, str]) -> Work:
            text = read_text(folder / row["file"])
            kept = text if self.max_bytes is None else passage(text, self.max_bytes, row["file"])
            return Work(row["author"], row[titled], dates[row["file"]], kept)

        return authors_data(self.author, map(work, own), map(work, others))

    def _chosen(self, rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
        """Rows of the author and of the others that are asked for."""
        there = sorted({row["author"] for row in rows})
        for name in (self.author, *(self.others or ())):
            if name not in there:
                hint = near(name, there)
                raise UserError(f"{self.manifest} has no document by {name!r}{hint}; it has: {first_five(there)}")
        wanted = there if self.others is None else (self.author, *self.others)
        return [row for row in rows if row["author"] in wanted]

    def _contemporary(
        self,
        own: Sequence[dict[str, str]],
        others: Sequence[dict[str, str]],
        dates: Mapping[str, PartialDate | None],
        within: int,
    ) -> list[dict[str, str]]:
        """The others' rows whose year is near enough."""
        year = {file: date.year for file, date in dates.items() if date is not None}
        undated = [row["file"] for row in (*own, *others) if row["file"] not in year]
        refuse_bad(self.manifest, "works have no date", undated, "date them, or set authors.era_years=null")
        years = [year[row["file"]] for row in own]
        near_by = range(min(years) - within, max(years) + within + 1)
        kept = [row for row in others if year[row["file"]] in near_by]
        if not kept:
            raise UserError(
                f"no control within {within} years of {self.author!r} ({min(years)} to {max(years)}): "
                "raise authors.era_years, or set it to null"
            )
        return kept
