"""`menard status runs/<study>`: where each run stands, once or until nothing is running or queued any more."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from omegaconf import DictConfig
from rich.live import Live

from menard_unlearn.config import to_plain
from menard_unlearn.errors import UserError
from menard_unlearn.launch.listing import studies_in
from menard_unlearn.launch.progress import Progress, Reader, Standing
from menard_unlearn.launch.state import QUEUED, RUNNING
from menard_unlearn.stages.status_table import console, counted, drawn


def main(cfg: DictConfig) -> None:
    """Print a table of the runs under `study_dir`, or one JSON object a line; changes nothing."""
    config = to_plain(cfg)
    given, seconds = config["study_dir"], config["every_s"]
    if not isinstance(given, str):
        raise UserError(f"study_dir={given}: give one folder, runs/<study>, or that which holds the studies")
    place = Path(given)
    if not isinstance(seconds, int | float) or not seconds > 0:
        raise UserError(f"every_s={seconds}: give seconds, more than 0")
    if not place.is_dir() and not studies_in(place):
        raise UserError(f"no folder {place}: give runs/<study>, or the folder that holds the studies")
    reader = Reader()
    if not config["watch"]:
        _once(reader.read(studies_in(place)), place, in_json=config["json"])
        return
    with contextlib.suppress(KeyboardInterrupt):  # the way to leave
        if config["json"]:
            _watch_lines(reader, place, seconds, in_json=True)
        elif console().is_terminal:
            _watch(reader, place, seconds)
        else:
            _watch_lines(reader, place, seconds, in_json=False)


def _once(found: Standing, place: Path, *, in_json: bool) -> None:
    if in_json:
        _warn(found.note)
        for run in found.runs:
            print(_line(run))
    elif found.runs:
        console().print(drawn(found.runs, place, found.note))
    else:
        print(f"no runs under {place}")


def _watch(reader: Reader, place: Path, seconds: float) -> None:
    """One table that is drawn anew in its place."""
    screen = console()
    with Live(console=screen, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            found = reader.read(studies_in(place))
            live.update(drawn(found.runs, place, found.note, screen.height), refresh=True)
            if not _going(found.runs):
                return
            time.sleep(seconds)


def _watch_lines(reader: Reader, place: Path, seconds: float, *, in_json: bool) -> None:
    """Where nothing can be drawn anew: the whole at first, then what changes, and the whole again at the end.

    In JSON a run's object is printed when it is first seen and whenever more than its age has changed.
    """
    before: dict[str, Progress] = {}
    note: str | None = None
    while True:
        found = reader.read(studies_in(place))
        if found.note != note:
            _warn(found.note)
        changed = [run for run in found.runs if _lasting(run) != _lasting(before.get(run.run))]
        if in_json:
            for run in changed:
                print(_line(run), flush=True)
        elif not before:
            _once(found, place, in_json=False)
        else:
            _print_moves(before, changed, found.runs)
        going = _going(found.runs)
        if not going and before and not in_json:
            _once(found, place, in_json=False)
        sys.stdout.flush()
        if not going:
            return
        before, note = {run.run: run for run in found.runs}, found.note
        time.sleep(seconds)


def _print_moves(before: dict[str, Progress], changed: Sequence[Progress], runs: Sequence[Progress]) -> None:
    moves = [(run, before[run.run].state if run.run in before else "new") for run in changed]
    moved = [f"{Path(run.run).name}: {state} → {run.state}" for run, state in moves if state != run.state]
    if moved:
        print("\n".join([*moved, f"{time.strftime('%H:%M:%S')} {counted(runs)}"]))


def _lasting(run: Progress | None) -> dict | None:
    return None if run is None else {key: value for key, value in asdict(run).items() if key != "age_seconds"}


def _going(runs: Sequence[Progress]) -> bool:
    return any(run.state in (RUNNING, QUEUED) for run in runs)


def _line(run: Progress) -> str:
    return json.dumps(asdict(run), ensure_ascii=False)


def _warn(note: str | None) -> None:
    if note is not None:
        print(f"note: {note}", file=sys.stderr)
