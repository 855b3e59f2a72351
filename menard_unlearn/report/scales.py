"""Axes on which both a small gain and a collapse can be seen, and their ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from menard_unlearn.report.cells import signed
from menard_unlearn.report.figures import rounded

LINEAR = 0.05
"""Up to about this the squeezed axis is linear, and beyond it logarithmic."""
ROOM = 0.06
"""Of the axis, above and below what is drawn."""
TICKS_AT_MOST = 8
FACTORS = ((1, 2, 5), (1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9), tuple(1 + step / 10 for step in range(90)))
"""Ticks within a decade of a logarithmic axis, of which the first are taken that leave `TICKS` or more."""
TICKS = 3


def squeezed(value: float | None) -> float | None:
    """Where a value of either sign stands on the squeezed axis."""
    return None if value is None else rounded(math.asinh(value / LINEAR))


def squeezed_axis(values: Sequence[float | None]) -> dict[str, Any]:
    """Ticks and range of a squeezed axis that shows zero and these values."""
    known = [0.0, *(value for value in values if value is not None)]
    least, most = min(known), max(known)
    decades = range(-2, math.ceil(math.log10(max(most, -least, LINEAR))) + 1)
    sizes = [factor * 10.0**decade for decade in decades for factor in (1, 3)]
    shown = [size for size in sizes if LINEAR <= size <= max(most, -least, 2 * LINEAR)]
    if len(shown) > TICKS_AT_MOST // 2:
        shown = [size for size in shown if f"{size:e}".startswith("1")]
    ticks = [0.0] + [sign * size for size in shown for sign in (-1, 1) if least <= sign * size <= most]
    low, high = (math.asinh(end / LINEAR) for end in (least, most))
    room = ROOM * max(high - low, 1.0)
    return {
        "tickvals": [squeezed(tick) for tick in ticks],
        "ticktext": [signed(f"{tick:g}") for tick in ticks],
        "range": [rounded(low - room), rounded(high + room)],
    }


def log_axis(values: Sequence[float | None]) -> dict[str, Any]:
    """A logarithmic axis that shows these values above 0, with ticks at round numbers; {} of none."""
    known = [value for value in values if value is not None and value > 0]
    if not known:
        return {}
    least, most = min(known), max(known)
    low, high = math.log10(least), math.log10(most)
    room = ROOM * max(high - low, 0.2)
    low, high = low - room, high + room
    shown = next((ticks for ticks in (_ticks(low, high, factors) for factors in FACTORS) if len(ticks) >= TICKS), [])
    return {
        "type": "log",
        "tickvals": shown,
        "ticktext": [f"{tick:g}" for tick in shown],
        "range": [rounded(low), rounded(high)],
    }


def _ticks(low: float, high: float, factors: Sequence[float]) -> list[float]:
    """Those multiples of powers of ten whose logarithms lie between."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    ticks = (float(f"{factor}e{decade}") for decade in decades for factor in factors)
    found = [tick for tick in ticks if low <= math.log10(tick) <= high]
    return found[:: math.ceil(len(found) / TICKS_AT_MOST) or 1]


def doubling_axis(least: float, most: float) -> dict[str, Any]:
    """Ticks at powers of two, as few as fit, and the range, of a logarithmic axis of tokens."""
    low, high = math.log2(least), math.log2(most)
    step = max(1, math.ceil((high - low + 1) / TICKS_AT_MOST))
    powers = range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1, step)
    room = ROOM * max(high - low, 1.0)
    return {
        "type": "log",
        "tickvals": [2**power for power in powers],
        "ticktext": [in_tokens(2**power) for power in powers],
        "range": [rounded((end + sign * room) * math.log10(2)) for end, sign in ((low, -1), (high, 1))],
    }


def in_tokens(count: int) -> str:
    """`512`, `16K`, `1M` (of 1,024 and its square)."""
    for size, letter in ((2**30, "G"), (2**20, "M"), (2**10, "K")):
        if count >= size and count % size == 0:
            return f"{count // size:,}{letter}"
    return f"{count:,}"
