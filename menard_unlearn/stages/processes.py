"""One of several processes that do the descent of `menard unlearn`, started by torchrun with the run's directory.

Checks, references, evaluation and tracking are the business of the process that started it all.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from menard_unlearn.errors import UserError
from menard_unlearn.run import RunDir
from menard_unlearn.stages.job import Job
from menard_unlearn.stages.settings import Settings
from menard_unlearn.stages.unlearn import descend, items_of
from menard_unlearn.training.course import processes
from menard_unlearn.training.loop import TrainResult
from menard_unlearn.training.preemption import Preemption
from menard_unlearn.training.rank import TakeRow, take_part


def _train(run: RunDir, preemption: Preemption, on_log: TakeRow) -> tuple[TrainResult, str]:
    processes()  # joined first, so that the model is loaded onto the GPU of this process
    job = Job.of(Settings.of(run.read_config()))
    if job.run.path.resolve() != run.path.resolve():
        raise UserError(f"data or model have changed since {run.path.name} was begun ({job.run.path.name}): start anew")
    return descend(job, items_of(job), on_log, preemption)


def main(arguments: list[str]) -> None:
    """Train the run in this directory."""
    run = RunDir(Path(arguments[0]))
    take_part(run, partial(_train, run))


if __name__ == "__main__":
    main(sys.argv[1:])
