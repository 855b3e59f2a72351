"""The benchmark of tracking runs and measures every way; its figures are in benchmarks/tracking.md."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(900)
def test_every_way_is_measured(checkout: Path) -> None:
    script = checkout / "benchmarks/tracking.py"
    search = os.pathsep.join([str(checkout), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(script), "--size", "tiny", "--repeats", "1"],
        env=os.environ | {"PYTHONPATH": search, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown, kept = (table(text) for text in (done.stdout, (script.with_suffix(".md")).read_text(encoding="utf-8")))
    assert list(shown) == list(kept) == ["jsonl", "wandb, offline", "wandb, online", "wandb, the server dies"]
    assert all(float(share) > 0 for share in shown.values())
    assert all(float(share) <= 1 for share in kept.values())


def table(text: str) -> dict[str, str]:
    """Share of a step in percent, by way."""
    rows = re.finditer(r"^\| (?P<way>[^|]+) \|[^|]+\|[^|]+\|[^|]+\| (?P<share>[\d.]+)% \|", text, re.MULTILINE)
    return {row["way"]: row["share"] for row in rows}
