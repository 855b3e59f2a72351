"""Runs of the real client, for the tests to start in a process of its own: `scenario.py NAME FOLDER`."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

from menard_unlearn.tracking.results import log_delta, log_results
from menard_unlearn.tracking.tracker import TrackedRun, Tracker, open_tracker
from menard_unlearn.tracking.wandb_config import WandbTracking

CONFIG = WandbTracking(
    project=None,
    entity=None,
    group="sweep",
    tags=("suite",),
    checkpoints="none",
    mode="auto",
    max_artifact_mb=0.001,
    directory=None,
    finish_timeout=5.0,
)
JOINT = [{"model": "base", "clamp": "none", "gain": None}, {"model": "base", "clamp": "feature", "gain": 0.5}]
FOUND = {
    "surprisal": {"level": 2.5, "years": [{"year": 1900}]},
    "generation": {"fluency": {"n_texts": 3, "x": None}},
    "joint": {"k": 0.5, "rows": JOINT},
}
BINS = [
    {"year": 1930, "width": 5, "n": 40, "recall": 0.9, "low": 0.8, "high": 0.95},
    {"year": 1940, "width": 5, "n": 40, "recall": 0.1, "low": 0.05, "high": 0.2},
]


def tracked(folder: Path, method: str, number: int) -> AbstractContextManager[Tracker]:
    run_dir = folder / "runs" / "study" / f"{method}-s0-{number:08x}"
    run_dir.mkdir(parents=True, exist_ok=True)
    run = TrackedRun(
        id=f"{number:016x}",
        name=f"{method}-s0-{number:04x}",
        study="study",
        job_type="unlearn",
        tags=(method,),
        config={"method": {"name": method, "beta": 0.1, "layers": [1, 2]}, "model": {"token": "hf_hidden"}},
        directory=run_dir,
        inputs=(),
    )
    return open_tracker(CONFIG, run)


def steps(tracker: Tracker, count: int, loss: float) -> None:
    for step in range(count):
        tracker.log({"step": step, "loss": loss + step, "forget": -1.0, "retain": None, "learning_rate": 1e-3})


def crash_then_whole(folder: Path) -> None:
    print("printed by the program")
    try:
        with tracked(folder, "rmu", 1) as tracker:
            steps(tracker, 3, 100.0)
            raise RuntimeError("the first run breaks off")
    except RuntimeError:
        pass
    with tracked(folder, "npo", 2) as tracker:
        steps(tracker, 10, 0.0)
        tracker.log({"step": 9, "eval/forget_recall": 0.25})
        measured = {"cutoff_status": "pinned", "cutoff_year": 1939.5, "forget_auc": None}
        summary = {"method": "npo", "run": "npo-s0-0002", "run_dir": "/x", **measured}
        log_results(
            tracker, summary_row=summary, bins=BINS, pages={"eval/target_tokens": "<p>ranks only</p>"}, found=FOUND
        )
        for name, size in (("small", 100), ("large", 5000)):
            delta = folder / f"{name}.safetensors"
            delta.write_bytes(b"0" * size)
            log_delta(tracker, name=name, delta=delta, digests={"base": "abc"})


def terminated(folder: Path) -> None:
    with tracked(folder, "npo", 3) as tracker:
        steps(tracker, 10, 0.0)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)


def short(folder: Path) -> None:
    begun = time.monotonic()
    with tracked(folder, "npo", 4) as tracker:
        steps(tracker, 3, 0.0)
    print(f"{time.monotonic() - begun:.1f}")


if __name__ == "__main__":
    {"crash_then_whole": crash_then_whole, "terminated": terminated, "short": short}[sys.argv[1]](Path(sys.argv[2]))
