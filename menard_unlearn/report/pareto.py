"""What was forgotten against what was damaged: a point a group, with its spread, and the front of the best."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from menard_unlearn.report.cells import Source, result
from menard_unlearn.report.figures import Figure, rounded
from menard_unlearn.report.labels import mark_boxes, placed
from menard_unlearn.report.recalls import recalls
from menard_unlearn.report.study import Run, Study
from menard_unlearn.report.style import Look

NAME_AT_MOST = 24
"""Letters of a name that stands beside its mark; the key has the longer ones."""
SHARES = (-0.04, 1.06)
"""Range of an axis of recalls; the axes of what is measured against the base end where its points do."""
EDGE = 0.08
"""Share of the points' extent that those axes have beyond them."""


@dataclass(frozen=True)
class Axis:
    """One of the two measures of a figure."""

    source: Source
    """Where a run's figure lies."""
    key: str
    """Its name; `<key>_low` and `<key>_high` are the ends of its interval, where it has one."""
    title: str
    """Beside the axis, with an arrow to where it is better."""
    short: str
    """Where one points at a point."""


@dataclass(frozen=True)
class Point:
    """A group on an axis: the mean of its seeds and the outermost of them, or a single run and its interval."""

    middle: float
    low: float
    high: float


FIGURES = (
    (
        "pareto-base",
        "Measured against the base",
        Axis(result("prompted"), "damage", "kept facts lost ↓", "kept facts lost"),
        Axis(result("prompted"), "forgotten", "forgotten facts lost ↑", "forgotten facts lost"),
    ),
    (
        "pareto-trained",
        "Facts of the forget and retain sets",
        Axis(recalls, "forget_recall", "forgotten facts still recalled ↓", "forgotten facts"),
        Axis(recalls, "retain_recall", "kept facts recalled ↑", "kept facts"),
    ),
    (
        "pareto-heldout",
        "Held-out facts of the same years",
        Axis(recalls, "heldout_forget_recall", "forgotten facts still recalled ↓", "forgotten facts"),
        Axis(recalls, "heldout_retain_recall", "kept facts recalled ↑", "kept facts"),
    ),
)
"""Identity, heading, and the two axes; of each figure the upper left is the better corner."""


def pareto_figures(study: Study) -> list[Figure]:
    """The figures for which some run has both measures."""
    drawn = (_pareto(study, *figure) for figure in FIGURES)
    return [figure for figure in drawn if figure is not None]


def _pareto(study: Study, id: str, title: str, across: Axis, up: Axis) -> Figure | None:
    points: dict[str, tuple[Point, Point, list[Run]]] = {}
    for group in dict.fromkeys(run.group for run in study.runs):
        runs = [run for run in study.of(group) if _has(run, across) and _has(run, up)]
        if runs:
            points[group] = (_point(runs, across), _point(runs, up), runs)
    if not points:
        return None
    best = front((x.middle, y.middle) for group, (x, y, _) in points.items() if group in study.groups)
    ranges = (SHARES, SHARES)
    if id == "pareto-base":
        ranges = (_extent(x for x, _, _ in points.values()), _extent(y for _, y, _ in points.values()))
    named = _named(points, best, ranges)
    data = [_front(best)]
    for group, (x, y, runs) in points.items():
        meta = {"meta": study.groups.index(group)} if group in study.groups else {}
        traces = _traces(group, named.get(group), (x, y), runs, (across, up), study.looks[group])
        data += [trace | meta for trace in traces]
    axis = {"tickformat": ".0%", "nticks": 6}
    whole = {} if id == "pareto-base" else {"dtick": 0.25}
    layout = {
        "xaxis": {**axis, **whole, "range": list(ranges[0]), "title": {"text": across.title}},
        "yaxis": {**axis, **whole, "range": list(ranges[1]), "title": {"text": up.title}},
        "hovermode": "closest",
        "showlegend": False,
    }
    return Figure(id, title, _spread(points.values()), data, layout, "")


def _extent(points: Iterable[Point]) -> tuple[float, float]:
    """From the lowest to the highest end, and a little further."""
    ends = [end for point in points for end in (point.low, point.high)]
    low, high = min(ends), max(ends)
    more = EDGE * (high - low) or EDGE
    return low - more, high + more


