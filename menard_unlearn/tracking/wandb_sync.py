"""Bring what a wandb server has of a study's runs up to what their directories hold, and no further.

wandb's own offline files go first, since they have the times of the rows. A file goes only if the server has none of
its rows, because `wandb sync` appends whatever it is given: a file that was sent in part, or that repeats steps of an
earlier session, would leave rows there twice. What is missing then is logged from the run's directory under the same
id.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wandb.util import get_core_path

from menard_unlearn.errors import UserError
from menard_unlearn.files import canonical
from menard_unlearn.tracking.content import Item
from menard_unlearn.tracking.tracker import identity
from menard_unlearn.tracking.wandb_record import WandbRecord
from menard_unlearn.tracking.wandb_server import Kept, Server
from menard_unlearn.tracking.wandb_tracker import WandbTracker, artifact_name, open_run, too_large

FINISH_SECONDS = 300.0
"""How long the rows and files of one run may take to upload."""
FINISHED = "finished"
"""What a server says of a run that ended well."""
NOTHING = Kept(Counter(), {}, frozenset(), 0, {}, {}, frozenset(), "")


@dataclass(frozen=True)
class Local:
    """A run as its directory has it."""

    directory: Path
    record: WandbRecord
    items: Sequence[Item]
    """Everything that the server has to have."""
    finished: bool
    """Whether its stage ended."""

    @property
    def home(self) -> Path:
        """The folder in which wandb made its own."""
        return Path(self.record.directory or self.directory.parent).absolute()

    def offline_logs(self) -> list[Path]:
        """wandb's files of the run's offline sessions, oldest first."""
        folders = sorted((self.home / "wandb").glob(f"offline-run-*-{self.record.id}"))
        return [log for folder in folders for log in folder.glob("run-*.wandb")]


@dataclass(frozen=True)
class Difference:
    """What the server has too little or too much of."""

    missing: tuple[Item, ...]
    doubled: tuple[Item, ...]
    """Rows that are there more than once; no client can take them away."""
    changed: tuple[Item, ...]
    """Rows that are there with other figures: of a session whose steps were repeated after it was killed."""
    unused: tuple[str, ...]
    """Names of inputs that the server does not know the run was made from."""
    unended: bool
    """Whether the run is finished and the server does not say so: its last session there was killed. Reports are of
    finished runs."""

    @property
    def complete(self) -> bool:
        """Whether everything is there, once."""
        return not (self.missing or self.doubled or self.unused)


def prepared(run: Local) -> Local:
    """The run with the artifacts that are too large exchanged for the line in the summary which says so."""
    items: list[Item] = []
    for item in run.items:
        reason = too_large(item.value[1], run.record.max_artifact_mb) if item.kind == "artifact" else None
        if reason is not None:
            key = f"artifact/{item.value[0]}"
            item = replace(item, kind="summary", key=key, shown=f"scalar {key}", value=reason)
        items.append(item)
    return replace(run, items=items)


def difference(run: Local, kept: Kept | None) -> Difference:
    """Compare a run with what the server has of it."""
    there = kept or NOTHING
    rows = [item for item in run.items if item.kind == "row"]
    tables = sum(item.kind == "table" for item in run.items)
    return Difference(
        missing=tuple(item for item in run.items if not _is_there(item, there, tables)),
        doubled=tuple(item for item in rows if there.rows[item.key] > 1),
        changed=tuple(item for item in rows if there.values.get(item.key) not in (None, canonical(item.value))),
        unused=tuple(name for name, _, _ in run.record.inputs if artifact_name(name) not in there.used),
        unended=run.finished and there.state != FINISHED,
    )


def _is_there(item: Item, kept: Kept, tables: int) -> bool:
    if item.kind == "row":
        return item.key in kept.rows
    if item.kind in ("table", "page"):
        return item.key in kept.media and (item.kind == "page" or kept.tables >= tables)
    if item.kind == "artifact":
        found = kept.artifacts.get(artifact_name(item.key))
        return found is not None and canonical(found) == canonical(item.value[2])
    return item.key in kept.summary and kept.summary[item.key] == item.value


def offline_folders(run: Local, kept: Kept | None) -> list[Path]:
    """wandb's offline folders of the run which hold only rows that the server does not have."""
    known = set((kept or NOTHING).rows)
    fresh: list[Path] = []
    for log in run.offline_logs():
        rows = [] if _marker(log).exists() else _rows(log)
        if rows and len(rows) == len(set(rows)) and known.isdisjoint(rows):
            fresh.append(log.parent)
            known |= set(rows)
    return fresh


def _marker(log: Path) -> Path:
    """Where `wandb sync` notes that it has sent the file."""
    return log.with_name(f"{log.name}.synced")


def _rows(log: Path) -> list[str]:
    """Identities of the rows in wandb's file, as far as it can be read."""
    command = [get_core_path(), "leet", "inspect", "--json", "--no-observability", "--run-file", str(log)]
    shown = subprocess.run([*command, str(log.parents[1])], capture_output=True, text=True, check=False).stdout
    found = [record["history"]["item"] for line in shown.splitlines() if (record := json.loads(line)).get("history")]
    own = [{key: value for key, value in row.items() if not key.startswith("_")} for row in found]
    return [identity(row) for row in own if row and not any(key.endswith("._type") for key in row)]


def upload(folders: Iterable[Path]) -> None:
    """Hand offline folders to wandb's own command. Whether all of it arrived is for the comparison to say: the command
    succeeds although artifacts are uncommitted."""
    given = [str(folder) for folder in folders]
    if given:
        subprocess.run([sys.executable, "-m", "wandb", "sync", "-n", "5", *given], capture_output=True, check=False)


def complete(run: Local, missing: Difference, server: Server) -> None:
    """Log what is missing. Raises UserError where wandb does not open the run."""
    record = replace(run.record, entity=run.record.entity or server.entity)
    try:
        opened = open_run(record, run.home, "online", FINISH_SECONDS)
    except Exception as problem:  # wandb raises a dozen kinds
        raise UserError(f"{run.directory}: wandb did not open the run: {problem}") from problem
    tracker = WandbTracker(opened, run.record.max_artifact_mb)
    try:
        tracker.begin()
        for item in missing.missing:
            if item.kind == "summary":
                tracker.summary({item.key: item.value})
            else:
                item.send(tracker)
        if missing.unused:
            tracker.use(record, run.directory)
    finally:
        tracker.finish(0 if run.finished else 1)


def mark(run: Local) -> None:
    """Note on the run's offline folders that they were sent, so that nobody sends them again by hand."""
    for log in run.offline_logs():
        _marker(log).touch()


def tidy(run: Local, server: Server) -> int:
    """Delete the run's checkpoints on the server which its rule does not keep; returns how many went."""
    if run.record.checkpoints == "none":
        return 0
    return server.delete(run.record, "checkpoint", 0 if run.finished else 1)
