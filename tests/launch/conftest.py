from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from sweeping import STANDIN, Sweeps

from menard_unlearn import cli


@pytest.fixture
def sweeps(tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sweeps]:
    """A folder for runs, and an installation in which the stand-in is a stage, for jobs in other processes as well."""
    monkeypatch.syspath_prepend(str(STANDIN.parent))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(STANDIN.parent), str(checkout)]))
    monkeypatch.setattr(cli, "STAGES", cli.STAGES | {"standin": cli.Stage("standin", "trains nothing")})
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup, what is started here would not hear of it
    yield Sweeps(tmp_path / "runs")
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def menard(sweeps: Sweeps, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Launch a sweep from this process; gives the exit code and what it wrote to stderr."""

    def call(*arguments: str, launcher: str = "local") -> tuple[int, str]:
        given = ["standin", *sweeps.given(*arguments, launcher=launcher), "--config-dir", str(STANDIN.parent / "conf")]
        code = cli.run(given)
        return code, capsys.readouterr().err

    return call
