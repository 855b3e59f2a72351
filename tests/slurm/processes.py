"""Processes and ports of this machine, as /proc and the kernel tell of them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path


def alive(pid: int) -> bool:
    """Whether the process runs. A zombie, which answers signals as long as nobody reaps it, does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def running(file: Path, program: str) -> int | None:
    """The process that a pid file names, or None: it has ended, or its number has gone to another program since."""
    text = file.read_text().strip() if file.is_file() else ""
    if not text.isdigit() or not alive(int(text)):
        return None
    return int(text) if Path(f"/proc/{text}/comm").read_text().strip() == program else None


def stop(pid: int | None, by: signal.Signals = signal.SIGTERM) -> None:
    """Signal the process and wait for its end; KILL after 5 s. slurmctld forgets a job just begun if it is killed."""
    if pid is None:
        return
    for sent in (by, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sent)
        if until(lambda: not alive(pid), 5):
            return


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition comes to hold in this time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def tail(file: Path) -> list[str]:
    """The last lines of a log."""
    return file.read_text(errors="replace").splitlines()[-15:]


def free_ports(count: int, seed: str) -> list[int]:
    """Ports that nobody listens on, below those that the kernel hands out; another seed begins elsewhere."""
    found: list[int] = []
    port = 20000 + int(hashlib.sha256(seed.encode()).hexdigest(), 16) % 10000
    while len(found) < count:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))
            found.append(port)
        port = port + 1 if port < 32000 else 20000
    return found