def _named(
    points: Mapping[str, tuple[Point, Point, list[Run]]],
    best: Sequence[tuple[float, float]],
    ranges: tuple[tuple[float, float], tuple[float, float]],
) -> dict[str, str]:
    """The places of the names that stand beside their marks: those of the front and references, where there is room."""
    places = {
        group: tuple(
            [(end - low) / (high - low) for end in (found.middle, found.low, found.high)]
            for found, (low, high) in zip((x, y), ranges, strict=True)
        )
        for group, (x, y, _) in points.items()
    }
    wanted = {
        group: (places[group][0][0], places[group][1][0])
        for group, (x, y, runs) in points.items()
        if len(group) <= NAME_AT_MOST and ((x.middle, y.middle) in best or runs[0].is_reference)
    }
    return placed(wanted, (box for x, y in places.values() for box in mark_boxes(x, y)))


def _has(run: Run, axis: Axis) -> bool:
    found = axis.source(run)
    return found is not None and found.get(axis.key) is not None


def _point(runs: Sequence[Run], axis: Axis) -> Point:
    rows = [found for run in runs if (found := axis.source(run)) is not None]
    values = [row[axis.key] for row in rows]
    if len(values) > 1:
        return Point(statistics.fmean(values), min(values), max(values))
    low, high = (rows[0].get(f"{axis.key}_{end}") for end in ("low", "high"))
    return Point(values[0], values[0] if low is None else low, values[0] if high is None else high)


def _spread(points: Iterable[tuple[Point, Point, list[Run]]]) -> str:
    """What the bars mean, where there are any."""
    seeds = any(len(runs) > 1 for *_, runs in points)
    intervals = any(len(runs) == 1 and x.low < x.high for x, _, runs in points)
    if not seeds:
        return "bars: 95 % intervals" if intervals else ""
    return "bars: lowest to highest seed" + (", or a single run’s 95 % interval" if intervals else "")


def _front(best: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Steps between the best, with a ring about each."""
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": "front",
        "x": [rounded(x) for x, _ in best],
        "y": [rounded(y) for _, y in best],
        "line": {"color": "@muted", "width": 1.2, "shape": "hv", "dash": "dot"},
        "marker": {"symbol": "circle-open", "size": 21, "color": "@muted", "line": {"width": 1.2}},
        "hoverinfo": "skip",
    }


def _traces(
    group: str, place: str | None, point: tuple[Point, Point], runs: Sequence[Run], axes: tuple[Axis, Axis], look: Look
) -> list[dict[str, Any]]:
    """The group's point with its bars, and its seeds as dots where there are several."""
    (x, y), (across, up) = point, axes
    told = f"<b>{group}</b>" + (f", mean of {len(runs)} seeds" if len(runs) > 1 else "")
    told += "".join(f"<br>{axis.short}: {_shown(found)}" for axis, found in ((across, x), (up, y)))
    if len(runs) > 1:
        points = [(run.seed, _point([run], across).middle, _point([run], up).middle) for run in runs]
        told += "".join(f"<br>seed {seed}: {left:.1%}, {right:.1%}" for seed, left, right in points)
    middle: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers" if place is None else "markers+text",
        "name": group,
        "x": [rounded(x.middle)],
        "y": [rounded(y.middle)],
        "text": [] if place is None else [f"\u2002{group}\u2002"],
        "textposition": place or "bottom right",
        "textfont": {"size": 11, "color": "@muted"},
        "marker": {"color": look.colour, "symbol": look.symbol, "size": 11, "line": {"width": 1, "color": "@paper"}},
        "hovertemplate": f"{told}<extra></extra>",
    }
    for name, found in (("error_x", x), ("error_y", y)):
        if found.low < found.high:
            middle[name] = _bars(found, look)
    if len(runs) < 2:
        return [middle]
    return [_seeds(runs, axes, look), middle]


def _shown(point: Point) -> str:
    ends = f" [{point.low:.1%}, {point.high:.1%}]" if point.low < point.high else ""
    return f"{point.middle:.1%}{ends}".replace("-", "\N{MINUS SIGN}")


def _bars(point: Point, look: Look) -> dict[str, Any]:
    ends = {"array": [rounded(point.high - point.middle)], "arrayminus": [rounded(point.middle - point.low)]}
    return {"type": "data", "symmetric": False, **ends, "color": look.colour, "thickness": 1.3, "width": 3}


def _seeds(runs: Sequence[Run], axes: tuple[Axis, Axis], look: Look) -> dict[str, Any]:
    x, y = ([rounded(_point([run], axis).middle) for run in runs] for axis in axes)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"{runs[0].group}, seeds",
        "x": x,
        "y": y,
        "marker": {"color": look.colour, "size": 4, "opacity": 0.6},
        "hoverinfo": "skip",  # the mark tells them
    }


def front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats: none has a smaller x with at least its y, nor a larger y with at most its x."""
    best: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or y > best[-1][1]:
            best.append((x, y))
    return best
