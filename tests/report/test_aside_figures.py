"""Figures and maps of features and contexts, on made-up runs with known numbers."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from made_asides import N_RANDOM, STRENGTHS, change, write_asides
from made_context import LENGTHS
from test_asides import section, text
from test_page import page_of, without_scripts

from menard_unlearn.report.dose import dose_figures
from menard_unlearn.report.effects import effect_maps, step_of
from menard_unlearn.report.figures import Figure
from menard_unlearn.report.gather import gather
from menard_unlearn.report.needed_figures import needed_figures
from menard_unlearn.report.scales import doubling_axis, in_tokens, log_axis, squeezed, squeezed_axis


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_asides(tmp_path, published=False, n_tokens=60)


def panel(figures: list[Figure], id: str) -> Figure:
    return next(figure for figure in figures if figure.id == id)


def trace(figure: Figure, name: str) -> dict[str, Any]:
    return next(found for found in figure.data if found.get("name") == name)


def test_hollow_marks_are_beyond_the_limit_and_the_best_dose_has_a_line(folder: Path) -> None:
    figures = dose_figures(gather([folder], folder))
    steering, coherence = panel(figures, "dose-0-steering"), panel(figures, "dose-0-coherence")
    own = trace(steering, "feature")
    assert own["x"] == list(STRENGTHS)
    # 2.4 + 0.2 k^1.6 stays within 0.2 of 2.4 up to k = 1
    assert own["marker"]["symbol"] == ["circle", "circle", "circle", "circle-open", "circle-open"]
    assert own["y"][1] == squeezed(0.095) and own["customdata"][1] == "+0.095 [+0.045, +0.145]"
    assert trace(steering, "random feature")["x"].count(None) == N_RANDOM
    assert [shape["x0"] for shape in steering.layout["shapes"] if shape.get("yref") == "paper"] == [0.5]
    levels = [shape["y0"] for shape in coherence.layout["shapes"] if shape.get("xref") == "paper"]
    assert levels == pytest.approx([2.4, 2.6]), "unclamped, and the limit"
    assert {x for x in trace(coherence, "random direction")["x"] if x is not None} == {0.5}
    said = text(section(page_of(folder), "Dose-response"))
    assert "found" in said and "0.0 % of the random features and 10.0 % of the random directions" in said


def test_doses_below_nothing_have_a_plain_axis(folder: Path) -> None:
    def turned(found: dict[str, Any]) -> None:
        for row in found["rows"]:
            row["k"] *= -1 if row["k"] == 4 else 1

    change(folder, "features", "dose_response", turned)
    (first, *_) = dose_figures(gather([folder], folder))
    assert "type" not in first.layout["xaxis"] and first.layout["xaxis"]["tickvals"] == [-4, 0.25, 0.5, 1, 2]


def test_a_short_target_has_doses_without_intervals(folder: Path) -> None:
    def shortened(found: dict[str, Any]) -> None:
        found.update(status="none_within_limit", best_k=None, p_value=None)
        for row in found["rows"]:
            row.update(dict.fromkeys(("delta_low", "delta_high", "steering_low", "steering_high")))

    change(folder, "features", "dose_response", shortened)
    page = page_of(folder)
    assert "none within limit" in page and "The best dose" not in page
    assert not re.search(r">(None|nan|null)<", without_scripts(page))


@pytest.mark.parametrize(
    ("nats", "step"),
    [(0.0, 4), (0.019, 4), (-0.019, 4), (0.02, 5), (-0.02, 3), (0.5, 7), (-0.49, 2), (2.0, 8), (-7.0, 0)],
)
def test_changes_have_classes_that_mirror_each_other(nats: float, step: int) -> None:
    assert step_of(nats) == step and step_of(-nats) == 8 - step


def test_a_token_has_what_every_edit_does_to_it(folder: Path) -> None:
    texts: list[list[str]] = []
    (found,) = effect_maps(gather([folder], folder), texts)
    (path,) = folder.glob("feature_scores-*/evaluation/feature_tokens.json")
    tokens = json.loads(path.read_text())["tokens"]
    assert texts == [] and found["text"] is None
    assert [bool(int(one)) for one in found["helped"]] == [token["helped"][1] for token in tokens]
    for at, (step, token) in enumerate(zip(found["classes"], tokens, strict=True)):
        assert int(step) == step_of(token["logprob"][1] - token["logprob"][0])
        assert found["told"][1]["logprobs"][at] == pytest.approx(token["logprob"][1], abs=0.005)
    names = ["as it is", "feature 17", "difference of means", "random controls, mean", "random controls, most"]
    assert [row["name"] for row in found["told"]] == names


def test_without_random_controls_nothing_is_said_to_help(folder: Path) -> None:
    def alone(found: dict[str, Any]) -> None:
        found.update(controls=[], chance=None)
        for column in found["columns"]:
            column["share_helped"] = None
        for token in found["tokens"]:
            token.update(helped=[None] * 3, random_mean=None, random_max=None)

    change(folder, "feature_scores", "feature_tokens", alone)
    (found,) = effect_maps(gather([folder], folder), [])
    assert set(found["helped"]) == {"0"} and len(found["told"]) == 3
    assert "It helps" not in page_of(folder)


def test_the_law_runs_through_the_curve_and_beyond_it(folder: Path) -> None:
    base, out = needed_figures(gather([folder], folder))
    measured, beyond = (line for line in base.data if line["name"] == "law")
    assert (measured["x"][0], measured["x"][-1]) == (LENGTHS[0], LENGTHS[-1]) and measured["y"][0] == pytest.approx(3.0)
    assert beyond["x"][0] == LENGTHS[-1] and beyond["line"]["dash"] == "dash"
    assert trace(base, "needed")["x"] == [pytest.approx(LENGTHS[-1] * 10**2.1, rel=1e-3)]
    assert not any(line["name"] == "needed" for line in out.data), "no length where none is enough"
    draws = trace(base, "draws")
    assert len(draws["x"]) == 8 * len(LENGTHS) and draws["y"][0] == pytest.approx(3.0, abs=0.1)


def test_without_an_interval_there_is_neither_law_nor_number(folder: Path) -> None:
    def short(found: dict[str, Any]) -> None:
        for model in found["models"].values():
            model.update(law=None, claim=None, fall=None, fall_low=None, fall_high=None, further_answers=[])
            nothing = dict.fromkeys(("decades", "tokens", "p_infinite", "p_reached", "at_least", "at_least_low"))
            model["answer"].update({**nothing, "status": "undetermined", "quantiles": {}, "forms": {}})
            for row in model["curve"]:
                row.update(low=None, high=None, sd_draws=None)

    change(folder, "context", "context", short)
    next(folder.glob("context-*/evaluation/context_tokens.npz")).unlink()
    base, _ = needed_figures(gather([folder], folder))
    assert not any(line["name"] in ("law", "needed") for line in base.data) and trace(base, "draws")["x"] == []
    page = page_of(folder)
    assert "undetermined" in page and not re.search(r">(None|nan|null)<", without_scripts(page))


def test_a_law_at_the_end_of_its_range_is_not_drawn(folder: Path) -> None:
    change(folder, "context", "context", lambda found: found["models"]["base"]["law"].update(beta_at_bound=True))
    base, out = needed_figures(gather([folder], folder))
    assert [sum(line["name"] == "law" for line in figure.data) for figure in (base, out)] == [0, 2]


def test_axes_show_small_gains_and_collapses() -> None:
    assert squeezed(0.0) == 0 and squeezed(-0.3) == -math.asinh(6.0).__round__(3)
    axis = squeezed_axis([0.2, -6.0])
    assert "0" in axis["ticktext"] and "−1" in axis["ticktext"] and axis["range"][0] < math.asinh(-120)
    assert log_axis([]) == {} and log_axis([2.4, 4.2])["ticktext"] == ["2.5", "3", "3.5", "4"]
    assert doubling_axis(16, 256 * 1024)["ticktext"] == ["16", "64", "256", "1K", "4K", "16K", "64K", "256K"]
    assert [in_tokens(count) for count in (1000, 1024, 3 * 2**20)] == ["1,000", "1K", "3M"]
