"""Keys to the figures of features and of contexts."""

from __future__ import annotations

from collections.abc import Iterable

from menard_unlearn.report.keys import SHAPES, key, stroke
from menard_unlearn.report.needed_figures import KINDS


def key_of_doses() -> str:
    """What the lines and marks of a dose-response mean."""
    return key(
        (_marked("m0", "circle", "", 2), "the feature, with its 95 % interval"),
        (_marked("m1", "diamond", "5 3", 1.4), "difference of means"),
        (stroke("var(--reference)", "", 1), "a random feature"),
        (stroke("var(--reference)", "2 3", 1), "a random direction"),
        (
            f'<g transform="translate(17 7)" fill="none" stroke="var(--m0)" stroke-width="1.6">{SHAPES["circle"]}</g>',
            "beyond the limit of coherence",
        ),
        (stroke("var(--ink)", "5 3", 1.3), "limit of coherence"),
        (_upright("var(--m0)"), "best dose"),
    )


def key_of_contexts(kinds: Iterable[str]) -> str:
    """What the marks and lines of losses by context mean; of the kinds that are drawn."""
    marks = ((_marked(KINDS[kind][0].lstrip("@"), KINDS[kind][1], "", 1), KINDS[kind][2]) for kind in kinds)
    return key(
        *marks,
        (stroke("var(--m0)", "", 2), "law"),
        (stroke("var(--m0)", "5 3", 2), "law, beyond what was measured"),
        (stroke("var(--ink)", "5 3", 1.3), "L*, at or below which the target is reproduced"),
    )


def _marked(colour: str, symbol: str, dashes: str, width: float) -> str:
    """A line with a mark on it."""
    name = symbol.removesuffix("-open")
    inside = "var(--paper)" if name != symbol else f"var(--{colour})"
    mark = f'<g transform="translate(17 7) scale(.8)" fill="{inside}" stroke="var(--{colour})">{SHAPES[name]}</g>'
    return stroke(f"var(--{colour})", dashes, width) + mark


def _upright(colour: str) -> str:
    return f'<line x1="17" y1="0" x2="17" y2="14" stroke="{colour}" stroke-width="1.4" stroke-dasharray="2 3"/>'
