"""Processes that fill one cache at once, forked after the slow imports. `filling.py <folder> <case>...`"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

import torch
from cached import RMU_7, Run, config, pair
from torch import distributed

from menard_unlearn.training import layout
from menard_unlearn.training.store import Store

SEEDS = range(6)
SLOWLY = 0.005
"""Seconds that a write takes longer, in which others ask for the same block."""
CASES = {"alone": 1, "together": 4, "killed": 4, "ranks": 2}
"""Processes of each."""
WRITE = Store.write


def wait_for(*paths: Path) -> None:
    while not all(path.exists() for path in paths):
        time.sleep(0.001)


def noted(log: int, killed: Path | None) -> None:
    """Have each block that was written noted in a file that all processes share; or die in the middle of the first."""

    def write(self: Store, block: int, values: Sequence[torch.Tensor]) -> None:
        time.sleep(SLOWLY)
        if killed is not None:
            with open(self.folder / "rows.bin", "r+b") as file:
                file.seek(self.layout.starts[block][0])
                file.write(b"half")
            killed.touch()
            time.sleep(0.3)  # the others wait for this block by now
            os.kill(os.getpid(), signal.SIGKILL)
        WRITE(self, block, values)
        os.write(log, f"{self.folder.parent.name}/{self.folder.name} {block}\n".encode())

    Store.write = write


def fill(folder: Path, case: str, number: int) -> None:
    """One of the processes: all steps, in an order of its own."""
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    dies = case == "killed" and number == 0
    noted(log, folder / "writing" if dies else None)
    run = Run(config(folder / "cache"))
    if case == "ranks":
        distributed.init_process_group("gloo", init_method=f"file://{folder / 'group'}", rank=number, world_size=2)
    (folder / f"ready-{number}").touch()
    wait_for(*(folder / f"ready-{other}" for other in range(CASES[case])))
    if case == "killed" and not dies:
        wait_for(folder / "writing")
    found = {}
    for seed in list(SEEDS)[:: -1 if number % 2 else 1]:
        found[seed] = run.step(RMU_7, pair(seed))
        if case == "ranks":
            distributed.all_reduce(torch.ones(1))
    torch.save(found, folder / f"{number}.pt")


def main(folder: Path, cases: Sequence[str]) -> None:
    layout.BLOCK_TOKENS = 16
    gc.freeze()
    for case in cases:
        (folder / case).mkdir()
        children = []
        for number in range(CASES[case]):
            child = os.fork()
            if child == 0:
                fill(folder / case, case, number)
                os._exit(0)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        (folder / case / "codes").write_text(json.dumps(codes))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2:])
