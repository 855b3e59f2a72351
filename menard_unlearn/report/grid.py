"""Tables with one row a run, which sort where one clicks on a heading."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from menard_unlearn.report.cells import Number, Show, Year, mark
from menard_unlearn.report.state import FINISHED
from menard_unlearn.report.study import Run, Study


@dataclass(frozen=True)
class Column:
    """A column of figures."""

    group: str
    title: str
    meaning: str
    show: Show


def measured(label: str, columns: Sequence[Column], study: Study, has: Callable[[Run], object]) -> str:
    """The table of the runs that have what it shows, and what its columns are; "" where none has it."""
    runs = [run for run in study.runs if has(run)]
    return grid(label, columns, study, runs) + explained(columns) if runs else ""


def grid(label: str, columns: Sequence[Column], study: Study, runs: Sequence[Run]) -> str:
    """The table as HTML, in a box of its own that scrolls sideways on a narrow screen."""
    return _boxed(label, columns, [_row(run, columns, study) for run in runs])


def means(label: str, columns: Sequence[Column], study: Study) -> str:
    """The same with a row a group: the mean of its seeds where there are several."""
    rows = []
    for group in study.looks:
        runs = study.of(group)
        first, several = runs[0], len(runs) > 1
        seeds = (
            f"{len(runs)} seeds" if several else f"seed {first.seed}" if study.has_seeds and tag(study, group) else ""
        )
        below = f'<span class="between">{seeds}</span>' if seeds else ""
        name = (html.escape(group) if several else _link(first)) + below
        found = Counter(run.state.name for run in runs if run.state.name != FINISHED)
        marks = "".join(f" {mark(f'{count} {state}' if several else state, state)}" for state, count in found.items())
        cells = "".join(_over(column.show, runs) for column in columns)
        rows.append(f'<tr{_kind(first, study)}><th scope="row">{name}{marks}</th>{cells}</tr>')
    return _boxed(label, columns, rows)


def _over(show: Show, runs: Sequence[Run]) -> str:
    return show.over(runs) if isinstance(show, Number | Year) else "".join(map(show, runs[:1]))


def _boxed(label: str, columns: Sequence[Column], rows: Sequence[str]) -> str:
    groups = list(dict.fromkeys(column.group for column in columns))
    spans = [(group, sum(column.group == group for column in columns)) for group in groups]
    top = "".join(f'<th colspan="{width}" scope="colgroup">{html.escape(group)}</th>' for group, width in spans)
    heads = "".join(_heading(column, place) for place, column in enumerate(columns, start=1))
    first = f'<th rowspan="2" scope="col" data-c="0">{_button("method")}</th>'
    head = f"<tr>{first}{top}</tr><tr>{heads}</tr>"
    few = " few" if len(columns) < 6 else ""
    return (
        f'<div class="wide{few}" tabindex="0" role="region" aria-label="{html.escape(label)}">'
        f'<table class="methods sortable"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _heading(column: Column, place: int) -> str:
    side = ' class="cutoff"' if isinstance(column.show, Year) else ""
    meaning = html.escape(column.meaning)
    return f'<th scope="col"{side} data-c="{place}" title="{meaning}">{_button(_together(column.title))}</th>'


def _button(title: str) -> str:
    return f'<button type="button">{title}</button>'


def _together(title: str) -> str:
    """The title, its arrow on the line of the last word."""
    return html.escape(title).replace(" ↑", "&nbsp;↑").replace(" ↓", "&nbsp;↓")


def _row(run: Run, columns: Sequence[Column], study: Study) -> str:
    name = f'<th scope="row" title="{html.escape(run.name)}">{named(run, study)}{_unfinished(run)}</th>'
    return f"<tr{_kind(run, study)}>{name}{''.join(column.show(run) for column in columns)}</tr>"


def _kind(run: Run, study: Study) -> str:
    return ' class="reference"' if run.is_reference else tag(study, run.group)


def named(run: Run, study: Study) -> str:
    """The run's group as a link to its directory, and its seed."""
    seed = f' <span class="seed">seed {run.seed}</span>' if study.has_seeds and not run.is_reference else ""
    return f"{_link(run)}{seed}"


def _link(run: Run) -> str:
    return f'<a href="{html.escape(run.href)}/">{html.escape(run.group)}</a>'


def _unfinished(run: Run) -> str:
    return "" if run.state.name == FINISHED else f" {mark(run.state.name)}"


def tag(study: Study, group: str) -> str:
    """The attribute by which the page hides what belongs to a group; "" of a reference, which always stays."""
    return f' data-m="{study.groups.index(group)}"' if group in study.groups else ""


def explained(columns: Sequence[Column]) -> str:
    """Every column with its meaning, as a list to be opened."""
    items = "".join(
        f"<dt>{html.escape(column.group)}: {html.escape(column.title)}</dt><dd>{html.escape(column.meaning)}</dd>"
        for column in columns
    )
    return f"<details><summary>What the columns are</summary><dl>{items}</dl></details>"
