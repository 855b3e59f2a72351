"""How much memory this process needed at its worst."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path
from typing import Any


def peak_memory_mb() -> float:
    """Peak memory in MiB since the last reset: the GPU's where this process uses one, else the resident set."""
    cuda = _cuda_in_use()
    if cuda is not None:
        return max(cuda.max_memory_allocated(device) for device in range(cuda.device_count())) / 2**20
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    # Elsewhere than on Linux the peak is the whole process's: macOS counts in bytes, the BSDs in KiB.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def reset_peak_memory() -> None:
    """Start the peak anew, as far as the system allows: one process runs many jobs of a sweep."""
    cuda = _cuda_in_use()
    if cuda is not None:
        for device in range(cuda.device_count()):
            cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _cuda_in_use() -> Any:
    # torch is looked up, not imported: this module has to stay light for `menard status`.
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None
