"""Jobs of a sweep on this machine: one after another in this process, or several at once in processes of their own."""

from __future__ import annotations

import contextlib
import importlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from menard_unlearn.config import build
from menard_unlearn.cores import cores
from menard_unlearn.errors import Busy
from menard_unlearn.launch.composing import as_config
from menard_unlearn.launch.failures import foreseen, refuse, report
from menard_unlearn.launch.planning import Planned
from menard_unlearn.launch.pool import Pool, log_path
from menard_unlearn.launch.resources import visible_gpus
from menard_unlearn.launch.sweep import Entry, Sweep, told_of

log = logging.getLogger(__name__)

LOCAL = {"kind": "local"}
"""How the ledger calls jobs in the launch's own process, which print to its terminal."""
CORES_A_JOB = 4
"""More threads than this help a small model little; a large one has a GPU."""


@dataclass(frozen=True)
class ParallelConfig:
    """How many jobs run at once."""

    jobs: int | None
    """So many; null is one for every GPU, or, without one, for every four cores."""
    one_gpu_each: bool
    """Each job sees one of the GPUs, which no other job of this user has meanwhile; false shares them all."""

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise ValueError(f"jobs={self.jobs}: give 1 or more, or null")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ParallelConfig:
        """From the values of conf/hydra/launcher/parallel.yaml. Raises UserError at the first that is wrong."""
        return build({**values, "_target_": f"{cls.__module__}.{cls.__qualname__}"}, cls)

    def count(self) -> int:
        """Jobs at once."""
        return self.jobs or len(visible_gpus()) or max(1, cores() // CORES_A_JOB)

    def asked(self) -> dict[str, Any]:
        """As the ledger keeps it."""
        return {"kind": "parallel", **asdict(self)}


@contextlib.contextmanager
def launched(to_do: Sequence[Planned], launchers: Sequence[dict[str, Any]]) -> Iterator[list[Path]]:
    """Note in the ledgers that this process will do these, and that it is alive; gives the paths of the payloads.

    `launchers`: of each, `LOCAL` or what `ParallelConfig.asked` gives, for `menard retry`. Enter it while the ledgers
    are held, so that no other launch takes the same runs for free.
    """
    found = [job.payload for job in to_do]
    sweeps = {Sweep.of(payload.directory).path: Sweep.of(payload.directory) for payload in found}
    with contextlib.ExitStack() as held:
        names = {path: held.enter_context(sweep.launching()) for path, sweep in sweeps.items()}
        paths = [Sweep.of(payload.directory).keep(payload) for payload in found]
        entries: dict[Path, list[Entry]] = {path: [] for path in sweeps}
        for payload, kept, launcher in zip(found, paths, launchers, strict=True):
            path, output = Sweep.of(payload.directory).path, None if launcher == LOCAL else str(log_path(payload))
            run = payload.directory.path.name
            entries[path].append(Entry(run, str(kept), launcher, names[path], output, time.time()))
        for path, sweep in sweeps.items():
            sweep.append(entries[path])
        yield paths


def one_by_one(to_do: Sequence[Planned]) -> None:
    """Do these in order, in this process; as `all_of`. What is done or being done elsewhere meanwhile is left alone."""
    failed = 0
    for job in to_do:
        if job.payload.done:
            log.info(f"{job.payload.directory.path.name} was finished meanwhile")
            continue
        log.info(f"#{job.number} {job.payload.told}")
        failed += _failed(job.payload.module, job.payload.config, f"job {job.number} ({job.payload.told})")
    refuse(failed)


def all_of(jobs: Sequence[tuple[Sequence[str], Mapping[str, Any]]], module: str, first: int) -> None:
    """Do jobs, given as overrides and configuration and counted from `first`, in order in this process.

    A failing one is reported when it fails and the others go on; `Failed` at the end counts them.
    """
    failed = 0
    for number, (overrides, config) in enumerate(jobs, start=first):
        log.info(f"#{number} {told_of(overrides)}")
        failed += _failed(module, config, f"job {number} ({told_of(overrides)})")
    refuse(failed)


def _failed(module: str, config: Mapping[str, Any], told: str) -> bool:
    try:
        importlib.import_module(module).main(as_config(config))
    except Busy as busy:
        log.info(f"{busy}; left alone")
    except Exception as error:
        report(foreseen(error, config), told)
        return True
    return False


def at_once(to_do: Sequence[Planned], paths: Sequence[Path], settings: ParallelConfig) -> None:
    """Do these, several at a time. Ctrl-C and SIGTERM reach every job, which saves and leaves; `Failed` at the end
    counts those that failed."""
    if not to_do:
        return
    n_jobs = min(settings.count(), len(to_do))
    pool = Pool(n_jobs, settings.one_gpu_each)
    with pool.obeying(), ThreadPoolExecutor(n_jobs) as threads:
        failed = sum(threads.map(pool.run, to_do, paths))
    if pool.ended_by is not None:
        raise pool.ended_by
    refuse(failed)
