"""Cutoffs of all runs under one another: the year and its interval where it is pinned, else the status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from menard_unlearn.report.figures import Figure
from menard_unlearn.report.study import Run, Study
from menard_unlearn.report.style import Look, looks
from menard_unlearn.report.years import forget_period, span_of

FITS = {"cutoff_change": "where what the base knew is lost (A2)", "cutoff": "where answers end (A1)"}
"""Prefix of a summary row's keys → what was fitted; the headline first."""
ROW = 21
"""Pixels of a run."""


def cutoff_figures(study: Study) -> list[Figure]:
    """A panel a fit, with a line a run."""
    bins = span_of(study.runs)
    shown = {prefix: [run for run in study.runs if run.row.get(f"{prefix}_status") is not None] for prefix in FITS}
    return [_panel(study, prefix, title, shown[prefix], bins) for prefix, title in FITS.items() if shown[prefix]]


def _panel(study: Study, prefix: str, title: str, runs: Sequence[Run], span: list[float]) -> Figure:
    found, seeds = looks(study.methods), any(len(study.of(method)) > 1 for method in study.methods)
    names = [_name(run, seeds) for run in runs]
    pinned = [(run, name) for run, name in zip(runs, names, strict=True) if run.row.get(f"{prefix}_year") is not None]
    others = [(run, name) for run, name in zip(runs, names, strict=True) if run.row.get(f"{prefix}_year") is None]
    data = [_interval(run, name, prefix, found[run.method]) for run, name in pinned]
    notes = [_note(str(run.row[f"{prefix}_status"]), name, span) for run, name in others]
    layout = {
        "xaxis": {"title": {"text": "year"}, "range": span, "nticks": 8, "tickformat": "d"},
        "yaxis": {
            "title": {"text": ""},
            "type": "category",
            "categoryorder": "array",
            "categoryarray": names[::-1],
            "range": [-0.6, len(names) - 0.4],
            "automargin": True,
        },
        "shapes": forget_period(study.boundary, span),
        "annotations": notes,
        "hovermode": "closest",
        "height": 90 + ROW * len(names),
    }
    if not data:  # an axis of categories wants a point
        data = [{"type": "scatter", "mode": "markers", "x": [None], "y": [names[0]], "showlegend": False}]
    return Figure(f"cutoffs-{prefix}", title, f"{len(pinned)} of {len(runs)} pinned", data, layout)


def _name(run: Run, seeds: bool) -> str:
    return f"{run.method} s{run.seed}" if seeds and not run.is_reference else run.method


def _interval(run: Run, name: str, prefix: str, look: Look) -> dict[str, Any]:
    middle, low, high = (run.row[f"{prefix}_{part}"] for part in ("year", "low", "high"))
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [middle],
        "y": [name],
        "name": name,
        "showlegend": False,
        "marker": {"color": look.colour, "symbol": look.symbol, "size": 9, "line": {"width": 1.5}},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [high - middle],
            "arrayminus": [middle - low],
            "color": look.colour,
            "thickness": 2,
            "width": 4,
        },
        "hovertemplate": f"{middle:.1f} [{low:.1f}, {high:.1f}]<extra>{name}</extra>",
    }


def _note(status: str, name: str, span: list[float]) -> dict[str, Any]:
    """The status in the place of a point: at the end of the axis that it speaks of, else at the beginning."""
    x, anchor = (span[1], "right") if status == "right-censored" else (span[0], "left")
    text = {"left-censored": "← left-censored", "right-censored": "right-censored →"}.get(status, status)
    return {"x": x, "y": name, "text": text, "showarrow": False, "xanchor": anchor, "font": {"size": 11}}
