"""Surprise at dated texts, a panel a group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from menard_unlearn.report.cells import result
from menard_unlearn.report.figures import Figure
from menard_unlearn.report.grid import tag
from menard_unlearn.report.study import Run, Study, boundary
from menard_unlearn.report.style import Look
from menard_unlearn.report.years import DRAWN, forget_period

ALPHA = 0.01
"""A jump of the surprisal curve counts where its p-value is at most this."""

surprisal = result("surprisal")


def dated_figures(study: Study) -> list[Figure]:
    """Surprise by year, a panel a group, with base and gold for reference; those alone where there is no method."""
    bounds = [row["year"] for run in study.runs for row in _rows(run)]
    if not bounds:
        return []
    span = [min(bounds) - 0.5, max(bounds) + 0.5]
    if not study.groups:
        return [_panel(study, "surprisal", "base and gold", [], span)]
    groups = [(group, [run for run in study.of(group) if _rows(run)]) for group in study.groups]
    return [
        _panel(study, f"surprisal-{place}", group, runs, span) for place, (group, runs) in enumerate(groups) if runs
    ]


def _rows(run: Run) -> list[dict[str, Any]]:
    found = surprisal(run)
    return [] if found is None else [row for row in found["years"] if row["excess"] is not None]


def _panel(study: Study, id: str, title: str, runs: Sequence[Run], span: list[float]) -> Figure:
    references = [run for run in study.beside(runs, DRAWN) if _rows(run)]
    shapes = forget_period(boundary(runs or references), span)
    for run in runs:
        shapes += _jump(run, study.looks[run.group])
    layout = {
        "xaxis": {"title": {"text": "year of the text"}, "range": span, "nticks": 8, "tickformat": "d"},
        "yaxis": {"title": {"text": "bits/byte above earlier texts"}, "nticks": 6},
        "shapes": shapes,
        "hovermode": "x unified",
        "showlegend": False,
    }
    shown = runs or references[-1:]
    jumps = dict.fromkeys(f"{jump_of(run):.1f}" if jump_of(run) is not None else "no jump" for run in shown)
    note = f"jump: {', '.join(jumps)}".replace("jump: no jump", "no jump")
    data = [_curve(run, study.looks[run.group], several=len(runs) > 1) for run in (*references, *runs)]
    return Figure(id, title, note, data, layout, tag(study, title))


def _curve(run: Run, look: Look, *, several: bool) -> dict[str, Any]:
    rows = _rows(run)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": run.group if run.is_reference or not several else f"seed {run.seed}",
        **_years([row["year"] for row in rows]),
        "y": [float(f"{row['excess']:.2f}") for row in rows],  # less cannot be seen
        "line": {
            "color": look.colour,
            "width": 1.4 if run.is_reference or several else 2,
            "dash": look.dash if run.is_reference else "solid",
        },
        "hovertemplate": "%{y:.2f}",
    }


def _years(years: list[int]) -> dict[str, Any]:
    """The axis' values; of an unbroken row of years only the first."""
    first = years[0]
    unbroken = years == list(range(first, first + len(years)))
    return {"x0": first, "dx": 1} if unbroken else {"x": years}


def jump_of(run: Run) -> float | None:
    """Where the curve jumps; None where nothing says that it does."""
    found = surprisal(run)
    p = None if found is None else found["change_p_value"]
    return found["change_year"] if found is not None and p is not None and p <= ALPHA else None


def _jump(run: Run, look: Look) -> list[dict[str, Any]]:
    """The jump as a line, and its interval as a bar along the top."""
    found, x = surprisal(run), jump_of(run)
    if found is None or x is None:
        return []
    line = {"type": "line", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1}
    bar = {"type": "rect", "yref": "paper", "x0": found["change_low"], "x1": found["change_high"], "y0": 0.97, "y1": 1}
    shown = {"color": look.colour, "width": 1.6, "dash": "dash"}
    return [line | {"line": shown}, bar | {"fillcolor": look.colour, "line": {"width": 0}}]
