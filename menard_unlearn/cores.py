"""How many cores this process may use, and how many threads several of them may start together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def cores(proc: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that this process may use: those it is bound to, or fewer where its control group has a quota of time."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [_quota(folder) for folder in _groups(proc, mounted)]
    return max(1, min([bound, *(int(quota) for quota in quotas if quota is not None)]))


def _groups(proc: Path, mounted: Path) -> Iterator[Path]:
    """Folders of the control groups whose quotas hold for this process: its own and all above it."""
    for line in proc.read_text().splitlines() if proc.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # version 2 has one tree; version 1 has one a controller. In a container the path is the host's, and not there
        for root in [mounted / "cpu", mounted / "cpu,cpuacct"] if controllers else [mounted, mounted / "unified"]:
            own = root / path.strip("/")
            yield from [folder for folder in (own, *own.parents) if folder.is_relative_to(root) and folder.is_dir()]


def _quota(folder: Path) -> float | None:
    """Cores' worth of time that a control group has, or None where it is not limited."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if quota != "max" and int(quota) > 0 else None
    except (OSError, ValueError):
        return None


def threads(cores: int, jobs: int) -> int:
    """Threads of each of several jobs, the same for all, since sums are rounded otherwise with another number."""
    return max(1, cores // max(1, jobs))
