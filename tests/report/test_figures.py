"""What the figures say, checked on a study with known numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic import write_study

from menard_unlearn.report.figures import LINES_AT_MOST, front, loss_figures, pareto_figures
from menard_unlearn.report.heatmap import heat_map
from menard_unlearn.report.study import Study, read_study
from menard_unlearn.report.years import year_figures


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return read_study(write_study(tmp_path, seeds=2, published=False, n_tokens=5))


def test_front_holds_what_nothing_beats() -> None:
    points = [(0.1, 0.5), (0.1, 0.6), (0.3, 0.55), (0.4, 0.9), (0.2, 0.1), (0.5, 0.9)]
    assert front(points) == [(0.1, 0.6), (0.4, 0.9)]


def test_year_panel_shows_references_cutoff_and_forgotten_years(study: Study) -> None:
    npo = year_figures(study)[2]
    assert npo.title == "npo"
    assert npo.note == "cutoff: 1938.4"
    assert [line["name"] for line in npo.data if "name" in line] == ["base", "gold", "seed 0", "seed 1"]
    assert npo.data[-1]["x"][0] == 1882  # the middle of 1880-1884
    assert npo.data[-1]["customdata"][0][0] == "1880–1884"
    shade, first, interval, *_ = npo.layout["shapes"]
    assert shade["x0"] == 1939.5
    assert (first["x0"], interval["x0"], interval["x1"]) == pytest.approx((1938.4, 1937.1, 1939.8))


def test_cutoff_that_is_not_pinned_has_no_line(study: Study) -> None:
    rmu = year_figures(study)[3]
    assert rmu.note == "cutoff: no-cutoff"
    assert [shape["fillcolor"] for shape in rmu.layout["shapes"]] == ["@shade"]


def test_references_are_no_part_of_the_front(study: Study) -> None:
    trained = pareto_figures(study)[0]
    line = trained.data[0]
    gold = next(points for points in trained.data if points["name"] == "gold")
    assert line["name"] == "front"
    assert gold["x"][0] not in line["x"]
    assert [points["name"] for points in trained.data[1:]] == ["base", "gold", *study.methods]


def test_losses_are_thinned_to_the_last_step_and_named_once(study: Study) -> None:
    ascent, diff = loss_figures(study)[:2]
    assert {line["name"] for line in ascent.data} == {"forget"}
    assert [line["name"] for line in diff.data if line["showlegend"]] == ["sum", "forget", "retain"]
    for line in diff.data:
        assert len(line["x"]) <= LINES_AT_MOST
        assert (line["x"][0], line["x"][-1]) == (0, 299)


def test_moved_study_is_read_where_it_lies(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    write_study(folder, seeds=1, published=False, n_tokens=5)
    moved = folder.rename(tmp_path / "there")
    assert all(run.bins for run in read_study(moved).runs)


def test_heat_map_classes_follow_probability() -> None:
    tokens = [
        {"logprob": -0.01, "rank_best": 1, "rank_worst": 1, "text": "<a>"},
        {"logprob": -9.0, "rank_best": 40, "rank_worst": 42, "text": "b"},
    ]
    shown = heat_map({"tokens": tokens})
    assert '<i class="h0" title="1: rank 1, log-prob -0.01">&lt;a&gt;</i>' in shown
    assert '<i class="h5" title="2: rank 40-42, log-prob -9.00">b</i>' in shown
    del tokens[1]["text"]
    assert "<a>" not in heat_map({"tokens": tokens})
    assert "&lt;a&gt;" not in heat_map({"tokens": tokens})  # one unpublished token hides the words of all
