"""Runs that ask something else of a model: which of them a section shows, and how each is headed."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from menard_unlearn.report.cells import mark
from menard_unlearn.report.privacy import without_secrets
from menard_unlearn.report.state import FINISHED
from menard_unlearn.report.study import Run, Study

SHOWN = 3
"""Newest runs of a kind that are shown."""


@dataclass(frozen=True)
class Aside:
    """A run, and what one of its files holds."""

    run: Run
    found: dict[str, Any]


def newest(study: Study, file: str) -> list[Aside]:
    """The newest runs that have evaluation/<file>.json, the newest first."""
    every = [Aside(run, found) for run in study.asides if (found := run.result(file)) is not None]
    return every[:SHOWN]


def older(study: Study, file: str) -> str:
    """How many runs of the kind are not shown; "" where all are."""
    count = sum(run.result(file) is not None for run in study.asides) - SHOWN
    if count <= 0:
        return ""
    runs = "1 older run is" if count == 1 else f"{count} older runs are"
    return f'<p class="read">The newest {SHOWN} are shown; {runs} under <a href="#runs">Runs</a>.</p>'


def heading(run: Run, *words: str) -> str:
    """A heading that leads to the run's directory, with its state while it is not finished; `words` are HTML."""
    state = "" if run.state.name == FINISHED else f" {mark(run.state.name)}"
    told = "".join(f"<span>{word}</span>" for word in (html.escape(run.name), *words))
    return f'<h3 class="over"><a href="{html.escape(run.href)}/">{html.escape(run.group)}</a>{state}{told}</h3>'


def course(parts: Sequence[str]) -> str:
    """What is shown of one run."""
    return f'<div class="course">{"".join(parts)}</div>'


def not_computed(aside: Aside, reasons: Sequence[str]) -> str:
    """What could not be computed, and why, as a list to be opened; "" of nothing."""
    if not reasons:
        return ""
    items = "".join(f"<li>{html.escape(without_secrets(reason, aside.run.config))}</li>" for reason in reasons)
    return (
        f'<details><summary>What was left out, and why ({len(reasons)})</summary><ul class="why">{items}</ul></details>'
    )


def facts(shown: dict[str, str]) -> str:
    """A few figures side by side, each below its name; values are HTML."""
    items = "".join(f"<div><dt>{html.escape(name)}</dt><dd>{value}</dd></div>" for name, value in shown.items())
    return f'<dl class="facts">{items}</dl>'
