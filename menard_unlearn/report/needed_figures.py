"""Context needed, in figures: what the target costs after more and more context, and the law of it.

Legend: D draws, L lengths, T scored tokens, C points of a curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from menard_unlearn.report.asides import Aside, newest
from menard_unlearn.report.figures import Figure, rounded
from menard_unlearn.report.scales import doubling_axis
from menard_unlearn.report.study import Run, Study

KINDS = {
    "own": ("@m0", "circle", "the target after its own contexts"),
    "shuffled": ("@m1", "diamond-open", "the same contexts, tokens shuffled"),
    "other": ("@m2", "square-open", "another author’s contexts"),
    "other_target": ("@m3", "triangle-up-open", "another text after the target’s contexts"),
}
"""Kind → colour, symbol, meaning."""
BEYOND = 16
"""The law is drawn to so many times the longest context, or to the length that it says is needed."""
FARTHEST = 2**20
"""Times the longest context beyond which nothing is drawn."""
POINTS = 40
HEIGHT = 320

Model = Mapping[str, Any]


def needed_figures(study: Study) -> list[Figure]:
    """A panel a model, of the newest runs."""
    return [one for place, aside in enumerate(newest(study, "context")) for one in panels_of(place, aside)]


def kinds(study: Study) -> list[str]:
    """The kinds that are drawn, in their order."""
    found = {
        kind
        for aside in newest(study, "context")
        for model in aside.found["models"].values()
        for kind in _curves(model)
    }
    return [kind for kind in KINDS if kind in found]


def _curves(model: Model) -> dict[str, list[dict[str, Any]]]:
    return {"own": model["curve"], **{kind: found["curve"] for kind, found in model["placebos"].items()}}


def panels_of(place: int, aside: Aside) -> list[Figure]:
    """A panel a model of a run; `place` is the run's among those shown."""
    models = aside.found["models"].items()
    return [_panel(f"needed-{place}-{n}", name, aside.run, model) for n, (name, model) in enumerate(models)]


def _panel(id: str, name: str, run: Run, model: Model) -> Figure:
    ends = [row[end] for rows in _curves(model).values() for row in rows for end in ("nats", "high")]
    top = max(end for end in ends if end is not None)
    lengths = [row["tokens"] for row in model["curve"]]
    farthest, answer = _farthest(model, lengths[-1]), model["answer"]
    data = [_draws(run, name, lengths), *(_curve(kind, rows) for kind, rows in reversed(_curves(model).items()))]
    data += [*_law(model, lengths, farthest), *_length(answer, lengths[-1])]
    layout = {
        "xaxis": {"title": {"text": "tokens of context"}, **doubling_axis(lengths[0], farthest)},
        "yaxis": {"title": {"text": "nats a token"}, "range": [-0.03 * top, 1.05 * top], "nticks": 6},
        "shapes": _shapes(answer, lengths[-1], farthest),
        "annotations": [_named(answer)],
        "hovermode": "closest",
        "showlegend": False,
        "height": HEIGHT,
    }
    return Figure(id, name, f"{model['n_draws']} draws, {model['n_tokens']:,} tokens", data, layout, "")


def _farthest(model: Model, longest: int) -> float:
    """Where the axis ends: at the length needed where it is known, beyond the longest measured where there is a law."""
    decades = model["answer"]["quantiles"].get("high", {}).get("decades") if model["answer"]["decades"] else None
    if decades is not None:
        return longest * min(10 ** (decades * 1.05), FARTHEST)
    return longest * BEYOND if _has_law(model) else longest


def _has_law(model: Model) -> bool:
    return model["law"] is not None and not model["law"]["beta_at_bound"]


def _draws(run: Run, name: str, lengths: Sequence[int]) -> dict[str, Any]:
    """Every draw as a point, where the run kept what each gave."""
    path = run.path / "evaluation" / "context_tokens.npz"
    x: list[int] = []
    y: list[float | None] = []
    if path.is_file():
        with np.load(path) as arrays:
            nats_DL = -arrays[f"{name}/own"].mean(2)
        for row_L in nats_DL.tolist():
            x += lengths
            y += map(rounded, row_L)
    marker = {"color": "@m0", "size": 4, "opacity": 0.45}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "draws",
        "x": x,
        "y": y,
        "marker": marker,
        "hoverinfo": "skip",
    }


