"""Recall by year, a panel a group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from menard_unlearn.report.figures import FULL_RUNS, Figure, rounded
from menard_unlearn.report.grid import tag
from menard_unlearn.report.study import Run, Study, boundary
from menard_unlearn.report.style import Look

DRAWN = ("base", "gold")
"""References that every panel shows."""


def year_figures(study: Study) -> list[Figure]:
    """A panel a group, with base and gold of its study for reference; those alone where nothing was unlearned yet."""
    groups = [(group, [run for run in study.of(group) if run.bins]) for group in study.groups]
    panels = [_panel(study, f"year-{place}", group, runs) for place, (group, runs) in enumerate(groups) if runs]
    alone = not study.groups and any(run.bins for run in study.beside([], DRAWN))
    return [_panel(study, "year", "base and gold", [])] if alone else panels


def _panel(study: Study, id: str, title: str, runs: Sequence[Run]) -> Figure:
    references = [run for run in study.beside(runs, DRAWN) if run.bins]
    span, seeds = span_of(study.runs), len(runs) > 1
    told = len(study.runs) <= FULL_RUNS * 2
    data = [_curve(run, study.looks[run.group], 1.2, seeds=False, told=told) for run in references]
    for run in runs:
        look = study.looks[run.group]
        data += [_band(run, look, 1 / len(runs)), _curve(run, look, 1.5 if seeds else 2.2, seeds=seeds, told=told)]
    shapes = forget_period(boundary(runs or references), span)
    layout = {
        "xaxis": {"title": {"text": "year of the fact"}, "range": span, "nticks": 8, "tickformat": "d"},
        "yaxis": {"title": {"text": ""}, "range": [-0.02, 1.04], "dtick": 0.25, "tickformat": ".0%"},
        "shapes": sum((_cutoff(run, study.looks[run.group]) for run in runs), shapes),
        "hovermode": "x unified",
        "showlegend": False,
    }
    return Figure(id, title, _found(runs), data, layout, tag(study, title))


def _found(runs: Sequence[Run]) -> str:
    """The runs' cutoffs in few words: years where pinned, else statuses."""
    years = [(run.row.get("cutoff_year"), run.row.get("cutoff_status")) for run in runs]
    found = [str(status or "not measured") if year is None else f"{year:.1f}" for year, status in years]
    return f"cutoff: {', '.join(dict.fromkeys(found))}" if found else ""


def span_of(runs: Iterable[Run]) -> list[float]:
    """From the first year with probes to the last, as the range of an axis."""
    bins = [row for run in runs for row in run.bins]
    return [min(row["year"] for row in bins) - 0.5, max(_last_year(row) for row in bins) + 0.5] if bins else [0, 1]


def _last_year(row: dict[str, Any]) -> int:
    return row["year"] + row["width"] - 1


def _middles(run: Run) -> list[float]:
    return [(row["year"] + _last_year(row)) / 2 for row in run.bins]


def _curve(run: Run, look: Look, width: float, *, seeds: bool, told: bool) -> dict[str, Any]:
    line: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines" if run.is_reference or seeds else "lines+markers",  # markers of several seeds hide each other
        "name": f"seed {run.seed}" if seeds else run.group,
        "x": _middles(run),
        "y": [rounded(row["recall"]) for row in run.bins],
        "line": {"color": look.colour, "width": width, "dash": look.dash if run.is_reference else "solid"},
        "marker": {"symbol": look.symbol, "size": 5},
        "hovertemplate": "%{y:.1%}",
    }
    if told and not run.is_reference:
        line["customdata"] = [[_years(row), row["n"], rounded(row["low"]), rounded(row["high"])] for row in run.bins]
        line["hovertemplate"] += (
            " [%{customdata[2]:.1%}, %{customdata[3]:.1%}]<br>%{customdata[0]}, %{customdata[1]} probes"
        )
    return line


def _band(run: Run, look: Look, opacity: float) -> dict[str, Any]:
    known = [(x, row) for x, row in zip(_middles(run), run.bins, strict=True) if row["low"] is not None]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [x for x, _ in known] + [x for x, _ in reversed(known)],
        "y": [rounded(row["high"]) for _, row in known] + [rounded(row["low"]) for _, row in reversed(known)],
        "fill": "toself",
        "opacity": opacity,
        "fillcolor": f"{look.colour}/band",
        "line": {"width": 0},
        "hoverinfo": "skip",
    }


def _years(row: dict[str, Any]) -> str:
    return f"{row['year']}" if row["width"] == 1 else f"{row['year']}–{_last_year(row)}"


def forget_period(boundary: float | None, span: Sequence[float]) -> list[dict[str, Any]]:
    """The years to be forgotten, shaded."""
    if boundary is None:
        return []
    box = {"x0": boundary, "x1": max(span[1], boundary), "y0": 0, "y1": 1}
    return [{"type": "rect", "yref": "paper", **box, "fillcolor": "@shade", "line": {"width": 0}, "layer": "below"}]


def _cutoff(run: Run, look: Look) -> list[dict[str, Any]]:
    """The run's cutoff (A1) as a line and its interval as a bar along the top; nothing where it is not pinned."""
    row = run.row
    if row.get("cutoff_year") is None:
        return []
    line = {"color": look.colour, "width": 1.6, "dash": "dash"}
    middle = {"type": "line", "yref": "paper", "x0": row["cutoff_year"], "x1": row["cutoff_year"], "y0": 0, "y1": 1}
    interval = {"type": "rect", "yref": "paper", "x0": row["cutoff_low"], "x1": row["cutoff_high"], "y0": 0.97, "y1": 1}
    return [middle | {"line": line}, interval | {"fillcolor": look.colour, "line": {"width": 0}}]
