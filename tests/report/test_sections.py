"""The instruments' sections: what they show, what they leave out, and what may not be there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from instruments import SECRET
from synthetic import write_study

from menard_unlearn.evaluation import (
    anachronism,
    attribution,
    counterfactual,
    dating,
    extraction,
    overlap,
    prompted,
    residue,
    surprisal,
)
from menard_unlearn.report import drawing, memory, signs, ways
from menard_unlearn.report.cells import signed
from menard_unlearn.report.dated import dated_figures
from menard_unlearn.report.gather import gather
from menard_unlearn.report.page import render
from menard_unlearn.report.study import Study
from menard_unlearn.report.target import ALIGNED_AT_MOST, by_character, by_token, token_maps

FILES = ("kinds", "questions", "prompted", "surprisal", "dating", "generation", "residue")
FILES += ("compared", "counterfactual", "attribution", "extraction", "near_verbatim", "heat")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_study(tmp_path, seeds=1, published=False, n_tokens=5)


def change(folder: Path, method: str, file: str, **values: Any) -> None:
    (path,) = folder.glob(f"{method}-*/evaluation/{file}.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def row(drawn: str, method: str) -> str:
    """The row's text, tags left out, and the words where one points at a cell."""
    found = re.search(rf'<th scope="row"[^>]*><a[^>]*>{method}<.*?</tr>', drawn)
    assert found is not None
    titles = " ".join(re.findall(r'title="([^"]*)"', found.group()))
    return re.sub(r"<[^>]+>", " ", found.group()) + titles


def test_every_kind_stands_beside_chance_and_the_prompt(folder: Path) -> None:
    drawn = ways.asked(gather([folder], folder))
    assert "cloze (chance 25.0 %)" in drawn and "year (chance 0.8 %)" in drawn
    npo = row(drawn, "npo")
    assert npo.count("1938.4") == npo.count("[1936.4, 1940.4]") == npo.count("88.0") == npo.count("10.0") == 4
    assert row(drawn, "rmu").count("no-cutoff") == 4
    told = row(_told(folder), "npo")
    assert "87.6" in told and "[82.6, 92.6]" in told and "−3.1" in told and "12.3" in told


def test_no_share_of_forgetting_that_may_be_nothing(folder: Path) -> None:
    change(folder, "npo", "prompted", selective_low=-0.01)
    told = row(_told(folder), "npo")
    assert "not selective" in told and "12.3" not in told


def _told(folder: Path) -> str:
    drawn = ways.asked(gather([folder], folder))
    return drawn[drawn.index('aria-label="Beside a mere prompt"') :]


def test_signs_have_intervals_and_statuses(folder: Path) -> None:
    change(folder, "npo", "dating", status="unparseable", median=None, low=None, high=None, after=None)
    change(folder, "npo", "generation", anachronisms={"status": "too short", "rate": None, "years_after": None})
    drawn = signs.dated_table(gather([folder], folder))
    gold, npo, base = row(drawn, "gold"), row(drawn, "npo"), row(drawn, "base")
    for figure in ("2.62", "[2.51, 2.73]", "1939.5", "[1938.5, 1940.5]", "1919", "[1882, 1938]", "6.3", "1.8"):
        assert figure in gold, figure
    for figure in ("[0.2, 6.4]", "34.5", "26.8", "[16.8, 36.8]", "45.2", "77.1", "[67.1, 87.1]"):
        assert figure in gold, figure
    assert "unparseable" in npo and "too short" in npo and "1919" not in npo
    assert "no jump" in base and "p = 0.31" in base


def test_surprisal_panels_mark_only_real_jumps(folder: Path) -> None:
    npo, rmu = dated_figures(gather([folder], folder))[2:]
    assert [line["name"] for line in npo.data] == ["base", "gold", "npo"]
    assert npo.note == "jump: 1939.5" and [shape["x0"] for shape in npo.layout["shapes"]] == [1939.5, 1939.5, 1938.5]
    assert rmu.note == "no jump" and len(rmu.layout["shapes"]) == 1