def _curve(kind: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The means with their intervals; of the target's own contexts heavier, and without a line: the law is one."""
    colour, symbol, meaning = KINDS[kind]
    is_own = kind == "own"
    ends = [(row["low"], row["high"]) for row in rows]
    intervals = ["" if low is None else f" [{low:.3f}, {high:.3f}]" for low, high in ends]
    return {
        "type": "scatter",
        "mode": "markers" if is_own else "lines+markers",
        "name": meaning,
        "x": [row["tokens"] for row in rows],
        "y": [rounded(row["nats"]) for row in rows],
        "line": {"color": colour, "width": 1.1},
        "marker": {"color": colour, "symbol": symbol, "size": 8 if is_own else 6},
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [
                None if high is None else rounded(high - row["nats"]) for row, (_, high) in zip(rows, ends, strict=True)
            ],
            "arrayminus": [
                None if low is None else rounded(row["nats"] - low) for row, (low, _) in zip(rows, ends, strict=True)
            ],
            "color": colour,
            "thickness": 1.5 if is_own else 0.7,
            "width": 3 if is_own else 0,
        },
        "customdata": intervals,
        "hovertemplate": "%{x:,} tokens: %{y:.3f}%{customdata}<extra>" + meaning + "</extra>",
    }


def _law(model: Model, lengths: Sequence[int], farthest: float) -> list[dict[str, Any]]:
    """The floor law over the lengths measured, and dashed beyond them; nothing where it does not describe them."""
    if not _has_law(model):
        return []
    law, longest = model["law"], lengths[-1]
    drawn = []
    for least, most, dash in ((lengths[0], longest, "solid"), (longest, farthest, "dash")):
        x_C = np.geomspace(least, most, POINTS)
        y_C = law["floor"] + law["above"] * (x_C / longest) ** -law["beta"]
        drawn.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "law",
                "x": [rounded(x) for x in x_C.tolist()],
                "y": [rounded(y) for y in y_C.tolist()],
                "line": {"color": "@m0", "width": 2, "dash": dash},
                "hoverinfo": "skip",
            }
        )
    return drawn


def _length(answer: Mapping[str, Any], longest: int) -> list[dict[str, Any]]:
    """The length needed with its interval, where there is one."""
    if answer["tokens"] is None:
        return []
    ends = [answer["quantiles"][end]["decades"] for end in ("low", "high")]
    low, high = (None if decades is None else longest * 10**decades for decades in ends)
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "needed",
            "x": [rounded(answer["tokens"])],
            "y": [rounded(answer["target_loss"])],
            "marker": {"color": "@m0", "symbol": "star", "size": 13},
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": [None if high is None else rounded(high - answer["tokens"])],
                "arrayminus": [None if low is None else rounded(answer["tokens"] - low)],
                "color": "@m0",
                "thickness": 2,
            },
            "hovertemplate": f"10^{answer['decades']:.1f} times {longest:,} tokens<extra>needed</extra>",
        }
    ]


def _shapes(answer: Mapping[str, Any], longest: int, farthest: float) -> list[dict[str, Any]]:
    """What the target may cost to be reproduced, across; what was not measured, shaded."""
    level = {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": answer["target_loss"],
        "y1": answer["target_loss"],
    }
    shapes: list[dict[str, Any]] = [
        {**level, "line": {"color": "@ink", "width": 1.3, "dash": "dash"}, "layer": "below"}
    ]
    if farthest > longest:
        beyond = {"type": "rect", "yref": "paper", "y0": 0, "y1": 1, "x0": longest * 1.2, "x1": farthest * 64}
        shapes.append({**beyond, "fillcolor": "@shade", "line": {"width": 0}, "layer": "below"})
    return shapes


def _named(answer: Mapping[str, Any]) -> dict[str, Any]:
    place = {"xref": "paper", "x": 0.01, "y": answer["target_loss"], "xanchor": "left", "yanchor": "bottom"}
    words = f"L* = {answer['target_loss']:.2g}"
    return {**place, "text": words, "showarrow": False, "font": {"size": 11, "color": "@muted"}}
