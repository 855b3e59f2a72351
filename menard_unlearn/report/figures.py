"""Figures as plotly's own JSON, with colours by name (see `style`).

Plain dictionaries: the page needs plotly's JavaScript, not its Python package.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from menard_unlearn.report.study import Run, Study
from menard_unlearn.report.style import REFERENCES, Look, looks

LINES_AT_MOST = 240
"""Points of a loss curve that are drawn; a longer one is thinned evenly, the last point kept."""
FULL_RUNS = 8
"""With more runs than this loss curves are thinned in proportion, and with twice as many the curves by year tell no
intervals where one points at them: the page stays small."""
NOT_TERMS = frozenset({"step", "loss", "learning_rate", "grad_norm", "epoch", "seconds"})
"""Columns of history.jsonl that are not a method's named terms."""


@dataclass(frozen=True)
class Figure:
    """A plotly figure, and the heading above it with a note beside it."""

    id: str
    title: str
    note: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]


def pareto_figures(study: Study) -> list[Figure]:
    """What was forgotten against what was kept, for the facts of the two sets and for those that were held out."""
    pairs = (
        ("pareto-trained", "Facts of the forget and retain sets", "forget_recall", "retain_recall"),
        ("pareto-heldout", "Held-out facts of the same years", "heldout_forget_recall", "heldout_retain_recall"),
    )
    return [_pareto(study, *pair) for pair in pairs if any(_point(run, *pair[2:]) for run in study.runs)]


def _point(run: Run, forget: str, retain: str) -> tuple[float, float] | None:
    x, y = run.row.get(forget), run.row.get(retain)
    return None if x is None or y is None else (x, y)


def _pareto(study: Study, id: str, title: str, forget: str, retain: str) -> Figure:
    found = looks(study.methods)
    points = [(run, point) for run in study.runs if (point := _point(run, forget, retain))]
    best = front([point for run, point in points if not run.is_reference])
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "front",
            "x": [x for x, _ in best],
            "y": [y for _, y in best],
            "line": {"color": "@muted", "width": 1.2, "shape": "hv", "dash": "dot"},
            "hoverinfo": "skip",
            "showlegend": len(best) > 1,
        }
    ]
    for method in (*REFERENCES, *study.methods):
        own = [(run, point) for run, point in points if run.method == method]
        if own:
            data.append(_markers(method, own, found[method]))
    axis = {"range": [-0.04, 1.04], "dtick": 0.25, "tickformat": ".0%"}
    layout = {
        "xaxis": {**axis, "title": {"text": "still recalled of what was to be forgotten (lower is better)"}},
        "yaxis": {**axis, "title": {"text": "recalled of what was to be kept"}},
        "legend": {"orientation": "h", "y": -0.24, "x": 0.5, "xanchor": "center"},
        "hovermode": "closest",
    }
    return Figure(id, title, "", data, layout)


def _markers(method: str, own: list[tuple[Run, tuple[float, float]]], look: Look) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": method,
        "x": [rounded(x) for _, (x, _) in own],
        "y": [rounded(y) for _, (_, y) in own],
        "text": [run.name for run, _ in own],
        "marker": {"color": look.colour, "symbol": look.symbol, "size": 12, "opacity": 0.85, "line": {"width": 1.5}},
        "hovertemplate": "%{text}<br>forget %{x:.1%}, retain %{y:.1%}<extra></extra>",
    }


def front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats: none has a smaller x with at least its y, nor a larger y with at most its x."""
    best: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or y > best[-1][1]:
            best.append((x, y))
    return best


def loss_figures(study: Study) -> list[Figure]:
    """Every named term of the loss by step, a panel a method."""
    panels = []
    for number, method in enumerate(study.methods):
        runs = [run for run in study.of(method) if run.history]
        terms = list(dict.fromkeys(name for run in runs for row in run.history for name in row if _is_term(name)))
        names = terms if len(terms) == 1 else ["loss", *terms]  # the sum of one term is that term
        most = min(LINES_AT_MOST, LINES_AT_MOST * FULL_RUNS // len(study.runs) + 1)
        lines = [_loss(run, name, terms, most) for run in runs for name in names]
        shown: set[str] = set()
        for line in lines:
            line["showlegend"] = line["name"] not in shown  # one entry a term, however many seeds
            shown.add(line["name"])
        if lines:
            layout = {
                "xaxis": {"title": {"text": "step"}, "rangemode": "tozero"},
                "yaxis": {"title": {"text": ""}},
                "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
                "hovermode": "x unified",
            }
            stops = dict.fromkeys(f"stopped: {run.stopped}" for run in runs if run.stopped)
            panels.append(Figure(f"loss-{number}", method, ", ".join(stops), lines, layout))
    return panels


def _is_term(name: str) -> bool:
    return name not in NOT_TERMS and "/" not in name and "." not in name


def _loss(run: Run, name: str, terms: Sequence[str], most: int) -> dict[str, Any]:
    rows = [row for row in run.history if isinstance(row.get(name), int | float)]
    every = math.ceil(len(rows) / most) or 1
    kept = [*rows[:-1][::every], *rows[-1:]]
    place = terms.index(name) if name in terms else None
    whole = {"color": "@ink", "width": 1.8, "dash": "solid"}
    part = {"color": f"@m{(place or 0) % 6}", "width": 1.8, "dash": ("dash", "dot", "dashdot")[(place or 0) % 3]}
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "sum" if place is None else name,
        "x": [row["step"] for row in kept],
        "y": [rounded(row[name]) for row in kept],
        "line": whole if place is None else part,
        "legendgroup": name,
        "hovertemplate": "%{y:.4g}",
    }


def rounded(value: float | None) -> float | None:
    """Four significant digits: more cannot be seen, and they would double the page."""
    return None if value is None else float(f"{value:.4g}")
