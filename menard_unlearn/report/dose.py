"""How much of a feature helps: what a clamp of each strength gives the target, and whether the model writes sense.

Beside the feature stand the difference of means and random controls of the same dose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from menard_unlearn.report.asides import Aside, course, heading, newest, not_computed, older
from menard_unlearn.report.cells import mark
from menard_unlearn.report.figures import Figure, panel, rounded
from menard_unlearn.report.plain import inline, percent_of
from menard_unlearn.report.scales import log_axis, squeezed, squeezed_axis
from menard_unlearn.report.study import Study

STATUSES = {
    "found": "a dose that helps the target more than control texts, and more than random controls of that dose do",
    "no_gain": "within the limit of coherence no dose helps the target more than control texts",
    "not_better_than_random": "at the best dose random controls help as much too often",
    "none_within_limit": "at every dose the model writes what it would not, or nothing",
}
"""Status of dose_response.json → what it says."""
PANELS = {
    "steering": "S: gain beyond control texts’, nats a token",
    "delta": "gain of the target, nats a token",
    "coherence": "C: nats a token of what is written",
}
"""Key of a row → heading of its panel."""
DRAWN = {"feature": ("@m0", "circle", "solid"), "difference_of_means": ("@m1", "diamond", "dash")}
"""Kind → colour, symbol, dash; random controls are grey."""
RANDOM = {"random_feature": "solid", "random_direction": "dot"}
HEIGHT = 260

Row = Mapping[str, Any]


def dose_figures(study: Study) -> list[Figure]:
    """Three panels a run, of the newest runs."""
    return [one for place, aside in enumerate(newest(study, "dose_response")) for one in _panels(place, aside.found)]


def doses(study: Study) -> str:
    """The newest runs, one below the other; "" of none."""
    parts = []
    for place, aside in enumerate(newest(study, "dose_response")):
        panels = "".join(map(panel, _panels(place, aside.found)))
        parts.append(
            course([_heading(aside), _verdict(aside.found), f'<div class="panels fit">{panels}</div>', _left(aside)])
        )
    return "".join(parts) + older(study, "dose_response")


def _heading(aside: Aside) -> str:
    found = aside.found
    return heading(aside.run, f"feature {found['feature']} after layer {found['layer']}")


def _left(aside: Aside) -> str:
    return not_computed(aside, aside.found["left_out"])


def _verdict(found: Row) -> str:
    """The status in words, with the figures of the best dose."""
    words = f"{mark(found['status'].replace('_', ' '), found['status'])} {STATUSES.get(found['status'], '')}."
    best = next((row for row in found["rows"] if row["kind"] == "feature" and row["k"] == found["best_k"]), None)
    if best is not None:
        words += (
            f" The best dose is k = {best['k']:g}: S = {inline(best, 'steering', '+.3f')}, of it the target’s gain "
            f"{inline(best, 'delta', '+.3f')}. {percent_of(found['random_features_at_least'])} of the random features "
            f"and {percent_of(found['random_directions_at_least'])} of the random directions do as well "
            f"(p = {found['p_value']:.2g})."
        )
    texts = f"{found['n_tokens']:,} tokens of the target, {found['n_controls']} control texts"
    return f'<p class="said">{words} <span class="seed">{texts}.</span></p>'


def _panels(place: int, found: Row) -> list[Figure]:
    return [_panel(f"dose-{place}-{key}", key, found) for key in PANELS]


def _panel(id: str, key: str, found: Row) -> Figure:
    is_coherence = key == "coherence"
    limit = _limit(found)
    values = [
        row[end] for row in found["rows"] for end in (key, f"{key}_low", f"{key}_high") if row.get(end) is not None
    ]
    shown = [*values, limit, found["unclamped"]["coherence"]] if is_coherence else values
    known = [value for value in shown if value is not None]
    axis = log_axis(known) if is_coherence else squeezed_axis(known)
    data = [_controls(found, kind, key) for kind in RANDOM]
    for kind in DRAWN:
        rows = [row for row in found["rows"] if row["kind"] == kind and row[key] is not None]
        data += (
            [_line(rows, kind, key, found)] if is_coherence else [_band(rows, kind, key), _line(rows, kind, key, found)]
        )
    ks = [row["k"] for row in found["rows"]]
    layout = {
        "xaxis": {"title": {"text": "k, largest activations of the feature"}, **_doses(ks)},
        "yaxis": {"title": {"text": ""}, **({"type": "log"} if is_coherence else {}), **axis},
        "shapes": _lines(found, limit if is_coherence else None, is_coherence),
        "hovermode": "x unified",
        "showlegend": False,
        "height": HEIGHT,
    }
    return Figure(id, PANELS[key], "", data, layout, "")


def _doses(ks: Sequence[float]) -> dict[str, Any]:
    """The axis of doses: logarithmic, unless there are doses below 0."""
    ticks = sorted(set(ks))
    if ticks[0] <= 0:
        return {"tickvals": ticks, "ticktext": [f"{k:g}" for k in ticks]}
    return {**log_axis(ks), "tickvals": ticks, "ticktext": [f"{k:g}" for k in ticks]}


def _limit(found: Row) -> float | None:
    plain = found["unclamped"]["coherence"]
    return None if plain is None else plain + found["coherence_limit"]


def _height(value: float | None, key: str) -> float | None:
    return rounded(value) if key == "coherence" else squeezed(value)


def _controls(found: Row, kind: str, key: str) -> dict[str, Any]:
    """All random controls of a kind as one line with gaps; where they were measured at one dose alone, as points."""
    rows = [row for row in found["rows"] if row["kind"] == kind and row[key] is not None]
    names = list(dict.fromkeys(row["name"] for row in rows))
    x: list[float | None] = []
    y: list[float | None] = []
    for name in names:
        own = sorted((row for row in rows if row["name"] == name), key=lambda row: row["k"])
        x += [*(row["k"] for row in own), None]
        y += [*(_height(row[key], key) for row in own), None]
    return {
        "type": "scatter",
        "mode": "markers" if key == "coherence" else "lines",
        "name": kind.replace("_", " "),
        "x": x,
        "y": y,
        "line": {"color": "@reference", "width": 0.9, "dash": RANDOM[kind]},
        "marker": {"color": "@reference", "size": 4, "symbol": "circle" if kind == "random_feature" else "x"},
        "opacity": 0.55,
        "hoverinfo": "skip",
    }


def _band(rows: Sequence[Row], kind: str, key: str) -> dict[str, Any]:
    known = [row for row in rows if row[f"{key}_low"] is not None]
    colour, *_ = DRAWN[kind]
    there, back = [row["k"] for row in known], [row["k"] for row in reversed(known)]
    high = [squeezed(row[f"{key}_high"]) for row in known]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": there + back,
        "y": high + [squeezed(row[f"{key}_low"]) for row in reversed(known)],
        "fill": "toself",
        "fillcolor": f"{colour}/band",
        "line": {"width": 0},
        "hoverinfo": "skip",
    }


def _line(rows: Sequence[Row], kind: str, key: str, found: Row) -> dict[str, Any]:
    """A point a dose; hollow where what is written is beyond the limit of coherence."""
    colour, symbol, dash = DRAWN[kind]
    limit = _limit(found)
    inside = [limit is not None and row["coherence"] is not None and row["coherence"] <= limit for row in rows]
    line = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": kind.replace("_", " "),
        "x": [row["k"] for row in rows],
        "y": [_height(row[key], key) for row in rows],
        "line": {"color": colour, "width": 2 if kind == "feature" else 1.4, "dash": dash},
        "marker": {"symbol": [symbol if one else f"{symbol}-open" for one in inside], "size": 7, "color": colour},
        "customdata": [_told(row, key) for row in rows],
        "hovertemplate": "%{customdata}",
    }
    if key == "coherence":
        line["error_y"] = {
            "type": "data",
            "array": [rounded(row["coherence_se"]) for row in rows],
            "color": colour,
            "thickness": 1.1,
            "width": 2,
        }
    return line


def _told(row: Row, key: str) -> str:
    if key == "coherence":
        se = "" if row["coherence_se"] is None else f" ± {row['coherence_se']:.2f}"
        distinct = "" if row["distinct_2"] is None else f", {row['distinct_2']:.0%} of bigrams distinct"
        return f"{row[key]:.2f}{se}{distinct}"
    low, high = row[f"{key}_low"], row[f"{key}_high"]
    return f"{row[key]:+.3f}" + ("" if low is None else f" [{low:+.3f}, {high:+.3f}]")


def _lines(found: Row, limit: float | None, is_coherence: bool) -> list[dict[str, Any]]:
    """The best dose upright; across, the unclamped level, and of coherence the limit."""
    across: dict[str, Any] = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "layer": "below"}
    level = found["unclamped"]["coherence"] if is_coherence else 0
    lines = []
    if level is not None:
        lines.append({**across, "y0": level, "y1": level, "line": {"color": "@muted", "width": 1}})
    if limit is not None:
        line = {"color": "@ink", "width": 1.3, "dash": "dash"}
        lines.append({**across, "y0": limit, "y1": limit, "line": line})
    if found["best_k"] is not None:
        best = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": found["best_k"], "x1": found["best_k"]}
        lines.append({**best, "layer": "below", "line": {"color": "@m0", "width": 1.4, "dash": "dot"}})
    return lines
