"""What the page shows: runs of one study or of several, as their directories hold them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from menard_unlearn.corpus.dating import parse_date
from menard_unlearn.report.state import State
from menard_unlearn.report.style import REFERENCES, Look, looks


@dataclass(frozen=True)
class Run:
    """What the page shows of one run."""

    row: dict[str, Any]
    """As in summary.json: what is not measured is None."""
    study: str
    """Its study's folder, with as much of the path as tells it from the others on the page."""
    group: str
    """What stands for it: its method, and where several configurations of that are shown, what tells them apart. Runs
    of a group differ in their seeds alone."""
    href: str
    """Its directory, as the page links to it."""
    log_href: str | None
    """What its job printed, as the page links to it; None where that is not known."""
    path: Path
    """Its directory, as it was found."""
    state: State
    bins: tuple[dict[str, Any], ...]
    """Recall by year: the bins of evaluation/curve.json; empty where it was not evaluated."""
    tokens: dict[str, Any] | None
    """evaluation/target_tokens.json."""
    history: tuple[dict[str, Any], ...]
    """Rows of history.jsonl; empty for base and gold."""
    config: dict[str, Any]
    """The resolved configuration; empty where none was written."""
    seconds: float | None
    """What its finished stages took together; None where none is finished."""

    def result(self, name: str) -> dict[str, Any] | None:
        """What evaluation/<name>.json holds, read when first asked for; None where there is none."""
        if name not in self._results:
            self._results[name] = read_json(self.path / "evaluation" / f"{name}.json")
        return self._results[name]

    @cached_property
    def kept(self) -> dict[str, Any]:
        """What was counted once and is asked for again."""
        return {}

    @cached_property
    def _results(self) -> dict[str, dict[str, Any] | None]:
        return {}

    @property
    def method(self) -> str:
        """The method's name, or base or gold."""
        return str(self.row["method"])

    @property
    def seed(self) -> int | None:
        """None for base and gold."""
        return self.row.get("seed")

    @property
    def name(self) -> str:
        """The run directory's name."""
        return str(self.row["run"])

    @property
    def is_reference(self) -> bool:
        """Whether it is base or gold."""
        return self.method in REFERENCES


@dataclass(frozen=True)
class Study:
    """The runs of a page, references first, then group by group."""

    name: str
    """The page's title."""
    places: tuple[Path, ...]
    """Folders as they were given."""
    runs: tuple[Run, ...]
    asides: tuple[Run, ...]
    """Runs that ask something else of a model (`summary.ASIDES`), the newest first: no rows of any table of methods."""

    @property
    def groups(self) -> tuple[str, ...]:
        """Every group once, references left out."""
        return tuple(dict.fromkeys(run.group for run in self.runs if not run.is_reference))

    def of(self, group: str) -> tuple[Run, ...]:
        """The runs of a group, by seed."""
        return tuple(run for run in self.runs if run.group == group)

    @property
    def all_runs(self) -> tuple[Run, ...]:
        """Those of the study and the asides."""
        return (*self.runs, *self.asides)

    def beside(self, runs: Sequence[Run], methods: Iterable[str]) -> list[Run]:
        """The first reference of each name out of the study to which the first of these runs belongs."""
        studies = [run.study for run in runs or self.runs][:1]
        own = [run for run in self.runs if run.study in studies]
        found = (next((run for run in own if run.method == method), None) for method in methods)
        return [run for run in found if run is not None]

    @cached_property
    def looks(self) -> dict[str, Look]:
        """Colour, marker and dash of every group, references included."""
        return looks({run.group: run.method for run in self.runs})

    @property
    def has_seeds(self) -> bool:
        """Whether runs are told apart by their seeds."""
        return len({run.seed for run in self.runs if not run.is_reference}) > 1

    def setting(self, *path: str) -> str | None:
        """A configuration value of the methods' runs as text, joined where they differ; None where none has it. A study
        without runs of methods has its references', and one without these its asides'."""
        values = settings([run for run in self.runs if not run.is_reference] or self.runs or self.asides, path)
        more = f" and {len(values) - 3} more" if len(values) > 4 else ""
        return ", ".join(values[:3] if more else values) + more if values else None


def settings(runs: Iterable[Run], path: Sequence[str]) -> list[str]:
    """The values that the runs' configurations have at a path, each once."""
    found = (_at(run.config, path) for run in runs)
    return list(dict.fromkeys(str(value) for value in found if value is not None))


def boundary(runs: Iterable[Run]) -> float | None:
    """Where the cutoff lies on an axis of years, 1939.5 for 1939-12-31; None where the runs do not share one.

    Facts of a year are drawn at that whole number, as the fitted cutoffs count: a year ends at one half past it.
    """
    given = settings(runs, ("split", "cutoff"))
    try:
        cutoff = parse_date(given[0]) if len(given) == 1 else None
    except ValueError:
        return None
    if cutoff is None:
        return None
    year, month, day = cutoff.latest
    return year - 0.5 + (month - 1 + day / cutoff.latest_day_of_month) / 12


def read_json(path: Path) -> dict[str, Any] | None:
    """What a file holds; None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _at(node: Any, path: Sequence[str]) -> Any:
    for key in path:
        node = node.get(key) if isinstance(node, dict) else None
    return node
