"""A study's folder as the page reads it: a `Run` for each object of summary.json, with the files that it left."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from menard_unlearn.corpus.dating import parse_date
from menard_unlearn.errors import UserError
from menard_unlearn.report.style import REFERENCES
from menard_unlearn.run import RunDir


@dataclass(frozen=True)
class Run:
    """What the page shows of one run."""

    row: dict[str, Any]
    """The run's object of summary.json."""
    bins: tuple[dict[str, Any], ...]
    """Recall by year: the bins of evaluation/curve.json; empty where it was not evaluated."""
    tokens: dict[str, Any] | None
    """evaluation/target_tokens.json."""
    history: tuple[dict[str, Any], ...]
    """Rows of history.jsonl; empty for base and gold."""
    config: dict[str, Any]
    """The resolved configuration; empty where the run directory is gone."""
    finished_at: str | None
    """When the run's last stage ended, ISO 8601 in UTC."""
    stopped: str | None
    """Why training ended before its last step; None where it did not."""
    evaluation_dir: Path
    """Where the instruments' files lie."""

    def result(self, name: str) -> dict[str, Any] | None:
        """What evaluation/<name>.json holds, read when first asked for; None where there is none."""
        if name not in self._results:
            self._results[name] = _read_json(self.evaluation_dir / f"{name}.json")
        return self._results[name]

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
    """All runs of a study, references first, then method by method."""

    name: str
    folder: Path
    runs: tuple[Run, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """Every method once, references left out."""
        return tuple(dict.fromkeys(run.method for run in self.runs if not run.is_reference))

    def of(self, method: str) -> tuple[Run, ...]:
        """The runs of a method or reference, by seed."""
        return tuple(run for run in self.runs if run.method == method)

    def setting(self, *path: str) -> str | None:
        """A configuration value of the methods' runs as text, joined where they differ; None where none has it."""
        runs = [run for run in self.runs if not run.is_reference] or self.runs
        found = (_at(run.config, path) for run in runs)
        values = list(dict.fromkeys(str(value) for value in found if value is not None))
        return ", ".join(values) if values else None

    @property
    def boundary(self) -> float | None:
        """Where the cutoff lies on an axis of years, 1939.5 for 1939-12-31; None where the runs do not share one.

        Facts of a year are drawn at that whole number, as the fitted cutoffs count: a year ends at one half past it.
        """
        try:
            cutoff = parse_date(self.setting("split", "cutoff"))
        except ValueError:
            return None
        if cutoff is None:
            return None
        year, month, day = cutoff.latest
        return year - 0.5 + (month - 1 + day / cutoff.latest_day_of_month) / 12


def read_study(folder: Path) -> Study:
    """Read a study.

    Raises:
        UserError: there is no summary.json, or it holds no run.
    """
    path = folder / "summary.json"
    if not path.is_file():
        raise UserError(f"{folder} has no summary.json: give a study's folder, runs/<study>, with finished runs in it")
    rows = json.loads(path.read_text(encoding="utf-8"))
    if not rows:
        raise UserError(f"{folder} has no finished run: menard status {folder} lists what was begun")
    runs = [_read_run(folder, row) for row in rows]
    order = [*REFERENCES, *(run.method for run in runs)]
    runs.sort(key=lambda run: (order.index(run.method), run.seed if run.seed is not None else -1))
    return Study(folder.resolve().name, folder, tuple(runs))


def _read_run(folder: Path, row: dict[str, Any]) -> Run:
    # Where the study's folder was moved or copied, its runs went along, and `run_dir` names where they used to be.
    beside = folder / str(row["run"])
    run = RunDir(beside if beside.is_dir() else Path(row["run_dir"]))
    curve = _read_json(run.evaluation_dir / "curve.json")
    manifests = [json.loads(path.read_text(encoding="utf-8")) for path in run.path.glob("*.manifest.json")]
    return Run(
        row=row,
        bins=tuple(curve["bins"]) if curve else (),
        tokens=_read_json(run.evaluation_dir / "target_tokens.json"),
        history=tuple(run.read_history()),
        config=run.read_config() if run.config_path.is_file() else {},
        finished_at=max((manifest["finished_at"] for manifest in manifests), default=None),
        stopped=next((why for manifest in manifests if (why := manifest["results"].get("stopped"))), None),
        evaluation_dir=run.evaluation_dir,
    )


def _read_json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _at(node: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        node = node.get(key) if isinstance(node, dict) else None
    return node
