"""The benchmarks run, at a size at which their numbers mean nothing. That both sides give the same losses is checked by
the benchmark itself, which would end with an error."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(script: str, *words: str, folder: Path = ROOT / "benchmarks") -> subprocess.CompletedProcess[str]:
    search = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, str(folder / script), "--size", "tiny", "--repeats", "1", *words],
        env=os.environ | {"PYTHONPATH": search, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def table(text: str) -> dict[str, list[str]]:
    """Cells by the first of their row, which the heading has not."""
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| ") and not line.startswith("| |")]
    return {cells[0].removeprefix("| "): cells[1:] for cells in lines}


def test_methods(tmp_path: Path) -> None:
    done = run("methods.py", "--write", str(tmp_path / "table.md"))
    assert done.returncode == 0, done.stderr
    rows = table((tmp_path / "table.md").read_text())
    assert len(rows) == 8
    assert all(float(cells[2].rstrip("×%")) > 0 for cells in rows.values())


def test_sides_that_disagree_are_an_error(tmp_path: Path) -> None:
    for path in (ROOT / "benchmarks").glob("*.py"):
        shutil.copy(path, tmp_path)
    plain = tmp_path / "plain.py"
    right = "second = (weight_BT[:, 0]"
    assert right in plain.read_text()
    plain.write_text(plain.read_text().replace(right, "second = (2 * weight_BT[:, 0]"))
    done = run("methods.py", "--only", "rmu", folder=tmp_path)
    assert done.returncode == 1
    assert "error: rmu: forget is" in done.stderr


def test_gpu() -> None:
    done = run("gpu.py")
    assert done.returncode == 0, done.stderr
    rows = table(done.stdout)
    assert list(rows) == ["RMU, stump", "GradDiff, LoRA"]
    assert all(float(cells[0].replace(",", "")) > 0 for cells in rows.values())


def test_evaluation(tmp_path: Path) -> None:
    done = run("evaluation.py", "--write", str(tmp_path / "table.md"))
    assert done.returncode == 0, done.stderr
    rows = table((tmp_path / "table.md").read_text())
    counts = {
        name: [int(cell.replace(",", "")) for cell in cells[1:3]] for name, cells in rows.items() if "s |" in cells[-1]
    }
    # four letters and twenty years, each a sequence or all of them read off one
    assert counts["choice of a letter"][0] == 4 * counts["choice of a letter"][1]
    assert counts["year of an event"][0] == 20 * counts["year of an event"][1]
    assert all(plain >= shared > 0 for plain, shared in counts.values())
    full, one = counts["**full suite**"], counts["**one pass**"]
    assert rows["full suite"][0] == f"{full[0] / one[0]:.1f}×"
    assert rows["full suite"][3] == f"{full[1] / one[1]:.1f}×"
