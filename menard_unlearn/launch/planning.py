"""From a sweep's overrides to what is to be done about each run: skip, leave alone, or do."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from menard_unlearn.errors import UserError
from menard_unlearn.files import canonical, digest_text
from menard_unlearn.launch.composing import Composer
from menard_unlearn.launch.slurm_queue import Queue, present
from menard_unlearn.launch.state import FINISHED, QUEUED, RUNNING, Known, State
from menard_unlearn.launch.sweep import Payload, Sweep, told_of


@dataclass(frozen=True)
class Planned:
    """One job of a sweep."""

    number: int
    """Its place in the sweep."""
    payload: Payload
    state: State
    """As it was found when the sweep was launched."""

    @property
    def to_do(self) -> bool:
        """Whether this launch is to run it."""
        return self.state.name not in (FINISHED, RUNNING, QUEUED)


def payloads(
    context: HydraContext,
    config: DictConfig,
    stage: str,
    module: str,
    job_overrides: Sequence[Sequence[str]],
    first: int = 0,
) -> list[Payload]:
    """Compose every job, check it, and find its run directory: a payload each, in order.

    Raises UserError that names the job, counted from `first`.
    """
    planner = importlib.import_module(module)
    known: dict[str, Any] = {}
    found = []
    with Composer.remembering(context, config, Path(str(config.hydra.sweep.dir))) as composer:
        for number, overrides in enumerate(job_overrides, start=first):
            try:
                plain = composer.compose(overrides)
                run = planner.plan(plain, known)
                identity = planner.config_hash(plain, known) if hasattr(planner, "config_hash") else None
            except UserError as error:
                raise UserError(f"job {number} ({told_of(overrides)}): {error}") from error
            found.append(Payload(stage, module, tuple(overrides), plain, str(run.path), identity))
    return _grouped(found, config)


def _grouped(found: Sequence[Payload], config: DictConfig) -> list[Payload]:
    """Tracked runs of one sweep are folded together, under a name that the same sweep has again."""
    if optimising(config):  # its jobs come in batches, and no batch knows the others
        params = config.hydra.sweeper.get("params")  # of a study; more trials are the same search
        sweep = [sorted(config.hydra.overrides.task), {} if params is None else OmegaConf.to_container(params)]
    else:
        sweep = sorted({payload.run for payload in found})
    name = f"sweep-{digest_text(canonical(sweep))[:8]}"
    return [_with_group(payload, name) for payload in found]


def _with_group(payload: Payload, name: str) -> Payload:
    tracking = payload.config.get("tracking")
    if not isinstance(tracking, Mapping) or tracking.get("group", name) is not None:
        return payload
    return replace(payload, config={**payload.config, "tracking": {**tracking, "group": name}})


def optimising(config: DictConfig) -> bool:
    """Whether the sweeper waits for what its jobs found before it says what comes next."""
    return not str(config.hydra.sweeper._target_).endswith((".BasicSweeper", ".GridSweeper"))


@contextmanager
def deciding(found: Sequence[Payload], first: int = 0) -> Iterator[list[Planned]]:
    """What is to be done about each run, with the ledgers held: no other launch decides until this one has.

    Different overrides may mean one run (seed=1,1.0); it is one job then. Jobs are counted from `first`.
    """
    numbers: dict[str, int] = {}
    for number, payload in enumerate(found, start=first):
        numbers.setdefault(payload.run, number)
    distinct = {payload.run: payload for payload in reversed(found)}
    sweeps = {Sweep.of(payload.directory).path: Sweep.of(payload.directory) for payload in found}
    with ExitStack() as held:
        for path in sorted(sweeps):
            held.enter_context(sweeps[path].lock())
        known = known_of(list(sweeps.values()))
        yield [
            Planned(number, distinct[run], known[Sweep.of(distinct[run].directory).path].state(distinct[run]))
            for run, number in numbers.items()
        ]


def known_of(sweeps: Sequence[Sweep]) -> dict[Path, Known]:
    """What the ledgers and the queue say; the queue is asked where something was ever submitted to one."""
    submitted = any(entry.launcher["kind"] == "slurm" for sweep in sweeps for entry in sweep.entries().values())
    queue = Queue.ask() if submitted and present() else None
    return {sweep.path: Known(sweep, queue) for sweep in sweeps}


def told(planned: Sequence[Planned]) -> str:
    """How many runs are in which state, in a line."""
    counts = Counter(job.state.name if not job.to_do else "to do" for job in planned)
    parts = [f"{counts[name]} {name}" for name in (FINISHED, RUNNING, QUEUED, "to do") if counts[name]]
    return f"{len(planned)} run{'s' if len(planned) != 1 else ''}: {', '.join(parts) or 'none'}"
