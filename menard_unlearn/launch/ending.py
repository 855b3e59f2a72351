"""How runs that are queued or running are ended: which of them, by what, and which are out of reach.

A job of Slurm is cancelled there; what runs here without it is told by SIGTERM, on which it saves and leaves. Nothing
is signalled that is not seen to hold the lock by which it was found: process numbers are used again, and a host's name
may be that of several containers.
"""

from __future__ import annotations

import os
import platform
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from menard_unlearn.errors import UserError
from menard_unlearn.launch.slurm_queue import cancel
from menard_unlearn.launch.state import QUEUED, RUNNING, Known, State
from menard_unlearn.launch.sweep import Entry, Sweep
from menard_unlearn.run import RunDir

PROCESS = re.compile(r"(?P<pid>\d+) on (?P<host>.+)")
LAUNCH = re.compile(r"(?P<pid>\d+)@(?P<host>.+)")
CANCELLED = "cancelled"
"""In the ledger in place of a launch."""
TERM = "told to save and leave (SIGTERM)"


@dataclass
class Ending:
    """What is done about each of some runs; `of` decides, `carry_out` does it."""

    jobs: list[str] = field(default_factory=list)
    """Of Slurm, that are to be cancelled."""
    processes: dict[int, str] = field(default_factory=dict)
    """Process of this host that is to be signalled → who it is."""
    taken: list[Entry] = field(default_factory=list)
    """Of runs that are ended out of a launch which goes on: it has them no more before it, and the ledger says so."""
    told: dict[str, str] = field(default_factory=dict)
    """Run → what is done, or why nothing is. Runs that are neither queued nor running are not among them."""

    def carry_out(self, sweep: Sweep) -> None:
        """Signal and cancel, with the ledger held. Raises UserError where Slurm refuses.

        Launches come first: they would start another run in the place of one that ends.
        """
        for pid in sorted(self.processes, key=lambda pid: not self.processes[pid].startswith("launch ")):
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass  # it has just ended by itself
            except PermissionError as error:
                raise UserError(f"process {pid} is another user's: ask them to end it") from error
        if self.taken:
            sweep.append(self.taken)
        if self.jobs:
            cancel(self.jobs)


def decide(sweep: Sweep, known: Known, states: Mapping[str, State], chosen: Sequence[RunDir]) -> Ending:
    """What ends the chosen runs of a study and no others.

    Args:
        sweep: the study's.
        known: its ledger and queue.
        states: of all its runs, by name.
        chosen: those that are to be ended.
    """
    found = Ending()
    names = [run.path.name for run in chosen]
    busy = {run.path.name: run for run in chosen if states[run.path.name].name in (RUNNING, QUEUED)}
    holders = set()
    for name in busy:
        if (job := states[name].job) is not None:
            found.jobs.append(job)
            holders.add(states[name].by)
            running = states[name].name == RUNNING
            found.told[name] = f"job {job} cancelled{', which saves and leaves' if running else ''}"
    for name, run in busy.items():
        by = states[name].by or ""
        if name in found.told:
            continue
        if by in holders:  # a reference, held by the process that evaluates it for its own run
            found.told[name] = f"ends with the job that evaluates it ({by})"
        elif (launch := _launch(known, name, by)) is not None:
            found.told[name] = _end_launch(sweep, known, states, names, launch, found)
        else:
            found.told[name] = _end_process(run, by, found)
            entry = known.entries.get(name)
            if entry is not None and entry.job in known.launches and found.told[name].endswith(TERM):
                found.taken.append(replace(entry, job=CANCELLED, submitted_at=time.time()))
    return found


def _launch(known: Known, name: str, by: str) -> str | None:
    """The launch that has to be ended for this run: that in whose process it runs, or in which it waits."""
    if by.startswith("launch "):
        return by.removeprefix("launch ")
    process = PROCESS.fullmatch(by)
    launch = f"{process['pid']}@{process['host']}" if process else None
    return launch if launch in known.launches else None


def _end_launch(
    sweep: Sweep, known: Known, states: Mapping[str, State], chosen: Sequence[str], launch: str, found: Ending
) -> str:
    """A launch that goes on is ended whole, or not at all."""
    match = LAUNCH.fullmatch(launch)
    if match is None or match["host"] != platform.node():
        return f"left alone: launched by {launch}; type this there"
    others = [
        name
        for name, entry in known.entries.items()
        if entry.job == launch and name not in chosen and states[name].name in (RUNNING, QUEUED)
    ]
    if others:
        return f"left alone: launch {launch} would end with {', '.join(others)}: menard cancel {sweep.path.parent}"
    if not _holds(int(match["pid"]), sweep.path / "launches" / launch):
        return f"left alone: {match['pid']} is no process of this host that holds the launch {launch}"
    found.processes[int(match["pid"])] = f"launch {launch}"
    return f"launch {launch} {TERM}"


def _end_process(run: RunDir, by: str, found: Ending) -> str:
    match = PROCESS.fullmatch(by)
    if match is None or match["host"] != platform.node():
        return f"left alone: held by {by or 'a process that has not said which'}; type this there"
    if not _holds(int(match["pid"]), run.path / ".lock"):
        return f"left alone: {match['pid']} is no process of this host that holds {run.path}"
    found.processes[int(match["pid"])] = by
    return f"process {match['pid']} {TERM}"


def _holds(pid: int, lock: Path) -> bool:
    """Whether the process has the file open; that somebody has locked it is known already."""
    opened = Path(f"/proc/{pid}/fd")
    if not Path("/proc/self/fd").is_dir():  # no Linux
        said = subprocess.run(["lsof", "-t", "--", str(lock)], capture_output=True, text=True, check=False)
        return str(pid) in said.stdout.split()
    try:
        return any(file.samefile(lock) for file in opened.iterdir() if file.exists())
    except OSError:  # gone, another user's, or a file that was closed meanwhile
        return False
