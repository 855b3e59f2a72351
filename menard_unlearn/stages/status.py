"""What became of the runs under a folder: finished, running now, or begun and waiting to be resumed."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from menard_unlearn.config import to_plain
from menard_unlearn.errors import UserError
from menard_unlearn.run import RunDir

MANIFEST = ".manifest.json"


@dataclass(frozen=True)
class RunStatus:
    """One run directory as it is found on the disk."""

    run: str
    """Its path."""
    state: str
    """finished | running | begun"""
    stages: list[str]
    """Stages that ended here."""
    step: int | None
    """Last step in history.jsonl; None before the first."""
    max_steps: int | None
    """Steps that the training was to have; None where the run trains nothing."""
    seconds: float | None
    """What the finished stages took together; None where none is finished."""
    age_seconds: float
    """Since a file of the run was last written."""
    held_by: str | None
    """`<pid> on <host>` while it runs."""


def main(cfg: DictConfig) -> None:
    """Print a table of the runs under `study_dir`, or one JSON object a line."""
    config = to_plain(cfg)
    folder = Path(config["study_dir"])
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: give runs/<study>, or the folder that holds the studies")
    # One level below is a study's folder, two levels below a folder of studies, the folder itself a single run.
    found = {path.parent for depth in ("", "*/", "*/*/") for path in folder.glob(f"{depth}config.yaml")}
    statuses = [status_of(RunDir(path)) for path in sorted(found)]
    if config["json"]:
        for status in statuses:
            print(json.dumps(asdict(status), ensure_ascii=False))
    elif statuses:
        _print_table(statuses)
    else:
        print(f"no runs under {folder}")


def status_of(run: RunDir) -> RunStatus:
    """The state of one run directory; reads its files and changes none."""
    config = run.read_config()
    stages = sorted(path.name.removesuffix(MANIFEST) for path in run.path.glob(f"*{MANIFEST}"))
    manifests = [manifest for stage in stages if (manifest := run.manifest(stage)) is not None]
    holder = run.holder()
    done = config.get("stage") in stages if config.get("stage") else bool(stages)
    history = run.read_history()
    written = [path.stat().st_mtime for path in run.path.iterdir() if path.is_file() and not path.name.startswith(".")]
    return RunStatus(
        run=str(run.path),
        state="running" if holder else "finished" if done else "begun",
        stages=stages,
        step=history[-1]["step"] if history else None,
        max_steps=(config.get("trainer") or {}).get("max_steps"),
        seconds=sum(manifest["seconds"] for manifest in manifests) if manifests else None,
        age_seconds=round(time.time() - max(written), 1),
        held_by=holder,
    )


def _print_table(statuses: list[RunStatus]) -> None:
    table = Table("run", "state", "stages", "step", "seconds", "last written", box=None, pad_edge=False)
    for column in table.columns[3:]:
        column.justify = "right"
    colours = {"finished": "green", "running": "cyan", "begun": "yellow"}
    for status in statuses:
        steps = "/".join(str(count) for count in (status.step, status.max_steps) if count is not None)
        state = f"running ({status.held_by})" if status.held_by else status.state
        seconds = "" if status.seconds is None else f"{status.seconds:.0f}"
        table.add_row(
            status.run,
            f"[{colours[status.state]}]{state}[/]",
            " ".join(status.stages),
            steps,
            seconds,
            f"{_duration(status.age_seconds)} ago",
        )
    console = Console()
    if not console.is_terminal:
        console.width = 240  # a file or a pipe has no edge to wrap at
    console.print(table)


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
