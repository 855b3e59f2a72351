"""Training, term by term: a row a group, a small panel a column of history.jsonl."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

from menard_unlearn.report.figures import FULL_RUNS, Figure, panel, rounded
from menard_unlearn.report.grid import tag
from menard_unlearn.report.study import Run, Study

POINTS_AT_MOST = 240
"""Points of a curve that are drawn; of a longer one the least and the greatest of each stretch are kept."""
HEIGHT = 150
"""Pixels of a panel."""
TITLES = {"loss": "loss, the sum", "grad_norm": "norm of the gradient"}
"""Column → heading of its panel, where that is not its name."""
NOT_DRAWN = frozenset({"step", "learning_rate", "epoch", "seconds"})
"""Numbers of history.jsonl that are set, not found."""


def curve_figures(study: Study) -> dict[str, list[Figure]]:
    """Group → its panels: the whole loss, every term of it, the gradient's norm, and what was evaluated meanwhile."""
    most = min(POINTS_AT_MOST, POINTS_AT_MOST * FULL_RUNS // max(len(study.runs), 1) + 2)
    found: dict[str, list[Figure]] = {}
    for place, group in enumerate(study.groups):
        runs = [run for run in study.of(group) if run.history]
        colour = study.looks[group].colour
        panels = [
            course(
                f"curve-{place}-{n}", TITLES.get(name, name.replace("eval/", "evaluated: ")), runs, name, colour, most
            )
            for n, name in enumerate(_columns(runs))
        ]
        if panels:
            found[group] = panels
    return found


def curves(study: Study, found: dict[str, list[Figure]]) -> str:
    """The rows as HTML."""
    rows = []
    for group, panels in found.items():
        runs = study.of(group)
        ends = [(run.state.why, run.seed) for run in runs if run.state.why]
        more = f" (and {len(ends) - 1} more)" if len(ends) > 1 else ""
        seed = f"seed {ends[0][1]}: " if ends and len(runs) > 1 else ""
        note = f"<span>{html.escape(seed + ends[0][0] + more)}</span>" if ends else ""
        drawn = "".join(map(panel, panels))
        heading = f'<h3 class="over">{html.escape(group)}{note}</h3>'
        rows.append(f'<div class="course"{tag(study, group)}>{heading}<div class="panels small">{drawn}</div></div>')
    return "".join(rows)


def _columns(runs: Sequence[Run]) -> list[str]:
    """Names of what is drawn, in the order of the panels."""
    rows = (row for run in runs for row in run.history)
    names = dict.fromkeys(key for row in rows for key, value in row.items() if _is_number(value))
    terms = [name for name in names if "/" not in name and name not in (*NOT_DRAWN, "loss", "grad_norm")]
    whole = ["loss"] if "loss" in names and len(terms) != 1 else []  # the sum of one term is that term
    norm = ["grad_norm"] if "grad_norm" in names else []
    return [*whole, *terms, *norm, *(name for name in names if name.startswith("eval/"))]


def course(id: str, title: str, runs: Sequence[Run], name: str, colour: str, most: int) -> Figure:
    """A small panel of a column of history.jsonl, a line a run, of at most so many points each."""
    shown = [run for run in runs if any(_is_number(row.get(name)) for row in run.history)]
    layout = {
        "xaxis": {"title": {"text": ""}, "rangemode": "tozero", "nticks": 5},
        "yaxis": {"title": {"text": ""}, "nticks": 4},
        "hovermode": "x unified",
        "showlegend": False,
        "height": HEIGHT,
    }
    data = [_curve(run, name, colour, most, several=len(shown) > 1) for run in shown]
    return Figure(id, title, "", data, layout, "")


def _curve(run: Run, name: str, colour: str, most: int, *, several: bool) -> dict[str, Any]:
    rows = [(row["step"], row[name]) for row in run.history if _is_number(row.get(name))]
    kept = thinned(rows, most)
    return {
        "type": "scatter",
        "mode": "lines" if len(kept) > 1 else "markers",
        "name": f"seed {run.seed}",
        **_steps([step for step, _ in kept]),
        "y": [rounded(value) for _, value in kept],
        "line": {"color": colour, "width": 1.1 if several else 1.6},
        "opacity": 0.7 if several else 1,
        "hovertemplate": "%{y:.4g}",
    }


def _steps(steps: list[int]) -> dict[str, Any]:
    """The axis' values; of an unbroken row of steps only the first."""
    unbroken = steps == list(range(steps[0], steps[0] + len(steps)))
    return {"x0": steps[0], "dx": 1} if unbroken else {"x": steps}


def thinned(rows: Sequence[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """At most so many of the points, first and last among them, and of every stretch the least and the greatest: no
    peak is lost, as it is where every n-th point is kept."""
    if len(rows) <= most:
        return list(rows)
    inner = rows[1:-1]
    size = -(-len(inner) * 2 // (most - 2))
    kept: list[tuple[int, float]] = [rows[0]]
    for start in range(0, len(inner), size):
        stretch = inner[start : start + size]
        kept += sorted({min(stretch, key=lambda row: row[1]), max(stretch, key=lambda row: row[1])})
    return [*kept, rows[-1]]


def _is_number(value: Any) -> bool:
    """Whether it can be drawn: a loss that overflowed cannot."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def all_of(found: dict[str, list[Figure]]) -> Iterable[Figure]:
    """Every panel, group by group."""
    return (figure for panels in found.values() for figure in panels)
