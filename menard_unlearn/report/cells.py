"""Cells of tables: what a figure looks like, and what stands where there is none."""

from __future__ import annotations

import html
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Number:
    """A number with its interval below it, and of several seeds the mean with the lowest and the highest."""

    source: Source
    key: str
    form: Callable[[float], str]
    interval: str | None
    """Prefix of the keys _low and _high; None shows none."""
    code: str
    """How the entries of left_out begin that say why there is no number."""
    bar: bool
    """Whether it is a share, over a bar of that length."""

    def __call__(self, run: Run) -> str:
        """The cell of a run."""
        found = self.source(run)
        if found is None or found.get(self.key) is None:
            return absent(run, found, self.code)
        return self._cell(found[self.key], ends(found, self.interval, self.form))

    def over(self, runs: Sequence[Run]) -> str:
        """The cell of the seeds of a group; of one that alone has the number, its interval."""
        rows = [found for run in runs if (found := self.source(run)) is not None and found.get(self.key) is not None]
        if not rows:
            return self(runs[0])
        few = "" if len(rows) == len(runs) else f"of {len(rows)} of {len(runs)} seeds"
        if len(rows) == 1:
            return self._cell(rows[0][self.key], ends(rows[0], self.interval, self.form), few)
        values = [found[self.key] for found in rows]
        low, high = self.form(min(values)), self.form(max(values))
        return self._cell(statistics.fmean(values), "" if low == high else between(low, high), few)

    def _cell(self, value: float, below: str, title: str = "") -> str:
        return share(value, below, title) if self.bar else cell(self.form(value), below, title)


@dataclass(frozen=True)
class Year:
    """A year and its interval where it is pinned, else the status; the least of it unless `explained`."""

    source: Source
    prefix: str
    explained: bool

    def __call__(self, run: Run) -> str:
        """The cell of a run."""
        found = self.source(run)
        if found is None or found.get(f"{self.prefix}_status") is None:
            return absent(run, found, kind="cutoff")
        status = str(found[f"{self.prefix}_status"])
        if found.get(f"{self.prefix}_year") is None:
            return chip(status, STATUSES.get(status, status) if self.explained else "", kind="cutoff")
        middle, low, high = (found[f"{self.prefix}_{part}"] for part in ("year", "low", "high"))
        return _dated(f"{mark(status)} " if self.explained else "", middle, low, high)

    def over(self, runs: Sequence[Run]) -> str:
        """The cell of the seeds of a group: how often which status, and the mean of the years that are pinned."""
        status, year = f"{self.prefix}_status", f"{self.prefix}_year"
        measured = [run for run in runs if (self.source(run) or {}).get(status) is not None]
        if len(measured) < 2:
            return self((measured or runs)[0])
        rows = [found for run in measured if (found := self.source(run)) is not None]
        marks = " ".join(_times(*found) for found in Counter(str(row[status]) for row in rows).items())
        pinned = [row for row in rows if row.get(year) is not None]
        if not pinned:
            return f'<td class="cutoff">{marks}</td>'
        years = [row[year] for row in pinned]
        low, high = min(years), max(years)
        if len(pinned) == 1:
            low, high = (pinned[0][f"{self.prefix}_{end}"] for end in ("low", "high"))
        return _dated(f"{marks} ", statistics.fmean(years), low, high)


def number(source: Source, key: str, form: str, *, interval: str | None = None, code: str = "") -> Number:
    """A number in the given format, as of format()."""
    return Number(source, key, lambda value: format(value, form), interval, code, bar=False)


def percent(source: Source, key: str, *, interval: str | None = None, code: str = "") -> Number:
    """A share in percent over a bar of that length."""
    return Number(source, key, hundredfold, interval, code, bar=True)


def year(source: Source, prefix: str, *, explained: bool = True) -> Year:
    """The year of a fit whose keys begin with `prefix`."""
    return Year(source, prefix, explained)


def _dated(before: str, middle: float, low: float, high: float) -> str:
    shown = f'<b>{middle:.1f}</b> <span class="between">[{low:.1f}, {high:.1f}]</span>'
    return f'<td class="cutoff" data-v="{middle:.1f}">{before}{shown}</td>'


def _times(status: str, count: int) -> str:
    return mark(status) if count == 1 else f'{mark(status)}<span class="seed">×{count}</span>'


def cell(text: str, below: str = "", title: str = "", value: float | None = None) -> str:
    """A cell of a figure, something smaller below it, and words where one points at it.

    `value` is what the page sorts it by, where that is not the number that the text begins with.
    """
    more = f' title="{html.escape(title)}"' if title else ""
    more += "" if value is None else f' data-v="{value:.6g}"'
    return f'<td class="num"{more}>{signed(text)}{below}</td>'


def share(value: float, below: str = "", title: str = "") -> str:
    """The same of a share, in percent, over its bar."""
    length = 100 * min(max(value, 0.0), 1.0)
    text = signed(hundredfold(value))
    more = f' title="{html.escape(title)}"' if title else ""
    return f'<td class="num bar"{more} style="--share:{length:.0f}%">{text}{below}</td>'


def chip(status: str, meaning: str, *, kind: str = "num") -> str:
    """A cell that says in a word why there is no figure."""
    more = f' title="{html.escape(meaning)}"' if meaning else ""
    return f'<td class="{kind}"{more}>{mark(status)}</td>'


def mark(status: str, kind: str = "") -> str:
    """A word on a coloured ground, that of another status where it says more than one."""
    kind = html.escape((kind or status).replace(" ", "-"))
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


def absent(run: Run, found: Mapping[str, Any] | None, code: str = "", *, kind: str = "num") -> str:
    """A cell for what has no value, with the reason."""
    reasons = [] if found is None or not code else [why for why in found["left_out"] if why.startswith(code)]
    if reasons:
        why = "; ".join(reasons)
    elif found is None:
        why = "not measured"
    else:
        why = f"not defined for {run.method}" if run.method in REFERENCES else "not measured"
    return f'<td class="{kind} none" title="{html.escape(why)}">{ABSENT}</td>'


def signed(text: str) -> str:
    """A minus sign as wide as a digit in place of the hyphen, so that columns line up."""
    if text.startswith("-") and not text.strip("-0.,"):
        text = text[1:]  # no minus before a zero
    return text.replace("-", "\N{MINUS SIGN}")
