"""What the figures say, checked on a study with known numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from synthetic import write_study

from menard_unlearn.report.curves import POINTS_AT_MOST, curve_figures, thinned
from menard_unlearn.report.gather import gather
from menard_unlearn.report.heatmap import heat_map
from menard_unlearn.report.pareto import front, pareto_figures
from menard_unlearn.report.study import Study
from menard_unlearn.report.years import year_figures


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return gather([write_study(tmp_path, seeds=2, published=False, n_tokens=5)], tmp_path)


def test_front_holds_what_nothing_beats() -> None:
    points = [(0.1, 0.5), (0.1, 0.6), (0.3, 0.55), (0.4, 0.9), (0.2, 0.1), (0.5, 0.9)]
    assert front(points) == [(0.1, 0.6), (0.4, 0.9)]


def test_year_panel_shows_references_cutoff_and_forgotten_years(study: Study) -> None:
    npo = next(figure for figure in year_figures(study) if figure.title == "npo")
    assert npo.note == "cutoff: 1938.4"
    assert [line["name"] for line in npo.data if "name" in line] == ["base", "gold", "seed 0", "seed 1"]
    assert npo.data[-1]["x"][0] == 1882  # the middle of 1880-1884
    assert npo.data[-1]["customdata"][0][0] == "1880–1884"
    shade, first, interval, *_ = npo.layout["shapes"]
    assert shade["x0"] == 1939.5
    assert (first["x0"], interval["x0"], interval["x1"]) == pytest.approx((1938.4, 1937.1, 1939.8))


def test_cutoff_that_is_not_pinned_has_no_line(study: Study) -> None:
    rmu = next(figure for figure in year_figures(study) if figure.title == "rmu")
    assert rmu.note == "cutoff: no-cutoff"
    assert [shape["fillcolor"] for shape in rmu.layout["shapes"]] == ["@shade"]


def test_references_are_no_part_of_the_front(study: Study) -> None:
    figure = next(figure for figure in pareto_figures(study) if figure.id == "pareto-trained")
    line = figure.data[0]
    gold = next(points for points in figure.data if points["name"] == "gold")
    assert line["name"] == "front"
    assert gold["x"][0] not in line["x"]
    names = [points["name"] for points in figure.data[1:] if "seeds" not in points["name"]]
    assert names == ["base", "gold", *study.groups]


def test_bars_reach_from_the_lowest_to_the_highest_seed(study: Study) -> None:
    figure = next(figure for figure in pareto_figures(study) if figure.id == "pareto-trained")
    assert figure.note == "bars: lowest to highest seed, or a single run’s 95 % interval"
    npo = next(points for points in figure.data if points["name"] == "npo")
    values = [run.row["forget_recall"] for run in study.of("npo")]
    assert npo["x"][0] == pytest.approx(sum(values) / 2, abs=1e-4)
    assert npo["x"][0] + npo["error_x"]["array"][0] == pytest.approx(max(values), abs=1e-4)
    assert npo["x"][0] - npo["error_x"]["arrayminus"][0] == pytest.approx(min(values), abs=1e-4)
    assert "mean of 2 seeds" in npo["hovertemplate"]
    dots = next(points for points in figure.data if points["name"] == "npo, seeds")
    assert dots["x"] == pytest.approx(values, abs=1e-4)


def test_bars_of_a_single_run_are_its_interval(tmp_path: Path) -> None:
    study = gather([write_study(tmp_path, seeds=1, published=False, n_tokens=5)], tmp_path)
    figure = pareto_figures(study)[0]
    assert (figure.id, figure.note) == ("pareto-base", "bars: 95 % intervals")
    npo = next(points for points in figure.data if points["name"] == "npo")
    assert npo["y"] == [0.876] and npo["error_y"]["array"] == pytest.approx([0.05])


def test_recall_of_a_single_run_has_the_interval_of_its_facts(tmp_path: Path) -> None:
    folder = write_study(tmp_path, seeds=1, published=False, n_tokens=5)
    (path,) = folder.glob("npo-*/evaluation/cutoff.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"forget_recall": 0.5, "heldout_forget_recall": 0.5}))
    study = gather([folder], folder)
    own = {
        figure.id: next(points for points in figure.data if points["name"] == "npo") for figure in pareto_figures(study)
    }
    # Wilson at 30 of 60 facts and 10 of 20, by hand: z √(1 / 4n + z² / 4n²) / (1 + z² / n) on either side
    for id, half in (("pareto-trained", 0.12268), ("pareto-heldout", 0.20070)):
        bars = own[id]["error_x"]
        assert bars["array"] == bars["arrayminus"] == pytest.approx([half], abs=1e-4)
    (path.parent / "items.jsonl").unlink()
    trained = pareto_figures(gather([folder], folder))[1]
    assert "error_x" not in next(points for points in trained.data if points["name"] == "npo")


def test_every_term_has_a_panel_with_a_line_a_seed(study: Study) -> None:
    found = curve_figures(study)
    assert [figure.title for figure in found["gradient_ascent"]] == ["forget", "norm of the gradient"]
    assert [figure.title for figure in found["npo"]] == ["loss, the sum", "forget", "retain", "norm of the gradient"]
    for figure in found["npo"]:
        assert [line["name"] for line in figure.data] == ["seed 0", "seed 1"]
        assert all(len(line["y"]) <= POINTS_AT_MOST for line in figure.data)


def test_what_is_evaluated_meanwhile_and_words_beside_numbers(tmp_path: Path) -> None:
    folder = write_study(tmp_path, seeds=1, published=False, n_tokens=5)
    (history,) = folder.glob("npo-*/history.jsonl")
    history.write_text(history.read_text() + '{"step": 499, "phase": "second", "eval/recall": 0.25}\n')
    *_, last = curve_figures(gather([folder], folder))["npo"]
    assert last.title == "evaluated: recall"
    assert (last.data[0]["y"], last.data[0]["mode"]) == ([0.25], "markers")


def test_thinned_curves_keep_ends_and_every_peak() -> None:
    rows = [(step, float(step % 7)) for step in range(1000)]
    rows[333], rows[334], rows[700] = (333, 99.0), (334, -99.0), (700, 50.0)
    kept = thinned(rows, 50)
    assert len(kept) <= 50 and kept == sorted(set(kept))
    assert {rows[0], rows[333], rows[334], rows[700], rows[-1]} <= set(kept)
    assert thinned(rows[:50], 50) == rows[:50]


def test_moved_study_is_read_where_it_lies(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    write_study(folder, seeds=1, published=False, n_tokens=5)
    moved = folder.rename(tmp_path / "there")
    assert all(run.bins for run in gather([moved], moved).runs)


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
