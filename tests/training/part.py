"""One process of a training that is disturbed: `python -m part <folder> <what happens>`, started by torchrun.

What happens is JSON: {"step": …, "signals": […]} sends signals to every process of the group, as a scheduler does, when
this step is logged; {"step": …, "kill": <rank>} kills one process; {"step": …, "error": …} raises one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

import psutil
from tiny_training import tiny_train

from menard_unlearn.errors import UserError
from menard_unlearn.run import RunDir
from menard_unlearn.training.loop import TrainResult
from menard_unlearn.training.preemption import Preemption
from menard_unlearn.training.rank import TakeRow, take_part

CHANGES: dict[str, Any] = {"learning_rate": 1e-3, "max_steps": 9, "checkpoint_every": 4, "stop": None}


def disturbed(folder: Path, event: dict[str, Any], preemption: Preemption, on_log: TakeRow) -> tuple[TrainResult, str]:
    def row_and_event(row: dict[str, Any]) -> None:
        on_log(row)
        if row["step"] == event.get("step") and "loss" in row:
            if "error" in event:
                raise UserError(event["error"])
            for number in event.get("signals", ()):
                signal_all(number)
        if "signals" in event and row["step"] >= event["step"]:
            time.sleep(0.5)  # any of the processes may be the one that hears of it

    def evaluate(step: int) -> dict[str, float]:
        if step == event.get("step") and int(os.environ["RANK"]) == event.get("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        return {}

    hooks = {"on_log": row_and_event, "on_evaluate": evaluate, "evaluate_every": 1, "preemption": preemption}
    return tiny_train(folder, "npo", hooks=hooks, **CHANGES), "tiny"


def signal_all(number: int) -> None:
    """The process that started torchrun, torchrun, and all of its processes."""
    first = psutil.Process().parents()[1]
    for process in (first, *first.children(recursive=True)):
        process.send_signal(number)


if __name__ == "__main__":
    folder, event = Path(sys.argv[1]), json.loads(sys.argv[2])
    take_part(RunDir(folder), lambda preemption, on_log: disturbed(folder, event, preemption, on_log))
