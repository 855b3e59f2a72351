"""Tracking into a file of the run's own directory, and a kind of tracking that the package does not know."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from menard_unlearn import compose
from menard_unlearn.config import build, conf_dir
from menard_unlearn.tracking.jsonl_tracker import JsonlTracking
from menard_unlearn.tracking.tracker import TrackedRun, Tracker, TrackingConfig, open_tracker

CONFIG = JsonlTracking(project=None, group="sweep", tags=("suite",), checkpoints="none")


def run_in(directory: Path) -> TrackedRun:
    return TrackedRun(
        id="0" * 16,
        name=directory.name,
        study="study",
        job_type="unlearn",
        tags=("npo",),
        config={"method": {"beta": 0.1}},
        directory=directory,
        inputs=(),
    )


def events(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "tracking.jsonl").read_text().splitlines()]


def log_steps(tracker: Tracker, first: int, last: int, digit: float) -> None:
    for step in range(first, last + 1):
        tracker.log({"step": step, "loss": 1.0 / step + digit, "retain": None})


def test_everything_is_in_one_file_and_one_folder(tmp_path: Path) -> None:
    with open_tracker(CONFIG, run_in(tmp_path)) as tracker:
        log_steps(tracker, 1, 2, 0)
        tracker.table("eval/by_year", ["year", "recall"], [[1930, 0.9], [1940, None]])
        tracker.html("eval/target_tokens", "<p>é</p>")
        tracker.artifact("delta-x", "delta", tmp_path / "delta.safetensors", {"base": "abc"})
        tracker.summary({"final/forget_auc": None, "final/cutoff_year": 1939.5})
    begin, *middle, finish = events(tmp_path)
    assert (begin["event"], begin["name"], begin["group"], begin["tags"]) == (
        *("begin", tmp_path.name, "sweep"),
        ["npo", "suite"],
    )
    assert finish == {"event": "finish", "exit_code": 0}
    assert [entry["event"] for entry in middle] == ["log", "log", "table", "html", "artifact", "summary"]
    assert middle[1]["row"] == {"train/step": 2, "train/loss": 0.5}
    assert json.loads((tmp_path / middle[2]["file"]).read_text())["rows"] == [[1930, 0.9], [1940, None]]
    assert (tmp_path / middle[3]["file"]).read_text() == "<p>é</p>"
    assert middle[5]["values"] == {"final/cutoff_year": 1939.5}


def test_run_that_is_taken_up_again_repeats_nothing(tmp_path: Path) -> None:
    with pytest.raises(SystemExit), open_tracker(CONFIG, run_in(tmp_path)) as tracker:
        log_steps(tracker, 1, 5, 0)
        raise SystemExit(143)
    with open(tmp_path / "tracking.jsonl", "a") as file:
        file.write('{"event": "log", "row": {"train/st')
    with open_tracker(CONFIG, run_in(tmp_path)) as tracker:
        log_steps(tracker, 3, 8, 1e-9)  # another device, other last digits
    rows = [entry["row"] for entry in events(tmp_path) if entry["event"] == "log"]
    assert [row["train/step"] for row in rows] == list(range(1, 9))
    assert [entry["exit_code"] for entry in events(tmp_path) if entry["event"] == "finish"] == [143, 0]


def test_disk_that_refuses_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "tracking").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING), open_tracker(CONFIG, run_in(tmp_path)) as tracker:
        tracker.html("page", "<p>")
        tracker.html("page", "<p>")
        log_steps(tracker, 1, 3, 0)
    assert len([entry for entry in events(tmp_path) if entry["event"] == "log"]) == 3
    assert len(caplog.records) == 1 and "the run goes on" in caplog.text


TOY = """
from __future__ import annotations
from dataclasses import dataclass
from menard_unlearn.tracking.tracker import TrackedRun, Tracker, TrackingConfig

@dataclass(frozen=True)
class Toy(TrackingConfig):
    colour: str

    def open(self, run: TrackedRun) -> Tracker:
        if self.colour == "broken":
            raise RuntimeError("no such colour")
        return ToyTracker(run, self.colour)

class ToyTracker(Tracker):
    def __init__(self, run, colour):
        self.path = run.directory / "toy.txt"
        self.path.write_text(f"{run.name} {colour}\\n")

    def log(self, row):
        with self.path.open("a") as file:
            file.write(f"{row}\\n")
"""


@pytest.mark.parametrize("colour", ["blue", "broken"])
def test_another_tracker_is_one_module_and_one_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colour: str
) -> None:
    (tmp_path / "toy_tracking.py").write_text(TOY)
    (tmp_path / "conf/tracking").mkdir(parents=True)
    toy = f"defaults: [none, _self_]\n_target_: toy_tracking.Toy\ncolour: {colour}\n"
    (tmp_path / "conf/tracking/toy.yaml").write_text(toy)
    monkeypatch.syspath_prepend(tmp_path)
    composed = compose.compose("evaluate", ["tracking=toy", f"hydra.searchpath=[file://{tmp_path}/conf]"])
    config = build(composed["tracking"], TrackingConfig)
    with open_tracker(config, run_in(tmp_path)) as tracker:
        tracker.log({"step": 1})
        tracker.html("kept by none", "")
    written = (tmp_path / "toy.txt").read_text() if colour == "blue" else None
    assert written == (f"{tmp_path.name} blue\n{{'step': 1}}\n" if colour == "blue" else None)


def test_the_interface_is_of_six_calls() -> None:
    calls = {name for name in vars(Tracker) if not name.startswith("_")}
    assert calls == {"log", "table", "html", "artifact", "summary", "finish"}


def test_every_kind_composes() -> None:
    for name in sorted(path.stem for path in (conf_dir() / "tracking").glob("*.yaml")):
        build(compose.compose("evaluate", [f"tracking={name}"])["tracking"], TrackingConfig)
