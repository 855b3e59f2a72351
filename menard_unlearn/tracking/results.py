"""A finished evaluation, as wandb can chart it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from menard_unlearn.tracking.result_tables import result_tables
from menard_unlearn.tracking.tracker import Tracker, Value

PLACES = frozenset({"run", "run_dir"})
"""Keys of a summary row that say where a run lies on this machine."""


def log_results(
    tracker: Tracker,
    *,
    summary_row: Mapping[str, Value],
    bins: Sequence[Mapping[str, Value]],
    pages: Mapping[str, str],
    found: Mapping[str, Mapping[str, Any]],
) -> None:
    """Log what an evaluation found: flat scalars, the curve by year twice over, tables, and heat maps.

    Args:
        tracker: the run's.
        summary_row: the run's object of summary.json.
        bins: the bins of evaluation/curve.json, each with `year`.
        pages: HTML by its name: maps of the target's tokens, without words unless the target is published.
        found: what each file of evaluation/ holds, by its name. Its numbers, texts and nested objects of such become
            `<name>/<key>/…`, some lists tables (`result_tables`); other lists are left to the files.
    """
    if bins:
        columns = sorted({key for row in bins for key in row} - {"year"})
        rows = [[row["year"], *(row.get(column) for column in columns)] for row in bins]
        tracker.table("eval/by_year", ["year", *columns], rows)
    for row in bins:
        measured = {f"curve/{key}": value for key, value in row.items() if isinstance(value, int | float)}
        measured.pop("curve/year", None)
        tracker.log({"eval/year": row["year"], **measured})
    for key, page in pages.items():
        tracker.html(key, page)
    for table in result_tables(found):
        tracker.table(table.key, table.columns, table.rows)
    tracker.summary({f"final/{key}": value for key, value in summary_row.items() if key not in PLACES})
    tracker.summary({key: value for name, content in found.items() for key, value in _flat(name, content)})


def _flat(name: str, content: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{name}/{key}", value)
        elif isinstance(value, int | float | str):
            yield f"{name}/{key}", value


def log_delta(tracker: Tracker, *, name: str, delta: Path, digests: Mapping[str, str]) -> None:
    """Hand the changed weights over as an artifact, with the digests of everything they were made from.

    Args:
        tracker: the run's.
        name: name of the run; the artifact is called `delta-<name>`.
        delta: delta.safetensors.
        digests: SHA-256 by name: base model, data, and the delta itself.
    """
    if delta.exists():
        tracker.artifact(f"delta-{name}", "delta", delta, dict(digests))
