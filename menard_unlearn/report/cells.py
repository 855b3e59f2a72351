"""Cells of tables: what a figure looks like, and what stands where there is none."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any

from menard_unlearn.report.study import Run
from menard_unlearn.report.style import REFERENCES

ABSENT = "–"

STATUSES = {
    "pinned": "recall drops, and the data fix when within 20 years: only then is there a year",
    "right-censored": "known to the end of the years tested, or dropping so late that the drop may lie after them",
    "left-censored": "dropping so early that the drop may lie before the years tested",
    "no-cutoff": "no drop at any date: a steady drift, a low level throughout, no change, or too blurred to date",
    "collapsed": "recall before the cutoff is below half of the base’s: knowledge was destroyed, not cut off",
    "unparseable": "too few years have probes, or nothing is answered that could be compared",
}
"""What a cutoff's status says, in plain words."""

Source = Callable[[Run], Mapping[str, Any] | None]
"""Where a run's figures lie; None where they were not measured."""
Show = Callable[[Run], str]
"""A run's cell."""


def summary(run: Run) -> Mapping[str, Any]:
    """The run's object of summary.json."""
    return run.row


def result(name: str, *path: str) -> Source:
    """What evaluation/<name>.json holds, or the object at a path in it."""

    def source(run: Run) -> Mapping[str, Any] | None:
        found: Any = run.result(name)
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    return source


def number(source: Source, key: str, form: str, *, interval: str | None = None, code: str = "") -> Show:
    """A number in the given format, with its interval below it.

    Args:
        source: where to look.
        key: of the number.
        form: as of format().
        interval: prefix of the keys _low and _high; None shows none.
        code: how the entries of left_out begin that say why there is no number.
    """

    def show(run: Run) -> str:
        found = source(run)
        if found is None or found.get(key) is None:
            return absent(run, found, code)
        return cell(format(found[key], form), ends(found, interval, lambda end: format(end, form)))

    return show


def percent(source: Source, key: str, *, interval: str | None = None, code: str = "") -> Show:
    """A share in percent over a bar of that length, with its interval below it."""

    def show(run: Run) -> str:
        found = source(run)
        if found is None or found.get(key) is None:
            return absent(run, found, code)
        return share(found[key], ends(found, interval, hundredfold))

    return show


def year(source: Source, prefix: str, *, explained: bool = True) -> Show:
    """A year and its interval where it is pinned, else the status; the least of it unless `explained`."""

    def show(run: Run) -> str:
        found = source(run)
        if found is None or found.get(f"{prefix}_status") is None:
            return absent(run, found)
        status = str(found[f"{prefix}_status"])
        if found.get(f"{prefix}_year") is None:
            return chip(status, STATUSES.get(status, status) if explained else "")
        middle, low, high = (f"{found[f'{prefix}_{part}']:.1f}" for part in ("year", "low", "high"))
        mark = f"{_mark(status)} " if explained else ""
        return f'<td class="cutoff">{mark}<b>{middle}</b> <span class="between">[{low}, {high}]</span></td>'

    return show


def cell(text: str, below: str = "", title: str = "") -> str:
    """A cell of a figure, something smaller below it, and words where one points at it."""
    more = f' title="{html.escape(title)}"' if title else ""
    return f'<td class="num"{more}>{signed(text)}{below}</td>'


def share(value: float, below: str = "") -> str:
    """The same of a share, in percent, over its bar."""
    length = 100 * min(max(value, 0.0), 1.0)
    text = signed(hundredfold(value))
    return f'<td class="num bar" style="--share:{length:.0f}%">{text}{below}</td>'


def chip(status: str, meaning: str) -> str:
    """A cell that says in a word why there is no figure."""
    more = f' title="{html.escape(meaning)}"' if meaning else ""
    return f'<td class="cutoff"{more}>{_mark(status)}</td>'


def _mark(status: str) -> str:
    kind = html.escape(status.replace(" ", "-"))
    return f'<span class="status {kind}">{html.escape(status)}</span>'


def ends(found: Mapping[str, Any], interval: str | None, form: Callable[[float], str]) -> str:
    """The interval's ends; "" where there is none."""
    low, high = (None if interval is None else found.get(f"{interval}_{end}") for end in ("low", "high"))
    return "" if low is None or high is None else between(form(low), form(high))


def between(low: str, high: str) -> str:
    """Two ends as they stand below a figure."""
    return f'<span class="between">[{signed(low)}, {signed(high)}]</span>'


def hundredfold(value: float) -> str:
    """A share in percent, to a decimal."""
    return f"{100 * value:.1f}"


def absent(run: Run, found: Mapping[str, Any] | None, code: str = "") -> str:
    """A cell for what has no value, with the reason."""
    reasons = [] if found is None or not code else [why for why in found["left_out"] if why.startswith(code)]
    if reasons:
        why = "; ".join(reasons)
    elif found is None:
        why = "not measured"
    else:
        why = f"not defined for {run.method}" if run.method in REFERENCES else "not measured"
    return f'<td class="num none" title="{html.escape(why)}">{ABSENT}</td>'


def signed(text: str) -> str:
    """A minus sign as wide as a digit in place of the hyphen, so that columns line up."""
    if text.startswith("-") and not text.strip("-0.,"):
        text = text[1:]  # no minus before a zero
    return text.replace("-", "\N{MINUS SIGN}")
