"""What the processes of one training leave for the one that started them, in `<run>/checkpoints/processes`.

rows.jsonl     rows of the history since this start
rank-<n>.json  how a process ended
trained.json   the training is done, and the delta on the disk
session.json   where the processes of other machines find those of the first
output.log     what torchrun and the processes wrote to stderr
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from menard_unlearn.cores import cores, threads
from menard_unlearn.errors import UserError, in_one_line
from menard_unlearn.files import write_json
from menard_unlearn.run import RunDir
from menard_unlearn.training.checkpoints import Checkpoints, describe


@dataclass(frozen=True)
class Trained:
    """A training that is done."""

    steps: int
    """Optimizer steps, in all sessions."""
    seconds: float
    """Time spent in them."""
    stopped: str | None
    """Why it ended before max_steps, or None."""
    best_step: int | None
    """The step whose weights these are, where trainer.best_metric chose one."""
    peak_memory_mb: float
    """Of the process that needed most, MiB."""


@dataclass(frozen=True)
class Session:
    """The folder."""

    run: RunDir

    @property
    def folder(self) -> Path:
        """In the checkpoints' folder, since it is of no use any longer when those are not."""
        return self.run.checkpoints_dir / "processes"

    @property
    def rows_path(self) -> Path:
        """Written by the first process, read while it grows."""
        return self.folder / "rows.jsonl"

    @property
    def log_path(self) -> Path:
        """For what no one foresaw."""
        return self.folder / "output.log"

    @property
    def meeting_path(self) -> Path:
        """For other machines."""
        return self.folder / "session.json"

    def clear(self) -> None:
        """Forget an earlier session."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            path.unlink()

    def trained(self) -> Trained | None:
        """What `finish` recorded, where the delta is there too."""
        path = self.folder / "trained.json"
        if not (path.is_file() and self.run.delta_path.is_file()):
            return None
        return Trained(**json.loads(path.read_text(encoding="utf-8")))

    def meeting(self, attempt: str) -> dict[str, Any] | None:
        """Where this attempt's processes meet, once the leading machine has said so."""
        if not self.meeting_path.is_file():
            return None
        found = json.loads(self.meeting_path.read_text(encoding="utf-8"))
        return found if found["attempt"] == attempt else None

    def finish(self, trained: Trained) -> None:
        """Call it when the delta is on the disk."""
        write_json(self.folder / "trained.json", asdict(trained))

    def end(self, rank: int, state: str, error: BaseException | None = None) -> None:
        """Note how a process stands: begun, done, left (it was asked to), stopped (another failed), or error."""
        note = {"state": state, "at": time.time(), "error": None, "kind": None}
        if error is not None:
            note |= {"error": in_one_line(error), "kind": type(error).__name__}
            note["foreseen"] = isinstance(error, UserError)
        write_json(self.folder / f"rank-{rank}.json", note)

    def append_row(self, row: dict[str, Any]) -> None:
        """Hand a row of the history on."""
        with open(self.rows_path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def rows(self, offset: int) -> tuple[list[dict[str, Any]], int]:
        """Whole rows from this byte on, and where the next one begins."""
        if not self.rows_path.is_file():
            return [], offset
        with open(self.rows_path, "rb") as file:
            file.seek(offset)
            *lines, _torn = file.read().split(b"\n")
        return [json.loads(line) for line in lines], offset + sum(len(line) + 1 for line in lines)

    def state(self, rank: int) -> str:
        """As `end` noted it last."""
        return json.loads((self.folder / f"rank-{rank}.json").read_text(encoding="utf-8"))["state"]

    def why(self, code: int) -> UserError:
        """What to tell the user of processes that ended without being asked to."""
        notes = {int(path.stem[5:]): json.loads(path.read_text()) for path in self.folder.glob("rank-*.json")}
        errors = sorted((note["at"], rank) for rank, note in notes.items() if note["state"] == "error")
        foreseen = [rank for _, rank in errors if notes[rank]["foreseen"]]
        if foreseen:
            return UserError(notes[foreseen[0]]["error"])
        resume = f"{describe(Checkpoints(self.run.checkpoints_dir))}: the same command resumes"
        killed = [rank for rank, note in notes.items() if note["state"] == "begun"]
        if killed:
            return UserError(
                f"process {min(killed)} was killed (out of memory, or by hand); {resume}; see {self.log_path}"
            )
        if errors:
            first = errors[0][1]
            reason = f"process {first} ended by {notes[first]['kind']}: {notes[first]['error']}"
            return UserError(f"{reason}; {resume}; see {self.log_path}")
        return UserError(f"torchrun ended with code {code} before a process began; see {self.log_path}")

    def peak(self) -> float:
        """Of all processes, MiB, as far as they have said."""
        found = [json.loads(path.read_text())["peak_memory_mb"] for path in self.folder.glob("memory-*.json")]
        return max(found, default=0.0)

    def note_memory(self, rank: int, peak_memory_mb: float) -> None:
        """Of one process."""
        write_json(self.folder / f"memory-{rank}.json", {"peak_memory_mb": peak_memory_mb})


def local_threads(processes: int) -> int:
    """Threads for each of so many processes on this machine: an equal share of the cores that this one may use."""
    own = os.environ.get("OMP_NUM_THREADS", "")
    return threads(int(own) if own.isdigit() and int(own) > 0 else cores(), processes)
