"""From a study's folder to its page, through the stage."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from synthetic import write_study

from menard_unlearn import cli
from menard_unlearn.errors import UserError
from menard_unlearn.stages.report import main


def run(*places: Path, to: Path | None = None) -> None:
    given = [str(place) for place in places]
    main(OmegaConf.create({"runs": given if len(given) > 1 else given[0], "to": None if to is None else str(to)}))


def test_summary_is_gathered_anew_and_the_page_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(tmp_path, seeds=2, published=False, n_tokens=5)
    shutil.rmtree(tmp_path / "rmu-s1-00000001")
    run(tmp_path)
    printed = capsys.readouterr().out
    assert printed.rstrip().endswith(f"the page: {tmp_path / 'report.html'}")
    assert "rmu s0" in printed
    rows = json.loads((tmp_path / "summary.json").read_text())
    assert [(row["method"], row["seed"]) for row in rows if row["method"] == "rmu"] == [("rmu", 0)]
    page = (tmp_path / "report.html").read_text()
    assert "rmu-s0-00000000" in page
    assert "rmu-s1-00000001" not in page


def test_several_places_leave_the_pages_of_their_studies_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (write_study(tmp_path / name, seeds=1, published=False, n_tokens=5) for name in ("one", "two"))
    run(one, two / "npo-s0-00000000")
    assert f"the page: {one / 'comparison.html'}" in capsys.readouterr().out
    assert not (one / "report.html").exists() and not (two / "summary.json").exists()
    run(two / "npo-s0-00000000", to=tmp_path / "pages" / "mine.html")
    assert 'href="../two/npo-s0-00000000/"' in (tmp_path / "pages" / "mine.html").read_text()


def test_bare_arguments_are_gathered_into_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (write_study(tmp_path / name, seeds=1, published=False, n_tokens=5) for name in ("o, ne", "two"))
    page = tmp_path / "page.html"
    monkeypatch.setattr(sys, "argv", ["menard"])
    assert cli.run(["report", str(one), f"to={page}", str(two)]) == 0
    assert "npo · two" in page.read_text()


def test_study_of_references_alone_shows_them(tmp_path: Path) -> None:
    write_study(tmp_path, seeds=1, published=False, n_tokens=5)
    for folder in tmp_path.glob("*-s0-*"):  # base and gold have no seed
        shutil.rmtree(folder)
    run(tmp_path)
    assert 'id="year"' in (tmp_path / "report.html").read_text()


def test_what_cannot_be_is_said_before_anything_is_written(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "one", seeds=1, published=False, n_tokens=5)
    with pytest.raises(UserError, match=r"no folder .*nowhere: give a study's folder"):
        run(folder, tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"to=.* is a folder: give a file"):
        run(folder, to=tmp_path)
    assert not (folder / "summary.json").exists()
