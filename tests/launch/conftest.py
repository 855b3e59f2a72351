from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from sweeping import STANDIN, Sweeps

from menard_unlearn import cli


@pytest.fixture
def sweeps(tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Sweeps:
    """A folder for runs, and an installation in which the stand-in is a stage, for jobs in other processes as well."""
    monkeypatch.syspath_prepend(str(STANDIN.parent))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(STANDIN.parent), str(checkout)]))
    monkeypatch.setattr(cli, "STAGES", cli.STAGES | {"standin": cli.Stage("standin", "trains nothing")})
    return Sweeps(tmp_path / "runs")


@pytest.fixture
def menard(sweeps: Sweeps, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Launch a sweep from this process; gives the exit code and what it wrote to stderr."""

    def call(*arguments: str, launcher: str = "local") -> tuple[int, str]:
        given = ["standin", *sweeps.given(*arguments, launcher=launcher), "--config-dir", str(STANDIN.parent / "conf")]
        code = cli.run(given)
        return code, capsys.readouterr().err

    return call
