"""What a run has to show, item by item, so that it can be compared with what a tracker's server has of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from menard_unlearn.tracking.tracker import Tracker, Value, identity, named


@dataclass(frozen=True)
class Item:
    """One thing that a server has to have."""

    kind: Literal["row", "table", "page", "artifact", "summary"]
    key: str
    """A row's identity; the name of anything else."""
    shown: str
    """For people: `row of step 12 (train/loss, …)`."""
    value: Any
    """A row's figures; kind, path and metadata of an artifact; a scalar; None of a table or page."""
    send: Callable[[Tracker], None]
    """Say it to a tracker."""


class Collector(Tracker):
    """A tracker that only takes note."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self._rows: set[str] = set()

    def log(self, row: Mapping[str, Value]) -> None:
        """A row, once however often it is logged."""
        full = named(row)
        place = full.get("train/step", full.get("eval/year"))
        shown = f"row of {'step' if 'train/step' in full else 'year'} {place} ({', '.join(sorted(full)[:2])}, …)"
        key = identity(full)
        if key not in self._rows:
            self._rows.add(key)
            self.items.append(Item("row", key, shown, full, lambda tracker: tracker.log(row)))

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Value]]) -> None:
        """A table."""
        self.items.append(Item("table", key, f"table {key}", None, lambda tracker: tracker.table(key, columns, rows)))

    def html(self, key: str, text: str) -> None:
        """A page."""
        self.items.append(Item("page", key, f"page {key}", None, lambda tracker: tracker.html(key, text)))

    def artifact(self, name: str, kind: str, path: Path, metadata: Mapping[str, Value]) -> None:
        """A file or folder."""
        self.items.append(
            Item(
                "artifact",
                name,
                f"artifact {name}",
                (kind, path, dict(metadata)),
                lambda tracker: tracker.artifact(name, kind, path, metadata),
            )
        )

    def summary(self, values: Mapping[str, Value]) -> None:
        """Scalars, one by one."""
        for key, value in values.items():
            if value is not None:
                self.items.append(Item("summary", key, f"scalar {key}", value, _scalar(key, value)))


def _scalar(key: str, value: Value) -> Callable[[Tracker], None]:
    return lambda tracker: tracker.summary({key: value})
