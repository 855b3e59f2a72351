"""Tables whose rows are no runs: features, doses, conditions, models."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from menard_unlearn.report.cells import ABSENT, cell, ends, hundredfold, share, signed


@dataclass(frozen=True)
class Head:
    """The heading of a column."""

    title: str
    meaning: str
    kind: str
    """Class of its cells: num for figures, "" for words."""


def plain_table(label: str, heads: Sequence[Head], rows: Sequence[str], *, sorts: bool) -> str:
    """The table as HTML, in a box of its own that scrolls sideways on a narrow screen.

    `rows` are whole `<tr>`, each beginning with a `<th scope="row">`. Rows that stand under headings of their own do
    not sort.
    """
    top = "".join(_heading(head, place, sorts) for place, head in enumerate(heads))
    kind = "methods plain figures" + (" sortable" if sorts else "")
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{html.escape(label)}"><table class="{kind}">'
        f"<thead><tr>{top}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def meanings(heads: Sequence[Head]) -> str:
    """What every column is, as a list to be opened."""
    items = "".join(
        f"<dt>{html.escape(head.title)}</dt><dd>{html.escape(head.meaning)}</dd>" for head in heads if head.meaning
    )
    return f"<details><summary>What the columns are</summary><dl>{items}</dl></details>"


def _heading(head: Head, place: int, sorts: bool) -> str:
    kind = f' class="{head.kind}"' if head.kind else ""
    meaning = f' title="{html.escape(head.meaning)}"' if head.meaning else ""
    title = html.escape(head.title)
    shown = f'<button type="button">{title}</button>' if sorts else title
    return f'<th scope="col"{kind} data-c="{place}"{meaning}>{shown}</th>'


def figure(found: Mapping[str, Any], key: str, form: str, why: str) -> str:
    """A cell of a number with the interval `<key>_low` to `<key>_high` below it where the object has one, or a dash
    that says why."""
    if found[key] is None:
        return nothing(why)
    interval = ends(found, key, lambda value: format(value, form))
    return cell(format(found[key], form), interval, value=found[key])


def decimals(values: Iterable[float | None]) -> str:
    """The format of a column that gives the largest of its numbers three digits."""
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    return f".{max(0, 2 - math.floor(math.log10(largest)))}f" if largest > 0 else ".0f"


def percentage(value: float | None, why: str) -> str:
    """A cell of a share, in percent, over its bar, or a dash that says why."""
    return nothing(why) if value is None else share(value)


def percent_of(value: float | None) -> str:
    """A share in percent as words have it."""
    return ABSENT if value is None else f"{hundredfold(value)} %"


def inline(found: Mapping[str, Any], key: str, form: str) -> str:
    """A number and its interval as words have them, as HTML; a dash where there is no number."""
    if found[key] is None:
        return ABSENT
    value = signed(format(found[key], form))
    low, high = found.get(f"{key}_low"), found.get(f"{key}_high")
    if low is None or high is None:
        return value
    return f'{value} <span class="seed">[{signed(format(low, form))}, {signed(format(high, form))}]</span>'


def nothing(why: str) -> str:
    """A cell for what has no value, with the reason."""
    return f'<td class="num none" title="{html.escape(why)}">{ABSENT}</td>'
