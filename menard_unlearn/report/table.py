"""The table of methods: one row a run, references first."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from menard_unlearn.report.study import Run, Study
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


@dataclass(frozen=True)
class Column:
    """A column of figures."""

    group: str
    title: str
    meaning: str
    show: Callable[[dict[str, Any]], str]


def percent(key: str) -> Callable[[dict[str, Any]], str]:
    """A share in percent over a bar of that length."""

    def show(row: dict[str, Any]) -> str:
        value = row.get(key)
        if value is None:
            return absent(row)
        return f'<td class="num bar" style="--share:{100 * value:.1f}%">{100 * value:.1f}</td>'

    return show


def number(key: str, form: str) -> Callable[[dict[str, Any]], str]:
    """A number in the given format."""

    def show(row: dict[str, Any]) -> str:
        value = row.get(key)
        return absent(row) if value is None else f'<td class="num">{signed(format(value, form))}</td>'

    return show


def year(prefix: str) -> Callable[[dict[str, Any]], str]:
    """A year and its interval where it is pinned, else the status."""

    def show(row: dict[str, Any]) -> str:
        if row.get(f"{prefix}_status") is None:
            return absent(row)
        status = str(row[f"{prefix}_status"])
        chip = f'<span class="status {html.escape(status)}">{html.escape(status)}</span>'
        if row.get(f"{prefix}_year") is None:
            return f'<td class="cutoff" title="{html.escape(STATUSES.get(status, status))}">{chip}</td>'
        middle, low, high = (f"{row[f'{prefix}_{part}']:.1f}" for part in ("year", "low", "high"))
        return f'<td class="cutoff">{chip} <b>{middle}</b> <span class="between">[{low}, {high}]</span></td>'

    return show


def absent(row: dict[str, Any]) -> str:
    """A cell for what has no value, with the reason."""
    why = f"not defined for {row['method']}" if row["method"] in REFERENCES else "not measured"
    return f'<td class="num none" title="{html.escape(why)}">{ABSENT}</td>'


def signed(text: str) -> str:
    """A minus sign as wide as a digit in place of the hyphen, so that columns line up."""
    return text.replace("-", "\N{MINUS SIGN}")


RECALL = "Recall of probes, %"

COLUMNS = (
    Column("Cutoff", "of answers (A1)", "year after which recall drops, and its 95 % interval", year("cutoff")),
    Column("Cutoff", "of change (A2)", "year after which what the base knew is lost", year("cutoff_change")),
    Column(RECALL, "forget ↓", "facts to be forgotten, in wordings not trained for them", percent("forget_recall")),
    Column(RECALL, "held-out forget ↓", "later facts that no forget set held", percent("heldout_forget_recall")),
    Column(RECALL, "retain ↑", "facts to be kept", percent("retain_recall")),
    Column(RECALL, "held-out retain ↑", "earlier facts that no retain set held", percent("heldout_retain_recall")),
    Column("Selectivity", "AUC ↑", "0.5: forgets at random; 1: only later facts (A3)", number("forget_auc", ".3f")),
    Column("Selectivity", "to gold ↓", "mean distance to gold’s curve by year (A5)", number("distance_to_gold", ".3f")),
    Column("Target text", "bits/byte ↑", "surprise at the target (B1)", number("target_bits_per_byte", ".3f")),
    Column("Target text", "−log P, nats ↑", "the same of the whole target", number("target_nats", ",.0f")),
    Column(
        "Target text",
        "greedy prefix ↓",
        "tokens written before it leaves the text",
        number("target_greedy_prefix", ",d"),
    ),
    Column("Utility", "KL ↓", "from the base on timeless text, nats a token", number("utility_kl", ".4f")),
    Column("Utility", "retain bits/byte ↓", "on held-out text to be kept", number("retain_bits_per_byte", ".3f")),
    Column("Cost", "time, s", "seconds of unlearning", number("seconds", ",.1f")),
    Column("Cost", "MB", "peak memory of the process", number("peak_memory_mb", ",.0f")),
)


def table(study: Study) -> str:
    """The table as HTML, in a box of its own that scrolls sideways on a narrow screen."""
    groups = list(dict.fromkeys(column.group for column in COLUMNS))
    spans = [(group, sum(column.group == group for column in COLUMNS)) for group in groups]
    top = "".join(f'<th colspan="{width}" scope="colgroup">{html.escape(group)}</th>' for group, width in spans)
    heads = "".join(map(_heading, COLUMNS))
    seeds = len({run.seed for run in study.runs if not run.is_reference}) > 1
    body = "".join(_row(run, seeds) for run in study.runs)
    head = f'<tr><th rowspan="2" scope="col">method</th>{top}</tr><tr>{heads}</tr>'
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Table of methods">'
        f'<table class="methods"><thead>{head}</thead><tbody>{body}</tbody></table></div>'
    )


def _heading(column: Column) -> str:
    side = ' class="cutoff"' if column.group == "Cutoff" else ""
    return f'<th scope="col"{side} title="{html.escape(column.meaning)}">{html.escape(column.title)}</th>'


def _row(run: Run, seeds: bool) -> str:
    seed = "" if not seeds or run.is_reference else f' <span class="seed">seed {run.seed}</span>'
    name = f'<th scope="row" title="{html.escape(run.name)}">{html.escape(run.method)}{seed}</th>'
    kind = ' class="reference"' if run.is_reference else ""
    return f"<tr{kind}>{name}{''.join(column.show(run.row) for column in COLUMNS)}</tr>"


def column_meanings() -> str:
    """Every column with its meaning, as a definition list."""
    items = "".join(
        f"<dt>{html.escape(column.group)}: {html.escape(column.title)}</dt><dd>{html.escape(column.meaning)}</dd>"
        for column in COLUMNS
    )
    return f"<dl>{items}</dl>"


def status_meanings() -> str:
    """Every status with its meaning, as a definition list."""
    items = "".join(
        f'<dt><span class="status {name}">{name}</span></dt><dd>{html.escape(meaning)}</dd>'
        for name, meaning in STATUSES.items()
    )
    return f"<dl>{items}</dl>"
