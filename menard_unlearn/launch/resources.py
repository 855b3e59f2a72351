"""What jobs that run side by side on one machine share: its cores and its GPUs."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from menard_unlearn.cores import cores, threads

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""How many threads the libraries beneath torch and numpy start; the first one also speaks for the others."""
TOKENIZERS = "TOKENIZERS_PARALLELISM"
DEVICES = "CUDA_VISIBLE_DEVICES"
SMI_SECONDS = 60.0
"""A driver that is not kept loaded takes its time to come up."""
POLL_SECONDS = 0.5


# Cores


def environment(slot: int, n_jobs: int) -> dict[str, str]:
    """Variables for one of `n_jobs` jobs at once, counted from 0, so that together they do not start more threads than
    there are cores.

    Every slot has the same, so that what a job computes does not depend on its slot. What the user has set stays as it
    is; OMP_NUM_THREADS alone counts for the other libraries, too.
    """
    if not 0 <= slot < n_jobs:
        raise ValueError(f"slot {slot} of {n_jobs} jobs: they are counted from 0")
    number = os.environ.get(THREADS[0]) or str(threads(cores(), n_jobs))
    found = {name: os.environ.get(name) or number for name in THREADS}
    return found | {TOKENIZERS: os.environ.get(TOKENIZERS) or "false"}  # its threads are not counted in the others


# GPUs


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; none where there is none."""
    return _visible(_listed())


def _visible(listed: Mapping[str, str]) -> list[str]:
    if DEVICES not in os.environ:
        return list(listed)
    named = [name.strip() for name in os.environ[DEVICES].split(",")]
    # CUDA stops reading at what is no device
    return list(itertools.takewhile(lambda name: re.match(r"\d|GPU-|MIG-", name), named))


def _listed() -> dict[str, str]:
    """The unique id of each GPU by its name, or of each of its parts where it is divided."""
    try:
        said = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=SMI_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    gpus: list[dict[str, str]] = []
    for line in said.stdout.splitlines():
        if whole := re.match(r"GPU (\d+):.*\(UUID: (GPU-[^)]+)\)", line):
            gpus.append({whole[1]: whole[2]})
        elif part := re.match(r"\s+MIG .*\(UUID: (MIG-[^)]+)\)", line):
            # A divided GPU as a whole is of no use
            gpus[-1] = {name: id for name, id in gpus[-1].items() if name == id} | {part[1]: part[1]}
    return {name: id for gpu in gpus for name, id in gpu.items()}


def slots_folder() -> Path:
    """Where the slots of GPUs lie: this user's, on this host, for all studies."""
    return Path(tempfile.gettempdir()) / f"menard-gpus-{os.getuid()}"


@contextlib.contextmanager
def claim_gpu(folder: Path | None = None, stopping: Callable[[], bool] = lambda: False) -> Iterator[str | None]:
    """One of the GPUs for as long as the context lasts, as a value for CUDA_VISIBLE_DEVICES; None without a GPU.

    Waits while other processes with the same `folder`, by default `slots_folder`, have them all; None also where
    `stopping` comes to hold meanwhile. The GPUs of a process
    that dies are free at once. They are told apart by host and, where the driver says it, by unique id: a job in which
    the scheduler has hidden all GPUs but its own calls it 0, too.
    """
    listed = _listed()
    names = _visible(listed)
    if not names:
        yield None
        return
    own = (slots_folder() if folder is None else folder) / platform.node()
    own.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        slots = [own / f"{listed.get(name, name).replace('/', '-')}.lock" for name in names]
        number = _first_free(slots, held, stopping)
        yield None if number is None else names[number]


def _first_free(slots: Sequence[Path], held: contextlib.ExitStack, stopping: Callable[[], bool]) -> int | None:
    """Number of the slot whose lock is held now; it goes with the stack."""
    said = False
    while not stopping():
        for number, slot in enumerate(slots):
            file = open(slot, "ab")  # noqa: SIM115
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            held.enter_context(file)
            # Not by closing alone: a process that was forked meanwhile has the file open, too
            held.callback(fcntl.flock, file, fcntl.LOCK_UN)
            return number
        if not said:
            print(f"waiting: {len(slots)} of {len(slots)} GPUs are taken (see {slots[0].parent})", flush=True)
            said = True
        time.sleep(POLL_SECONDS)
    return None
