"""How figures name their colours, and how a method keeps its look from one figure to the next.

A figure holds the *names* of colours (`@m0`, `@grid`); the page puts in those of the light or the dark palette when it
draws. The methods' hues are after Okabe and Ito's, which people with any common colour blindness can tell apart; every
hue goes with a marker and a dash of its own, so that nothing is said by colour alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

LIGHT_HUES = ("#0072B2", "#D55E00", "#009E73", "#A8518A", "#B87A00", "#2A8CC4")
DARK_HUES = ("#56B4E9", "#F0843C", "#2CC99B", "#E09BC4", "#E6AC30", "#8CCDF2")
SYMBOLS = ("circle", "diamond", "triangle-up", "x", "square", "cross", "star")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
BAND = 0.20
"""Opacity of an interval's band."""

REFERENCES = ("base", "gold", "without_target", "prompted")
"""Rows that are not methods: the untouched model, the one that never saw what is to be forgotten, the one that saw all
but the target, and the untouched one that is merely told to live at the cutoff."""


@dataclass(frozen=True)
class Look:
    """A group's colour name, marker and dash."""

    colour: str
    symbol: str
    dash: str


def looks(groups: Mapping[str, str]) -> dict[str, Look]:
    """A look for every group, in order, by the name of its method; references are grey."""
    marks = (("square-open", "dash"), ("star", "dot"), ("circle-open", "longdash"), ("triangle-up-open", "dashdot"))
    of_reference = dict(zip(REFERENCES, marks, strict=True))
    found = {group: Look("@reference", *of_reference[name]) for group, name in groups.items() if name in REFERENCES}
    others = [group for group, name in groups.items() if name not in REFERENCES]
    for number, group in enumerate(others):
        hue = f"@m{number % len(LIGHT_HUES)}"
        found[group] = Look(hue, SYMBOLS[number % len(SYMBOLS)], DASHES[number % len(DASHES)])
    return found


def css_colours() -> str:
    """The palettes as custom properties of the page: `@m0` is `--m0`."""
    light, dark = palettes().values()
    names = [name for name in light if re.fullmatch(r"@(m\d+|reference)", name)]
    return "".join(f"--{name[1:]}:light-dark({light[name]},{dark[name]});" for name in names)


def palettes() -> dict[str, dict[str, str]]:
    """Colour by name, for light and for dark pages."""
    light = {"@ink": "#2b2b2b", "@muted": "#5c5c5c", "@grid": "#e4e4e0", "@paper": "#ffffff"}
    dark = {"@ink": "#e6e6e3", "@muted": "#a8a8a4", "@grid": "#3a3b3d", "@paper": "#1b1c1e"}
    light |= {"@reference": "#6f6f6f", "@shade": "rgba(190,150,40,0.13)"}
    dark |= {"@reference": "#9b9b97", "@shade": "rgba(225,190,90,0.13)"}
    for palette, hues in ((light, LIGHT_HUES), (dark, DARK_HUES)):
        for number, hue in enumerate(hues):
            palette[f"@m{number}"] = hue
            palette[f"@m{number}/band"] = _translucent(hue)
    return {"light": light, "dark": dark}


def _translucent(hue: str) -> str:
    red, green, blue = (int(hue[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{BAND})"
