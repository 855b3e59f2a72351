"""One of several processes that do the descent of a stage that trains, started by torchrun with the run's directory.

Checks, references, evaluation and tracking are the business of the process that started it all.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from menard_unlearn.errors import UserError
from menard_unlearn.run import RunDir
from menard_unlearn.stages.descent import Descent
from menard_unlearn.stages.finetune import FINETUNING
from menard_unlearn.stages.settings import Settings
from menard_unlearn.stages.unlearn import UNLEARNING
from menard_unlearn.training.course import processes
from menard_unlearn.training.loop import TrainResult
from menard_unlearn.training.preemption import Preemption
from menard_unlearn.training.rank import TakeRow, take_part

DESCENTS: dict[str, Descent[Any]] = {descent.stage: descent for descent in (UNLEARNING, FINETUNING)}


def _train(run: RunDir, preemption: Preemption, on_log: TakeRow) -> tuple[TrainResult, str]:
    processes()  # joined first, so that the model is loaded onto the GPU of this process
    config = run.read_config()
    descent = DESCENTS[config["stage"]]
    job = descent.job_of(Settings.of(config))
    if job.run.path.resolve() != run.path.resolve():
        raise UserError(f"data or model have changed since {run.path.name} was begun ({job.run.path.name}): start anew")
    return descent.descend(job, descent.items_of(job), on_log, preemption)


def main(arguments: list[str]) -> None:
    """Train the run in this directory."""
    run = RunDir(Path(arguments[0]))
    take_part(run, partial(_train, run))


if __name__ == "__main__":
    main(sys.argv[1:])
