"""Keys to the figures: what marks and lines mean, drawn once for all panels, and which group has which mark."""

from __future__ import annotations

import html
from collections.abc import Iterable

from menard_unlearn.report.study import Study
from menard_unlearn.report.style import Look

SHAPES = {
    "circle": '<circle r="4.6"/>',
    "diamond": '<path d="M0-6 6 0 0 6-6 0z"/>',
    "triangle-up": '<path d="M0-5.6 5.6 4.4H-5.6z"/>',
    "x": '<path class="stroke" d="M-4-4 4 4M4-4-4 4"/>',
    "square": '<path d="M-4.4-4.4h8.8v8.8h-8.8z"/>',
    "cross": '<path class="stroke" d="M0-5.2V5.2M-5.2 0H5.2"/>',
    "star": '<path d="M0-6.4 1.5-2 6.1-2 2.4.8 3.8 5.2 0 2.5-3.8 5.2-2.4.8-6.1-2-1.5-2z"/>',
}
"""A figure's symbol → the same as SVG about its middle."""


def mark_of(look: Look) -> str:
    """A group's mark, as the figures have it."""
    name = look.symbol.removesuffix("-open")
    kind = " open" if name != look.symbol else ""
    return (
        f'<svg class="mark{kind}" viewBox="-7 -7 14 14" width="14" height="14" aria-hidden="true" '
        f'style="--own:var(--{look.colour[1:]})">{SHAPES[name]}</svg>'
    )


def key_of_groups(study: Study) -> str:
    """Every group, references included, with its mark."""
    items = "".join(f"<li>{mark_of(look)}{html.escape(group)}</li>" for group, look in study.looks.items())
    return f'<ul class="key">{items}</ul>'


def choice_of_groups(study: Study) -> str:
    """The same as switches that show and hide a group everywhere on the page; "" of a single group."""
    if len(study.groups) < 2:
        return ""
    switches = "".join(
        f'<label><input type="checkbox" value="{number}" checked>{mark_of(study.looks[group])}'
        f"{html.escape(group)}</label>"
        for number, group in enumerate(study.groups)
    )
    every = '<button type="button" data-all="1">all</button><button type="button" data-all="">none</button>'
    return f'<fieldset class="choice" id="choice"><legend>Show</legend>{switches}{every}</fieldset>'


def key_of_curves(references: Iterable[str]) -> str:
    """What each line, band and shade of recall by year means."""
    own = (
        (stroke("var(--accent)", "", 2.4) + '<circle cx="17" cy="7" r="3" fill="var(--accent)"/>', "this method"),
        ('<rect x="1" y="2" width="32" height="10" fill="var(--accent)" opacity=".25"/>', "its 95 % interval"),
    )
    return _key(own, references, "cutoff found, and its interval")


def key_of_surprisal(references: Iterable[str]) -> str:
    """The same of surprise by year."""
    return _key(((stroke("var(--accent)", "", 2), "this method"),), references, "jump found, and its interval")


def _key(own: tuple[tuple[str, str], ...], references: Iterable[str], found: str) -> str:
    dashes = {"base": "5 3", "gold": "2 3"}
    return key(
        *own,
        *((stroke("var(--reference)", dashes[name], 1.4), name) for name in references if name in dashes),
        (
            '<line x1="17" y1="0" x2="17" y2="14" stroke="var(--accent)" stroke-width="1.6" stroke-dasharray="4 3"/>'
            '<rect x="8" y="0" width="18" height="3" fill="var(--accent)"/>',
            found,
        ),
        ('<rect x="1" y="0" width="32" height="14" fill="#be9628" opacity=".22"/>', "years to be forgotten"),
    )


def key(*entries: tuple[str, str]) -> str:
    """A key of some pieces of SVG, 34 by 14, each with what it means."""
    items = "".join(
        f'<li><svg width="34" height="14" aria-hidden="true">{mark}</svg>{text}</li>' for mark, text in entries
    )
    return f'<ul class="key">{items}</ul>'


def stroke(colour: str, dashes: str, width: float) -> str:
    """A line across an entry of a key."""
    return f'<line x1="0" y1="7" x2="34" y2="7" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dashes}"/>'
