"""Cutoffs under one another: the year and its interval of each run where it is pinned, else the status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from menard_unlearn.report.figures import Figure
from menard_unlearn.report.study import Run, Study, boundary
from menard_unlearn.report.style import Look
from menard_unlearn.report.years import forget_period, span_of

FITS = {"cutoff_change": "where what the base knew is lost (A2)", "cutoff": "where answers end (A1)"}
"""Prefix of a summary row's keys → what was fitted; the headline first."""
ROW = 23
"""Pixels of a group's row."""
ABREAST = 0.6
"""Part of the row over which the seeds of a group are spread."""


def cutoff_figures(study: Study) -> list[Figure]:
    """A panel a fit, with a row a group."""
    span = span_of(study.runs)
    shown = {prefix: [run for run in study.runs if run.row.get(f"{prefix}_status") is not None] for prefix in FITS}
    some = {run.group for runs in shown.values() for run in runs}
    groups = [group for group in study.looks if group in some]
    return [
        _panel(study, prefix, title, shown[prefix], groups, span) for prefix, title in FITS.items() if shown[prefix]
    ]


def _panel(study: Study, prefix: str, title: str, runs: Sequence[Run], groups: list[str], span: list[float]) -> Figure:
    data: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    for row, group in enumerate(groups):
        own = [run for run in runs if run.group == group]
        for place, run in enumerate(own):
            if run.row.get(f"{prefix}_year") is not None:
                y = row + ABREAST * ((place + 0.5) / len(own) - 0.5)
                data.append(_interval(run, y, prefix, study.looks[group], len(own) > 1))
        others = Counter(str(run.row[f"{prefix}_status"]) for run in own if run.row.get(f"{prefix}_year") is None)
        if others:
            notes.append(_note(others, row, span, len(own) > 1))
    pinned = len(data)
    layout = {
        "xaxis": {"title": {"text": "year"}, "range": span, "nticks": 7, "tickformat": "d"},
        "yaxis": {
            "title": {"text": ""},
            "tickvals": list(range(len(groups))),
            "ticktext": groups,
            "range": [len(groups) - 0.4, -0.6],
            "showgrid": False,
        },
        "shapes": forget_period(boundary(runs), span),
        "annotations": notes,
        "hovermode": "closest",
        "showlegend": False,
        "height": 76 + ROW * len(groups),
    }
    if not data:  # an empty plot would have axes of its own choosing
        data = [{"type": "scatter", "mode": "markers", "x": [None], "y": [0]}]
    return Figure(f"cutoffs-{prefix}", title, f"{pinned} of {len(runs)} pinned", data, layout, "")


def _interval(run: Run, y: float, prefix: str, look: Look, several: bool) -> dict[str, Any]:
    middle, low, high = (run.row[f"{prefix}_{part}"] for part in ("year", "low", "high"))
    name = f"{run.group}, seed {run.seed}" if several else run.group
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [middle],
        "y": [y],
        "name": name,
        "marker": {"color": look.colour, "symbol": look.symbol, "size": 6 if several else 9},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [high - middle],
            "arrayminus": [middle - low],
            "color": look.colour,
            "thickness": 1.5,
            "width": 2,
        },
        "hovertemplate": f"{middle:.1f} [{low:.1f}, {high:.1f}]<extra>{name}</extra>",
    }


def _note(statuses: Counter[str], row: int, span: list[float], several: bool) -> dict[str, Any]:
    """The statuses in the place of points: at the end of the axis that they speak of, else at the beginning."""
    words = [f"{status} ×{count}" if several and count > 1 else status for status, count in statuses.items()]
    text, late = ", ".join(words), set(statuses) == {"right-censored"}
    text = f"{text} →" if late else f"← {text}" if set(statuses) == {"left-censored"} else text
    x, anchor = (span[1], "right") if late else (span[0], "left")
    font = {"size": 11, "color": "@muted"}
    place = {"x": x, "y": row, "xanchor": anchor, "xshift": -4 if late else 4}
    return {**place, "text": text, "showarrow": False, "font": font}
