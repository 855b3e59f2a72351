"""Where the names of points stand in a figure, so that none lies over another, a mark or a bar."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

LETTER, LINE = 0.021, 0.05
"""Width of a letter and height of a line, in shares of the axes of a figure some 330 pixels wide."""
GAP, ABOUT = 0.035, 0.022
"""Between a mark's middle and its name, and half a mark's size."""
PLACES = (("bottom", "right"), ("top", "right"), ("bottom", "left"), ("top", "left"))
"""Places of a name about its mark, as plotly names them, the first that is free being taken."""


@dataclass(frozen=True)
class Box:
    """A rectangle in shares of the axes."""

    x0: float
    x1: float
    y0: float
    y1: float

    def meets(self, other: Box) -> bool:
        """Whether the two have a point in common."""
        return self.x0 < other.x1 and other.x0 < self.x1 and self.y0 < other.y1 and other.y0 < self.y1


def mark_boxes(x: Sequence[float], y: Sequence[float]) -> list[Box]:
    """What a point covers: its mark and its two bars. `x` and `y` are middle, low and high."""
    across = Box(x[1], x[2], y[0] - ABOUT / 4, y[0] + ABOUT / 4)
    upright = Box(x[0] - ABOUT / 4, x[0] + ABOUT / 4, y[1], y[2])
    return [Box(x[0] - ABOUT, x[0] + ABOUT, y[0] - ABOUT, y[0] + ABOUT), across, upright]


def placed(names: Mapping[str, tuple[float, float]], taken: Iterable[Box]) -> dict[str, str]:
    """Name → plotly's `textposition`; names for which there is no room are left out.

    Args:
        names: the middle of each name's mark, in shares of the axes; the first is placed first.
        taken: what the names may not lie over.
    """
    full, found = list(taken), {}
    for name, (x, y) in names.items():
        for vertical, side in PLACES:
            box = _box(name, x, y, vertical, side)
            inside = box.x0 >= 0 and box.x1 <= 1 and box.y0 >= 0 and box.y1 <= 1
            if inside and not any(map(box.meets, full)):
                full.append(box)
                found[name] = f"{vertical} {side}"
                break
    return found


def _box(name: str, x: float, y: float, vertical: str, side: str) -> Box:
    width = LETTER * len(name)
    left = x + GAP if side == "right" else x - GAP - width
    low = y + ABOUT / 2 if vertical == "top" else y - ABOUT / 2 - LINE
    return Box(left, left + width, low, low + LINE)
