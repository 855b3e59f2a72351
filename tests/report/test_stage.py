"""From a study's folder to its page, through the stage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from synthetic import write_study

from menard_unlearn.errors import UserError
from menard_unlearn.stages.report import main


def test_summary_is_gathered_anew_and_the_page_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(tmp_path, seeds=2, published=False, n_tokens=5)
    shutil.rmtree(tmp_path / "rmu-s1-00000001")
    main(OmegaConf.create({"study_dir": str(tmp_path)}))
    printed = capsys.readouterr().out
    assert printed.rstrip().endswith(f"the page: {tmp_path / 'report.html'}")
    assert "rmu s0" in printed
    rows = json.loads((tmp_path / "summary.json").read_text())
    assert [(row["method"], row["seed"]) for row in rows if row["method"] == "rmu"] == [("rmu", 0)]
    page = (tmp_path / "report.html").read_text()
    assert "rmu-s0-00000000" in page
    assert "rmu-s1-00000001" not in page


def test_study_of_references_alone_shows_them(tmp_path: Path) -> None:
    write_study(tmp_path, seeds=1, published=False, n_tokens=5)
    for folder in tmp_path.glob("*-s0-*"):  # base and gold have no seed
        shutil.rmtree(folder)
    main(OmegaConf.create({"study_dir": str(tmp_path)}))
    assert 'id="year"' in (tmp_path / "report.html").read_text()


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder .*nowhere: give a study's folder"):
        main(OmegaConf.create({"study_dir": str(tmp_path / "nowhere")}))
