"""Tables with one row a run."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from menard_unlearn.report.cells import Show
from menard_unlearn.report.study import Run, Study


@dataclass(frozen=True)
class Column:
    """A column of figures."""

    group: str
    title: str
    meaning: str
    show: Show


def grid(label: str, columns: Sequence[Column], study: Study, runs: Sequence[Run]) -> str:
    """The table as HTML, in a box of its own that scrolls sideways on a narrow screen."""
    groups = list(dict.fromkeys(column.group for column in columns))
    spans = [(group, sum(column.group == group for column in columns)) for group in groups]
    top = "".join(f'<th colspan="{width}" scope="colgroup">{html.escape(group)}</th>' for group, width in spans)
    heads = "".join(map(_heading, columns))
    seeds = len({run.seed for run in study.runs if not run.is_reference}) > 1
    body = "".join(_row(run, columns, seeds) for run in runs)
    head = f'<tr><th rowspan="2" scope="col">method</th>{top}</tr><tr>{heads}</tr>'
    few = " few" if len(columns) < 6 else ""
    return (
        f'<div class="wide{few}" tabindex="0" role="region" aria-label="{html.escape(label)}">'
        f'<table class="methods"><thead>{head}</thead><tbody>{body}</tbody></table></div>'
    )


def _heading(column: Column) -> str:
    side = ' class="cutoff"' if column.group == "Cutoff" else ""
    return f'<th scope="col"{side} title="{html.escape(column.meaning)}">{_together(column.title)}</th>'


def _together(title: str) -> str:
    """The title, its arrow on the line of the last word."""
    return html.escape(title).replace(" ↑", "&nbsp;↑").replace(" ↓", "&nbsp;↓")


def _row(run: Run, columns: Sequence[Column], seeds: bool) -> str:
    seed = "" if not seeds or run.is_reference else f' <span class="seed">seed {run.seed}</span>'
    name = f'<th scope="row" title="{html.escape(run.name)}">{html.escape(run.method)}{seed}</th>'
    kind = ' class="reference"' if run.is_reference else ""
    return f"<tr{kind}>{name}{''.join(column.show(run) for column in columns)}</tr>"


def meanings(columns: Sequence[Column]) -> str:
    """Every column with its meaning, as a definition list."""
    items = "".join(
        f"<dt>{html.escape(column.group)}: {html.escape(column.title)}</dt><dd>{html.escape(column.meaning)}</dd>"
        for column in columns
    )
    return f"<dl>{items}</dl>"
