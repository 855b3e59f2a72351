"""Hydra's launchers, and its sweeper: one after another here, several at once here, or as an array of jobs on Slurm.

All three first decide about every run, so that a sweep launched again does only what is left of it. Hydra takes
launchers from packages called `hydra_plugins` alone; `menard_unlearn.compose` puts this one where it looks.
"""

from __future__ import annotations

import importlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from hydra._internal.core_plugins import basic_sweeper
from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from menard_unlearn.errors import UserError
from menard_unlearn.launch import local, slurm
from menard_unlearn.launch.composing import Composer
from menard_unlearn.launch.failures import Failed
from menard_unlearn.launch.planning import Planned, deciding, optimising, payloads, told
from menard_unlearn.launch.sweep import Payload

log = logging.getLogger("menard_unlearn.launch")


class GridSweeper(basic_sweeper.BasicSweeper):
    """Every combination."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Left to the launchers, which compose all jobs before one is started, and remember them: to compose a
        thousand takes minutes."""


class Sweeping(Launcher, ABC):
    """What the three have in common."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's way of handing over the sweep."""
        self.context = hydra_context
        self.config = config
        self.job: Any = task_function  # a compose.Job

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Decide, start what is to be done, and return a result a job: what its stage says of the finished run, or
        nothing where it is not finished.

        Failed jobs are counted for the command, and only an optimising sweeper is told which they are: Hydra's own
        one would end at the first and start no further batch.
        """
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        if not hasattr(importlib.import_module(self.job.module), "plan"):
            return self.launch_unplanned(job_overrides, initial_job_idx)
        found = payloads(self.context, self.config, self.job.stage, self.job.module, job_overrides, initial_job_idx)
        try:
            self.start(found, initial_job_idx)
        except Failed as failed:
            self.job.failed.append(failed.count)
        return [self._result(payload) for payload in found]

    @abstractmethod
    def start(self, found: Sequence[Payload], first: int) -> None:
        """Start what is to be done. Raises Failed where jobs failed, UserError where none could be started."""

    def launch_unplanned(self, job_overrides: Sequence[Sequence[str]], first: int) -> Sequence[JobReturn]:
        """Jobs of a stage that cannot say beforehand where its run lies."""
        raise UserError(f"menard {self.job.stage} --multirun runs its jobs one by one: add hydra/launcher=local")

    def _result(self, payload: Payload) -> JobReturn:
        try:
            return result(payload.overrides, self._outcome(payload))
        except UserError as error:
            if optimising(self.config):
                log.info(f"{payload.directory.path.name}: {error}")
                return result(payload.overrides, error, JobStatus.FAILED)
            return result(payload.overrides, None)

    def _outcome(self, payload: Payload) -> object:
        if not optimising(self.config):
            return None
        outcome = getattr(importlib.import_module(payload.module), "outcome", None)
        if outcome is None:
            raise UserError(f"menard {payload.stage} has no objective: search with menard unlearn")
        if not payload.done:
            failure = payload.directory.failure()
            raise UserError(failure["error"] if failure else "not finished: another launch has it, or it was ended")
        return outcome(payload.config, payload.directory)


class LocalLauncher(Sweeping):
    """One after another, in this process."""

    def start(self, found: Sequence[Payload], first: int) -> None:
        """Each run is looked at anew when its turn comes: a single command may have been quicker."""
        with ExitStack() as held:
            with deciding(found, first) as planned:
                announce(planned)
                to_do = [job for job in planned if job.to_do]
                held.enter_context(local.launched(to_do, [local.LOCAL] * len(to_do)))
            local.one_by_one(to_do)

    def launch_unplanned(self, job_overrides: Sequence[Sequence[str]], first: int) -> Sequence[JobReturn]:
        """Composed before the first begins; the stage itself finds out what is done already."""
        composer = Composer(self.context, self.config, None)
        jobs = [(overrides, composer.compose(overrides)) for overrides in job_overrides]
        try:
            local.all_of(jobs, self.job.module, first)
        except Failed as failed:
            self.job.failed.append(failed.count)
        return [result(overrides, None) for overrides in job_overrides]


class ParallelLauncher(Sweeping):
    """Several at once, each in a process of its own."""

    def __init__(self, jobs: int | None, one_gpu_each: bool) -> None:
        self.settings = local.ParallelConfig.of({"jobs": jobs, "one_gpu_each": one_gpu_each})

    def start(self, found: Sequence[Payload], first: int) -> None:
        """As many at once as were asked for."""
        with ExitStack() as held:
            with deciding(found, first) as planned:
                announce(planned)
                to_do = [job for job in planned if job.to_do]
                paths = held.enter_context(local.launched(to_do, [self.settings.asked()] * len(to_do)))
            local.at_once(to_do, paths, self.settings)


class SlurmLauncher(Sweeping):
    """As an array of jobs; returns when they are queued."""

    def __init__(self, **values: object) -> None:
        self.values = values

    def start(self, found: Sequence[Payload], first: int) -> None:
        """Queue what is to be done, while no other launch can."""
        settings = slurm.SlurmConfig.of(self.values)
        if optimising(self.config) and not settings.wait:
            raise UserError(
                "a search needs what its jobs found before it goes on: add hydra.launcher.wait=true, and leave the "
                "command running"
            )
        with deciding(found, first) as planned:
            announce(planned)
            slurm.submit([job.payload for job in planned if job.to_do], settings)
        if settings.wait and not settings.dry_run:
            slurm.wait(found)


PLUGINS = (LocalLauncher, ParallelLauncher, SlurmLauncher, GridSweeper)


def result(overrides: Sequence[str], value: object, status: JobStatus = JobStatus.COMPLETED) -> JobReturn:
    """What Hydra's sweepers are given of a job; an exception as the value of a failed one."""
    found = JobReturn()
    found.return_value, found.status, found.overrides = value, status, list(overrides)
    return found


def announce(planned: Sequence[Planned]) -> None:
    """Say what was decided, and who has the runs that are left alone."""
    log.info(told(planned))
    for job in planned:
        if job.state.by is not None:
            log.info(f"  {job.payload.directory.path.name}: {job.state.name} ({job.state.by}), left alone")
