"""The page in a real browser, where one is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from synthetic import write_study

from menard_unlearn.report.page import build_page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update "
    "disable-sync enable-logging=stderr virtual-time-budget=10000 dump-dom"
)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_are_drawn_without_errors(tmp_path: Path, scheme: str) -> None:
    folder = tmp_path / "synthetic"
    folder.mkdir()
    page = build_page(write_study(folder, seeds=1, published=True, n_tokens=30), tmp_path / "report.html")
    command = [
        str(CHROMIUM),
        "--headless",
        *(f"--{flag}" for flag in QUIET.split()),
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "data-failed" not in done.stdout
    assert not re.findall(r"CONSOLE.*", done.stderr)
    plots = re.split(r'<div class="plot js-plotly-plot"', done.stdout)[1:]
    assert len(plots) == 2 + 4 + 4 + 2 + 4
    for plot in plots:
        assert "main-svg" in plot
        assert 'class="trace scatter' in plot
    ink = {"light": "rgb(43, 43, 43)", "dark": "rgb(230, 230, 227)"}[scheme]
    assert ink in done.stdout
