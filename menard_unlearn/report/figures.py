"""Figures as plotly's own JSON, with colours by name (see `style`).

Plain dictionaries: the page needs plotly's JavaScript, not its Python package.
"""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import Any

FULL_RUNS = 8
"""With more runs than this curves are thinned in proportion, and with twice as many the curves by year tell no
intervals where one points at them: the page stays small."""


@dataclass(frozen=True)
class Figure:
    """A plotly figure, and the heading above it with a note beside it."""

    id: str
    title: str
    note: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    tag: str
    """Attribute of the group that it is of, as `grid.tag` gives it; "" where it shows several."""


def panel(figure: Figure) -> str:
    """The place of a figure, with its heading; the page draws it when it comes into view."""
    heading = f"<h3>{html.escape(figure.title)}<span>{html.escape(figure.note)}</span></h3>"
    height = figure.layout.get("height")
    tall = "" if height is None else f' style="height:{height}px"'
    return f'<figure{figure.tag}>{heading}<div class="plot" id="{figure.id}"{tall}></div></figure>'


def rounded(value: float | None) -> float | None:
    """Four significant digits: more cannot be seen, and they would double the page. None of what is not finite."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")
