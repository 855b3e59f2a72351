"""What became of each run: those that are not finished in the open, the others in a list to be opened."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence

from menard_unlearn.report.cells import ABSENT, mark
from menard_unlearn.report.grid import named
from menard_unlearn.report.state import FINISHED, STATES
from menard_unlearn.report.study import Run, Study

HEADS = ("run", "state", "step", "time, s", "ended", "why", "log")
NUMERIC: dict[str, str] = dict.fromkeys(("step", "time, s"), ' class="num"')

OPENED_AT_MOST = 12
"""So many finished runs stand in the open where every run is finished."""


def counted(study: Study) -> str:
    """`3 finished` and `1 failed` as HTML, whatever is not finished on a ground of its own."""
    found = Counter(run.state.name for run in study.all_runs)
    words = {name: f"{found[name]} {name}" for name in STATES if found[name]}
    return " ".join(f"<span>{word}</span>" if name == FINISHED else mark(word, name) for name, word in words.items())


def runs_table(study: Study) -> str:
    """The tables, and what the states say."""
    open_ones = [run for run in study.all_runs if run.state.name != FINISHED]
    done = [run for run in study.all_runs if run.state.name == FINISHED]
    shown = _table("Runs that are not finished", study, open_ones) if open_ones else ""
    if done:
        listed = _table("Finished runs", study, done)
        opened = "" if open_ones or len(done) > OPENED_AT_MOST else " open"
        shown += f"<details{opened}><summary>The {len(done)} finished runs</summary>{listed}</details>"
    if open_ones:
        states = "".join(f"<dt>{mark(name)}</dt><dd>{meaning}</dd>" for name, meaning in STATES.items())
        shown += f"<details><summary>What the states say</summary><dl>{states}</dl></details>"
    return shown


def _table(label: str, study: Study, runs: Sequence[Run]) -> str:
    told = {
        "ended": any(run.state.at for run in runs),
        "why": any(run.state.why for run in runs),
        "log": any(run.state.log for run in runs),
    }
    heads = [head for head in HEADS if told.get(head, True)]
    top = "".join(
        f'<th scope="col"{NUMERIC.get(head, "")} data-c="{place}"><button type="button">{head}</button></th>'
        for place, head in enumerate(heads)
    )
    body = "".join(_row(run, study, heads) for run in runs)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{label}"><table class="methods plain sortable">'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(run: Run, study: Study, heads: Sequence[str]) -> str:
    state = run.state
    seconds = ABSENT if run.seconds is None else f"{run.seconds:,.0f}"
    where = f'<span class="between">{html.escape(state.where)}</span>' if state.where else ""
    log = f'<a href="{html.escape(run.log_href)}">log</a>' if run.log_href else ABSENT
    cells = {
        "run": f'<th scope="row">{named(run, study)}<span class="between">{html.escape(run.name)}</span></th>',
        "state": f"<td>{mark(state.name)}{where}</td>",
        "step": f'<td class="num" data-v="{state.step or 0}">{_steps(run)}</td>',
        "time, s": f'<td class="num">{seconds}</td>',
        "ended": f"<td>{ABSENT if state.at is None else state.at.replace('T', ' ').replace('Z', '')}</td>",
        "why": f'<td class="why">{ABSENT if state.why is None else html.escape(state.why)}</td>',
        "log": f"<td>{log}</td>",
    }
    return f"<tr>{''.join(cells[head] for head in heads)}</tr>"


def _steps(run: Run) -> str:
    done, whole = run.state.step, run.state.max_steps
    if done is None:
        return ABSENT
    return str(done) if whole is None else f"{done} / {whole}"
