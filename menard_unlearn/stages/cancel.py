"""`menard cancel runs/<study>`: end what is queued or running. What it has saved is kept, and the sweep resumes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from omegaconf import DictConfig

from menard_unlearn.config import to_plain
from menard_unlearn.launch.ending import Ending, decide
from menard_unlearn.launch.listing import Listed, chosen, study_of
from menard_unlearn.launch.progress import states_of
from menard_unlearn.launch.slurm_queue import Queue
from menard_unlearn.launch.state import FINISHED, STATES, Known, State


def main(cfg: DictConfig) -> None:
    """Say for each run that was queued or running what was done, or why it was left alone."""
    given = to_plain(cfg)["runs"]
    places: Sequence[object] = given if isinstance(given, list) else [given]
    for study in chosen([str(place) for place in places]):
        with study.sweep.lock():  # no launch queues meanwhile what would be missed
            ending, states = _decide(study)
            ending.carry_out(study.sweep)
        for name, told in ending.told.items():
            print(f"{name}: {told}")
        if not ending.told:
            print(f"{study.path}: nothing is queued or running ({_counted(study, states)})")


def _decide(study: Listed) -> tuple[Ending, dict[str, State]]:
    known = Known(study.sweep, None)
    whole = replace(study, runs=study_of(study.path).runs)
    states = states_of(whole, known)
    # Without the queue a run that waits in it looks planned, begun or failed
    names = [run.path.name for run in study.runs if states[run.path.name].name != FINISHED]
    entries = [known.entries[name] for name in names if name in known.entries]
    if any(entry.launcher["kind"] == "slurm" for entry in entries):
        known.queue = Queue.ask()
        states = states_of(whole, known)
    return decide(study.sweep, known, states, study.runs), states


def _counted(study: Listed, states: dict[str, State]) -> str:
    counts = Counter(states[run.path.name].name for run in study.runs)
    return ", ".join(f"{counts[name]} {name}" for name in STATES if counts[name])
