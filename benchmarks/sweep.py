"""How long a sweep whose runs are all finished takes to find that out.

    python benchmarks/sweep.py [--size paper|tiny] [--repeats 3] [--write benchmarks/sweep.md]

`menard unlearn -m method=npo,rmu seed=range(0,500)` on the embedded model, under the real configuration: each job is
composed by Hydra, checked, and looked up by the hash of its configuration and of the contents of data and model. The
runs are made once, as directories with nothing but a manifest. Then the command is typed again, each time in a process
of its own: with the memo of composed configurations that the first one left, and without it, as after an edit of conf/.

Seconds are those of the processor (user and system, of one process), which other work on the machine does not lengthen;
wall time is beside them. Where they go is measured inside the same process.
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
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}  # before torch

GOAL = 10.0
SEEDS = {"paper": 500, "tiny": 2}
METHODS = ("npo", "rmu")
WAYS = {"make": "first launch, the trainings left out", "memo": "again", "anew": "again, composed anew"}
PARTS = ("start", "compose", "plan", "decide", "rest")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SEEDS, default="paper")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        way, seeds, folder = given.child
        print(json.dumps(launched(way, int(seeds), Path(folder))))
        return
    seeds = SEEDS[given.size]
    with tempfile.TemporaryDirectory() as folder:
        found = {"make": [measured("make", seeds, Path(folder))]}
        for way in ("memo", "anew"):
            found[way] = [measured(way, seeds, Path(folder)) for _ in range(given.repeats)]
    text = page(given.size, given.repeats, found)
    print(text)
    if given.write:
        given.write.write_text(text + "\n", encoding="utf-8")


def measured(way: str, seeds: int, folder: Path) -> dict[str, float]:
    """One launch, in a process of its own."""
    if way == "anew":
        (folder / "default/.sweep/composed.jsonl").unlink()
    command = [sys.executable, __file__, "--child", way, str(seeds), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = f"{len(METHODS) * seeds} {'to do' if way == 'make' else 'finished'}\n"
    if done.returncode != 0 or told not in done.stderr:
        sys.exit(f"error: {way}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def launched(way: str, seeds: int, folder: Path) -> dict[str, float]:
    """Seconds of the processor in all and by part, and of the clock."""
    began = time.perf_counter() - time.process_time()  # the interpreter has started before
    from menard_unlearn import cli
    from menard_unlearn.launch import local, planning
    from menard_unlearn.launch.composing import Composer
    from menard_unlearn.stages import unlearn

    spent = dict.fromkeys(PARTS, 0.0)
    spent["start"] = time.process_time()
    timed(Composer, "__init__", "compose", spent)
    timed(Composer, "compose", "compose", spent)
    timed(Composer, "save", "compose", spent)
    timed(unlearn, "plan", "plan", spent)
    timed(planning.Known, "state", "decide", spent)
    if way == "make":
        local.one_by_one = finish
    sweep = [f"method={','.join(METHODS)}", f"seed=range(0,{seeds})", "tracking=none", f"runs_dir={folder}"]
    code = cli.run(["unlearn", "-m", *sweep])
    if code:
        sys.exit(code)
    total = time.process_time()
    spent["rest"] = total - sum(spent.values())
    return {"cpu": total, "wall": time.perf_counter() - began, **spent}


def timed(owner: Any, name: str, part: str, spent: dict[str, float]) -> None:
    """Count the processor's seconds inside a function."""
    function: Callable[..., Any] = getattr(owner, name)

    def counting(*arguments: Any, **named: Any) -> Any:
        started = time.process_time()
        try:
            return function(*arguments, **named)
        finally:
            spent[part] += time.process_time() - started

    setattr(owner, name, counting)


def finish(to_do: Any) -> None:
    """What is left of a run for a sweep to look at."""
    for job in to_do:
        job.payload.directory.write_config(job.payload.config)
        job.payload.directory.write_manifest("unlearn", config_hash="", inputs={}, seconds=0.0, peak_memory_mb=0.0)


def page(size: str, repeats: int, found: dict[str, list[dict[str, float]]]) -> str:
    """The table."""
    runs = len(METHODS) * SEEDS[size]
    rows = []
    for way, costs in found.items():
        middle = {key: statistics.median(cost[key] for cost in costs) for key in costs[0]}
        parts = " | ".join(f"{middle[part]:.1f}" for part in PARTS)
        met = "" if way == "make" else f"≤ {GOAL:.0f} s | {'yes' if middle['cpu'] <= GOAL else '**no**'}"
        rows.append(f"| {WAYS[way]} | {middle['cpu']:.1f} s | {middle['wall']:.1f} s | {met or ' | '} | {parts} |")
    table = "\n".join(rows)
    return f"""# {runs:,} runs, launched again

Written by `python benchmarks/sweep.py --size {size} --repeats {repeats}`; how is said in its head.

{runs:,} runs of `menard unlearn -m method={",".join(METHODS)} seed=range(0,{SEEDS[size]})`; median of
{repeats} launches, the first one made once.
{platform.machine()}, hydra-core {version("hydra-core")}, torch {version("torch")}.

| | processor | wall | goal | met | importing | composing | checking, and hashing | looking | Hydra's own |
|---|---|---|---|---|---|---|---|---|---|
{table}

The interpreter, torch and transformers are most of the first. What the memo spares is Hydra's: a job that differs in
values alone is a copy with the values set, one that chooses other groups is composed from its files (0.13 s)."""


if __name__ == "__main__":
    main()
