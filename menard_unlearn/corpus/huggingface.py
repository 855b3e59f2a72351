"""Documents from anything that `datasets` can load: a name on the Hub, a folder, or files of JSON, CSV or Parquet."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import datasets
from datasets.exceptions import DatasetsError

from menard_unlearn.corpus.jsonl import documents_from_rows
from menard_unlearn.corpus.sources import Corpus, CorpusData, at_least_one, corpus_data, require_columns
from menard_unlearn.errors import UserError, in_one_line


@dataclass(frozen=True)
class HuggingFace(Corpus):
    """A dataset with a text and a date in each row. No code of the dataset's is ever run."""

    path: str
    """Name on the Hub, a folder, or a format (json, csv, parquet, text) of which `data_files` names the files."""
    name: str | None
    """Configuration of the dataset; null for the only one."""
    data_files: tuple[str, ...]
    """Files to read; empty for all that the dataset names."""
    revision: str | None
    """Commit, tag or branch on the Hub. Only a commit makes a run repeatable; null is the newest."""
    split: str
    """Split, with datasets' own slices: train, train[:10%]."""
    streaming: bool
    """Read row by row and store nothing, for what is larger than the disk; slices then do not work, `limit` does."""
    text_column: str
    """Column of the text."""
    date_column: str
    """Column of the date: text, a year, or a date. Rows without one are undated, and the split says what becomes of
    them."""
    id_column: str | None
    """Column of the id; null makes ids from text and date."""
    limit: int | None
    """The first so many rows; null for all. There is no more to it: rows that are sorted by date are cut at a date."""

    def __post_init__(self) -> None:
        at_least_one("limit", self.limit)

    def load(self) -> CorpusData:
        """The documents of the split, or of its first `limit` rows."""
        where = "/".join(part for part in (self.path, self.name, self.split) if part)
        rows = {f"row {number}": row for number, row in enumerate(self._rows(where))}
        return corpus_data(
            documents=documents_from_rows(where, rows, self.text_column, self.date_column, self.id_column)
        )

    def _rows(self, where: str) -> list[dict[str, object]]:
        try:
            rows = datasets.load_dataset(
                self.path,
                self.name,
                data_files=list(self.data_files) or None,
                revision=self.revision,
                split=self.split,
                streaming=self.streaming,
            )
            if rows.column_names is not None:
                # a stream may not know its columns before its first row; known ones that nobody needs are not decoded
                used = [column for column in (self.text_column, self.date_column, self.id_column) if column is not None]
                require_columns(where, rows.column_names, used)
                rows = rows.select_columns(used)
            return list(islice(rows, self.limit))
        except (DatasetsError, OSError, ValueError, RuntimeError) as error:
            reason = in_one_line(error)
            raise UserError(
                f"dataset {where} cannot be loaded ({type(error).__name__}: {reason}): check corpus.path, corpus.name, "
                "corpus.split and corpus.data_files; without a network, give a folder, or corpus.path=parquet and "
                "corpus.data_files=[file]"
            ) from error
