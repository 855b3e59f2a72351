"""As little of a run's files as will do, whatever state they are in."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

TAIL_BYTES = 65_536
"""Of a history: more than its last rows need."""


def last_logged(history: Path) -> tuple[int | None, float | None]:
    """Step and loss that were logged last, from the file's end alone; a line that is torn or broken is passed over."""
    try:
        with open(history, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            *lines, _torn = file.read().split(b"\n")
    except OSError:
        return None, None
    step: int | None = None
    for line in reversed(lines):
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            step = row.get("step") if step is None else step
            if row.get("loss") is not None:
                return step, row["loss"]
    return step, None


def read_json(path: Path) -> Any:
    """What the file holds, or None where there is none."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
