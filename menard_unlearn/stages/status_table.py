"""How runs stand, as a table for the terminal."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from menard_unlearn.files import from_here
from menard_unlearn.launch.progress import Progress
from menard_unlearn.launch.state import BEGUN, FAILED, FINISHED, PLANNED, QUEUED, RUNNING, STATES

COLOURS = {FINISHED: "green", RUNNING: "cyan", QUEUED: "blue", FAILED: "red", BEGUN: "yellow", PLANNED: "dim"}
IN_SIGHT = (RUNNING, FAILED, BEGUN, QUEUED, PLANNED, FINISHED)
"""Which rows are kept where not all fit."""
WIDTH = 240
"""Columns where the output is no terminal: a file or a pipe has no edge to wrap at."""
HEADINGS = ("run", "state", "step", "last metric", "where", "written")
FOLDED = ("last metric", "where")
"""Columns that a narrow terminal may fold; all others stay whole."""
ALWAYS = HEADINGS[:2]
"""Columns that are there even where nothing stands in them."""
CHROME = 5
"""Lines of the screen that are no rows."""


def console() -> Console:
    """Standard output as it is now."""
    found = Console()
    if not found.is_terminal:
        found.width = WIDTH
    return found


def drawn(runs: Sequence[Progress], place: Path, note: str | None, height: int | None = None) -> RenderableType:
    """The runs by state; beneath, reasons and logs of those that are not finished, and the count.

    With a `height` what does not fit into so many lines is left out, and counted.
    """
    shown = list(runs) if height is None else _fitting(runs, max(3, height - CHROME))
    shown.sort(key=lambda run: STATES.index(run.state))
    rows = [_cells(run, place) for run in shown]
    used = [n for n, heading in enumerate(HEADINGS) if heading in ALWAYS or any(row[n].plain for row in rows)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in (HEADINGS[n] for n in used):
        justify = "right" if heading in ("step", "written") else "left"
        table.add_column(heading, no_wrap=heading not in FOLDED, justify=justify)
    for row in rows:
        table.add_row(*(row[n] for n in used))
    fitted: dict[str, Any] = {} if height is None else {"no_wrap": True, "overflow": "ellipsis"}
    lines = [Text.assemble(f"{_name(run, place)}: ", part, **fitted) for run in shown for part in _told(run)]
    parts: list[RenderableType] = [table, *lines, Text(counted(runs, len(shown)), style="bold")]
    if note is not None:
        parts.append(Text(f"note: {note}", style="yellow"))
    return Group(*parts)


def _cells(run: Progress, place: Path) -> list[Text]:
    plain = [_steps(run), metric(run), _where(run), _age(run)]
    return [Text(_name(run, place)), Text(run.state, style=COLOURS[run.state]), *map(Text, plain)]


def counted(runs: Sequence[Progress], shown: int | None = None) -> str:
    """`12 runs: 3 finished, 2 running, 7 queued`."""
    counts = Counter(run.state for run in runs)
    told = ", ".join(f"{counts[name]} {name}" for name in STATES if counts[name])
    hidden = len(runs) - (len(runs) if shown is None else shown)
    more = f" ({hidden} not shown)" if hidden else ""
    return f"{len(runs)} run{'' if len(runs) == 1 else 's'}: {told}{more}"


def metric(run: Progress) -> str:
    """`changed at 1939.4`, `change: right-censored`, `knows up to 1969.0`, or `loss 1.234`."""
    found: dict[str, Any] = run.metric
    if "loss" in found:
        return f"loss {found['loss']:.4g}"
    for key, verb, noun in (("cutoff_change", "changed at", "change"), ("cutoff", "knows up to", "cutoff")):
        if f"{key}_status" in found:
            year = found[f"{key}_year"]
            return f"{noun}: {found[f'{key}_status']}" if year is None else f"{verb} {year:.1f}"
    return ""


def _fitting(runs: Sequence[Progress], lines: int) -> list[Progress]:
    found: list[Progress] = []
    for run in sorted(runs, key=lambda run: IN_SIGHT.index(run.state)):
        lines -= 1 + len(_told(run))
        if lines < 0:
            break
        found.append(run)
    return found


def _name(run: Progress, place: Path) -> str:
    """The path within what was asked for."""
    return os.path.relpath(run.run, place) if Path(run.run) != place else place.name


def _steps(run: Progress) -> str:
    if run.max_steps is None:
        return "" if run.step is None else str(run.step)
    return f"{'–' if run.step is None else run.step}/{run.max_steps}"


def _where(run: Progress) -> str:
    """The job with Slurm's word for it, and the process."""
    job = f"job {run.job} {run.queue_state}" if run.job else ""
    holder = run.held_by if run.held_by and not run.held_by.startswith("job ") else ""
    return ", ".join(filter(None, (job, holder)))


def _told(run: Progress) -> list[tuple[str, str]]:
    """The reason, and of what is not finished the log if it was begun; each with its style."""
    parts = [(run.why, COLOURS[run.state])] if run.why else []
    named = run.why is not None and run.log is not None and run.log in run.why
    if run.log and run.state != FINISHED and not named and Path(run.log).is_file():
        parts.append((from_here(run.log), "dim"))
    return parts


def _age(run: Progress) -> str:
    if run.age_seconds is None:
        return ""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if run.age_seconds >= size:
            return f"{run.age_seconds / size:.0f} {unit} ago"
    return f"{run.age_seconds:.0f} s ago"
