"""menard demo on the tiny study: a table, a page, and nothing done twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_study import Study

from menard_unlearn import cli


def demo(study: Study, runs: Path, method: str) -> list[str]:
    """The demo with the tiny study's data and models in place of the embedded ones."""
    values = study.unlearning(runs, method=method)[1:]
    return ["demo", *(value for value in values if not value.startswith("study="))]


def test_the_demo_ends_with_a_table_and_a_page_and_is_not_done_twice(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(demo(study, tmp_path, "gradient_ascent,npo")) == 0
    lines = capsys.readouterr().out.splitlines()
    page = tmp_path / "forget_1939/report.html"
    assert lines[-1].endswith(f"the page: {page}") and page.stat().st_size > 10_000
    table = [line.split()[0] for line in lines[-7:-2]]
    assert table == ["base", "gold", "prompted", "gradient_ascent", "npo"]
    summary = json.loads((page.parent / "summary.json").read_text())
    assert [row["method"] for row in summary] == table
    runs = {
        path: path.stat().st_mtime_ns
        for path in page.parent.rglob("*")
        if path.is_file() and path.parent != page.parent
    }
    assert cli.run(demo(study, tmp_path, "gradient_ascent,npo")) == 0
    again = capsys.readouterr()
    assert "2 runs: 2 finished" in again.err and "evaluating" not in again.out and str(page) in again.out
    runs = {path: time for path, time in runs.items() if ".sweep" not in path.parts and path.name != ".lock"}
    assert {path: path.stat().st_mtime_ns for path in runs} == runs


def test_the_demo_says_what_was_wrong_with_a_value(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*demo(study, tmp_path, "npo"), "trainer.max_step=3"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "did you mean trainer.max_steps?" in line and not list(tmp_path.iterdir())


def test_a_method_that_fails_leaves_the_others_their_table_and_page(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*demo(study, tmp_path, "npo,rmu"), "method.no_such_field=1"]) == 2
    assert not list(tmp_path.glob("forget_1939/npo-*"))
    # at 1e30 the weights are not finite after the first step
    assert cli.run([*demo(study, tmp_path, "npo"), "trainer.learning_rate=1e30,1e-3"]) == 2
    printed = capsys.readouterr()
    assert "1 failed" in printed.err and (tmp_path / "forget_1939/report.html").is_file()
    assert [row["method"] for row in json.loads((tmp_path / "forget_1939/summary.json").read_text())][3:] == ["npo"]
