"""`menard sync runs/<study>`: upload what wandb has not got of a study's runs, then look whether it is all there.

What a run has to show is told by its own directory: history.jsonl, the evaluation, the delta. The server has to have
every row of it exactly once, its tables and pages, its scalars, and its artifacts with all their bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from menard_unlearn.config import to_plain
from menard_unlearn.errors import UserError
from menard_unlearn.run import RunDir
from menard_unlearn.stages.told import replay
from menard_unlearn.tracking.content import Collector, Item
from menard_unlearn.tracking.wandb_record import WandbRecord
from menard_unlearn.tracking.wandb_server import Kept, Server
from menard_unlearn.tracking.wandb_sync import (
    Difference,
    Local,
    complete,
    difference,
    mark,
    offline_folders,
    prepared,
    tidy,
    upload,
)

SHOWN = 5
"""Missing things that are named of one run."""
NOUNS = {"row": "row", "table": "table", "page": "page", "artifact": "artifact", "summary": "scalar"}


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class Outcome:
    """What became of one run."""

    run: Local
    uploaded: bool
    left: Difference
    deleted: int

    def line(self) -> str:
        """For people."""
        counts = Counter(item.kind for item in self.run.items)
        held = ", ".join(_number(counts[kind], noun) for kind, noun in NOUNS.items() if counts[kind]) or "nothing"
        said = [f"{self.run.directory.name}: {held}", "uploaded" if self.uploaded else "was there"]
        if self.left.changed:
            said.append(f"{_number(len(self.left.changed), 'row')} there with the figures of a session that was killed")
        if self.deleted:
            said.append(f"{_number(self.deleted, 'checkpoint')} deleted there")
        if not self.left.complete:
            said.append(f"NOT ALL THERE: {self._left()}")
        return "; ".join(said)

    def _left(self) -> str:
        wrong = [f"no {item.shown}" for item in self.left.missing]
        wrong += [f"twice the {item.shown}" for item in self.left.doubled]
        wrong += [f"not made from {name}" for name in self.left.unused]
        more = f", and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        return ", ".join(wrong[:SHOWN]) + more


def main(cfg: DictConfig) -> None:
    """Upload and verify; raises UserError where anything is missing in the end."""
    config = to_plain(cfg)
    study_dir = _study_dir(config["study_dir"])
    tracked = [path.parent for path in sorted(study_dir.glob("*/wandb.json"))]
    if not tracked:
        print(f"no run under {study_dir} was tracked by wandb; nothing to do")
        return
    server = Server.connect(int(config["seconds"]))
    with RunDir(study_dir / "wandb").lock():
        runs = [_local(path) for path in tracked if not _runs_now(path)]
        outcomes = _sync(runs, server)
    _conclude(outcomes, server)


def _study_dir(given: Any) -> Path:
    """The folder; a UserError where it is no study's."""
    if not isinstance(given, str):
        raise UserError(f"one study at a time: type menard sync {given[0]}" if given else "give runs/<study>")
    path = Path(given)
    if not path.is_dir():
        raise UserError(f"no folder {path}: give runs/<study>")
    if (path / "config.yaml").is_file():
        raise UserError(f"{path} is a run: type menard sync {path.parent}, its study")
    studies = sorted({str(found.parents[1]) for found in path.glob("*/*/wandb.json")})
    if studies and not any(path.glob("*/wandb.json")):
        raise UserError(f"{path} holds studies: give one of {', '.join(studies)}")
    return path


def _runs_now(path: Path) -> bool:
    holder = RunDir(path).holder()
    if holder is not None:
        print(f"{path.name}: runs now ({holder}); left alone", flush=True)
    return holder is not None


def _local(path: Path) -> Local:
    record = WandbRecord.read(path)
    if record is None:
        raise UserError(f"{path}: wandb.json went while it was read: try again")
    collector = Collector()
    run = RunDir(path)
    finished = replay(run, record.job_type, record.checkpoints, collector)
    return prepared(Local(path, record, collector.items, finished))


def _sync(runs: Sequence[Local], server: Server) -> list[Outcome]:
    """Offline folders of all runs in one go, then run by run what is still missing."""
    before = {run.directory: server.read(run.record) for run in runs}
    folders = [
        folder
        for run in runs
        if not difference(run, before[run.directory]).complete
        for folder in offline_folders(run, before[run.directory])
    ]
    upload(folders)
    outcomes = []
    for run in runs:
        if not run.finished and _runs_now(run.directory):  # it was begun meanwhile, and tells the server itself
            continue
        sent = any(folder.name.endswith(run.record.id) for folder in folders)
        kept = server.read(run.record) if sent else before[run.directory]
        outcomes.append(_complete(run, kept, server, sent))
        print(outcomes[-1].line(), flush=True)
    return outcomes


def _complete(run: Local, kept: Kept | None, server: Server, sent: bool) -> Outcome:
    left = difference(run, kept)
    if left.missing or left.unused or left.unended:
        complete(run, left, server)
        sent, left = True, difference(run, server.read(run.record))
    deleted = 0
    if left.complete:
        mark(run)
        deleted = tidy(run, server)
    return Outcome(run, sent, left, deleted)


def _conclude(outcomes: Sequence[Outcome], server: Server) -> None:
    items: list[Item] = [item for outcome in outcomes for item in outcome.run.items]
    rows = sum(item.kind == "row" for item in items)
    wrong = [outcome.run.directory.name for outcome in outcomes if not outcome.left.complete]
    if wrong:
        raise UserError(
            f"{len(wrong)} of {len(outcomes)} runs are not all on {server.url}: {', '.join(wrong)} (see above)"
        )
    uploaded = sum(outcome.uploaded for outcome in outcomes)
    done = f"{uploaded} uploaded" if uploaded else "nothing to upload"
    held = f"{_number(len(outcomes), 'run')}, {_number(rows, 'row')}"
    print(f"{held}: all there, each once; {done} ({server.url})")
