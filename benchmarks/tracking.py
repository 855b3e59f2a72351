"""What tracking costs a training step: the share of its wall time that is spent inside the tracker's calls.

    python benchmarks/tracking.py [--size paper|tiny] [--repeats 3] [--write benchmarks/tracking.md]

The embedded model is trained on the embedded almanac by RMU, whose steps are the shortest there are, as `menard
unlearn` does it: one row of history a step. Each way of tracking is a process of its own with one thread; ways follow
one another in turn. The wandb server is the tests' loopback server, another process on the same machine: a dead one
is killed after a tenth of the steps. The first row counts like every other; opening and finishing a run are told apart,
as they happen once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}  # before torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "tracking"))

GOAL = 0.01
STEPS = {"paper": 300, "tiny": 3}
FINISH_SECONDS = 10.0
"""`tracking.finish_timeout`, by default a minute: what a dead server costs at the end."""
WAYS = {
    "jsonl": ("jsonl", None),
    "wandb, offline": ("wandb", "offline"),
    "wandb, online": ("wandb", "online"),
    "wandb, the server dies": ("wandb", "online"),
}


@dataclass(frozen=True)
class Cost:
    """One training."""

    wall: float
    """Seconds from the first step to the last, evaluation and loading aside."""
    logs: tuple[float, ...]
    """Seconds inside each call."""
    opened: float
    finished: float

    @property
    def share(self) -> float:
        return sum(self.logs) / self.wall


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=STEPS, default="paper")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve()
    elif given.child:
        way, steps, folder, server = given.child
        print(json.dumps(asdict(trained(way, int(steps), Path(folder), int(server)))))
    else:
        costs = [measured(STEPS[given.size]) for _ in range(given.repeats)]
        text = page(given.size, given.repeats, {way: [cost[way] for cost in costs] for way in WAYS})
        print(text)
        if given.write:
            given.write.write_text(text + "\n", encoding="utf-8")


def serve() -> None:
    """A loopback server, until this process is killed."""
    from loopback import Loopback

    with Loopback() as server:
        print(server.url, os.getpid(), flush=True)
        sys.stdin.read()


@contextmanager
def serving() -> Iterator[tuple[str, int]]:
    """(address, process) of a loopback server."""
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url, pid = process.stdout.readline().split()
        try:
            yield url, int(pid)
        finally:
            process.kill()


def measured(steps: int) -> dict[str, Cost]:
    """Every way once."""
    found = {}
    for way in WAYS:
        with tempfile.TemporaryDirectory() as folder, serving() as (url, pid):
            own = {"WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40, "HOME": folder, "WANDB_SILENT": "true"}
            command = [sys.executable, __file__, "--child", way, str(steps), folder, str(pid)]
            done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"error: {way}: {done.stderr}")
        cost: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        found[way] = Cost(cost["wall"], tuple(cost["logs"]), cost["opened"], cost["finished"])
    return found


def trained(way: str, steps: int, folder: Path, server: int) -> Cost:
    """Train in this process."""
    from menard_unlearn.compose import compose
    from menard_unlearn.corpus.encoding import Encoder
    from menard_unlearn.corpus.pairs import PairedDataset
    from menard_unlearn.models.load import load
    from menard_unlearn.stages.data import token_items
    from menard_unlearn.stages.job import Job
    from menard_unlearn.stages.logging import track
    from menard_unlearn.stages.settings import Settings
    from menard_unlearn.training.loop import train

    kind, mode = WAYS[way]
    told = [f"tracking={kind}"]
    told += [f"tracking.mode={mode}", f"tracking.finish_timeout={FINISH_SECONDS:g}"] if mode else []
    settings = Settings.of(
        compose("unlearn", ["method=rmu", f"trainer.max_steps={steps}", f"runs_dir='{folder}'", *told])
    )
    job, loaded = Job.of(settings), load(settings.model)
    data = job.prepared.data
    sides = [token_items(loaded.tokenizer, data.trained(side), 256) for side in (data.split.forget, data.split.retain)]
    dataset = PairedDataset(sides[0], sides[1], steps * job.trainer.batch_size, 0)
    job.run.write_config(settings.plain)
    begun, logs, ends = time.perf_counter(), [], []
    with track(settings, job.run, job.identity, "rmu", "unlearn", job.prepared.inputs, data) as tracking:
        opened = time.perf_counter() - begun

        def log(row: Mapping[str, Any]) -> None:
            if way.endswith("dies") and len(logs) == max(1, steps // 10):
                os.kill(server, 9)
            before = time.perf_counter()
            tracking.log(row)
            ends.append(time.perf_counter())
            logs.append(ends[-1] - before)

        encoder = Encoder.of(loaded.tokenizer)
        train(
            loaded.model,
            job.recipe,
            dataset,
            encoder,
            job.trainer,
            job.run,
            seed=0,
            on_log=log,
            on_evaluate=None,
            evaluate_every=0,
        )
        begun = time.perf_counter()
    # The first row ends the first step, which begins with what is computed once: the others are the time of a step.
    wall = (ends[-1] - ends[0]) * len(ends) / max(len(ends) - 1, 1)
    return Cost(wall, tuple(logs), opened, time.perf_counter() - begun)


def page(size: str, repeats: int, costs: Mapping[str, list[Cost]]) -> str:
    """The table, with what it was measured on."""
    lines = [
        "# What tracking costs a training step",
        "",
        f"Written by `python benchmarks/tracking.py --size {size} --repeats {repeats}`; how is said in its head.",
        "",
        f"{STEPS[size]} steps of RMU on the embedded model, one thread, one row a step; median of {repeats} trainings, "
        f"the longest call of them all. tracking.finish_timeout is {FINISH_SECONDS:g} s.",
        "wandb's calls are made in a thread beside the training: what that one takes of the processor, half a "
        "millisecond a row, is in the step and not in the call.",
        f"{platform.processor() or platform.machine()}, wandb {version('wandb')}, torch {version('torch')}.",
        "",
        "| | step | a call, median | a call, longest | share of a step | goal | met | to open | to finish |",
        "|---|---|---|---|---|---|---|---|---|",
        *(row(way, found) for way, found in costs.items()),
    ]
    return "\n".join(lines)


def row(way: str, costs: list[Cost]) -> str:
    share = statistics.median(cost.share for cost in costs)
    step = statistics.median(cost.wall / len(cost.logs) for cost in costs)
    calls = [seconds for cost in costs for seconds in cost.logs]
    opened, finished = (statistics.median(getattr(cost, name) for cost in costs) for name in ("opened", "finished"))
    return (
        f"| {way} | {step * 1e3:.1f} ms | {statistics.median(calls) * 1e3:.3f} ms | {max(calls) * 1e3:.1f} ms "
        f"| {share:.2%} | ≤ {GOAL:.0%} | {'yes' if share <= GOAL else 'no'} | {opened:.1f} s | {finished:.1f} s |"
    )


if __name__ == "__main__":
    main()