def test_attribution_says_why_there_is_no_fraction(folder: Path) -> None:
    why = "C2: undefined, for a reason of its own"
    change(folder, "gold", "counterfactual", menard_fraction=None, left_out=[why, "C1: another"])
    drawn = memory.attribution_table(gather([folder], folder))
    npo, gold = row(drawn, "npo"), row(drawn, "gold")
    for figure in ("2.345", "7.414", "3.892", "11,213", "−0.91", "[−0.99, −0.81]", "25.9", "6.7", "6.0 of 6.0", "43.4"):
        assert figure in npo, figure
    assert "51.9 before the controls’ is taken off; 37.5 above without_target’s" in npo
    assert why in gold and "another" not in gold and "−0.91" not in gold


def test_extraction_is_of_the_target(folder: Path) -> None:
    drawn = row(drawing.extraction_table(gather([folder], folder)), "npo")
    assert drawn.count("43.2") == drawn.count("[20.0, 60.0]") == 4 and "99.9" not in drawn
    assert "4,321" in drawn and "364" in drawn and "66 words; 4 continuations" in drawn
    target = {"role": "target", "full": {"n_best": None, "log10_n_best": 246.2, "coverage": []}, "top_k": None}
    change(folder, "npo", "extraction", texts=[target])
    drawn = drawing.extraction_table(gather([folder], folder))
    assert "10<sup>246</sup>" in drawn and row(drawn, "npo").count("not measured") == 5


def test_maps_by_character_are_few_and_beside_a_control(tmp_path: Path) -> None:
    study = gather([write_study(tmp_path, seeds=3, published=False, n_tokens=5)], tmp_path)
    drawn = by_character(study)
    assert "lowest seed" in drawn and "synthetic control" in drawn and "synthetic edition" not in drawn
    names = re.findall(r"<b>(\w+)</b><svg", drawn)
    assert names == ["base", "gold", *study.groups] * 2 and len(names) <= 2 * ALIGNED_AT_MOST
    assert by_token(study).count('<figure class="tokens"') == len(token_maps(study)["maps"]) == 2 + len(study.groups)


@pytest.mark.parametrize("published", [True, False])
def test_words_stand_only_where_they_are_published(tmp_path: Path, published: bool) -> None:
    page = render(gather([write_study(tmp_path, seeds=1, published=published, n_tokens=5)], tmp_path))
    assert (SECRET in page) == published


def test_study_without_the_instruments_says_so(folder: Path) -> None:
    for file in FILES:
        for path in folder.glob(f"*/evaluation/{file}.json"):
            path.unlink()
    page = render(gather([folder], folder))
    (left,) = re.findall(r"No run has been measured for: (.*?)</p>", page)
    assert left.startswith("Other ways of asking, What else dates it, Memorized") and "Methods" not in left


@pytest.mark.parametrize("file", FILES)
def test_any_file_may_be_missing(folder: Path, file: str) -> None:
    (path,) = folder.glob(f"npo-*/evaluation/{file}.json")
    path.unlink()
    assert "npo" in render(gather([folder], folder))


def test_fifty_runs_stay_small(tmp_path: Path) -> None:
    study = gather([write_study(tmp_path, seeds=12, published=True, n_tokens=600)], tmp_path)
    assert len(study.runs) == 50
    assert len(render(study).encode()) <= 2_000_000


def test_files_are_read_once_and_late(folder: Path) -> None:
    study: Study = gather([folder], folder)
    change(folder, "npo", "dating", median=1900)
    (run,) = study.of("npo")
    first = run.result("dating")
    assert first is not None and first["median"] == 1900
    assert run.result("dating") is first and run.result("nothing") is None


def test_a_zero_has_no_sign() -> None:
    assert [signed(text) for text in ("-0.00", "-0.01", "0.0", "-3")] == ["0.00", "−0.01", "0.0", "−3"]


def test_what_the_page_reads_is_what_the_instruments_write() -> None:
    keys = [counterfactual.KEYS, attribution.KEYS, surprisal.KEYS, dating.KEYS, anachronism.KEYS, residue.KEYS]
    keys += [prompted.KEYS, extraction.COVERAGE_KEYS, extraction.SAMPLING_KEYS, overlap.KEYS]
    known = {key for some in keys for key in some}
    for file in (memory, signs, drawing, ways):
        source = Path(str(file.__file__)).read_text()
        read = re.findall(r'(?:percent|number)\(\w+, "(\w+)"', source)
        read += re.findall(r'(?:found|exact)\["(\w+)"\]', source)
        assert read and set(read) - {"texts", "n", "exact"} <= known
