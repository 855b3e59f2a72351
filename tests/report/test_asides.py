"""Runs that ask something else of a model: kept apart from the methods, and each with its section."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from made_asides import SECRET, change, write_asides
from made_context import write_context
from synthetic import write_study
from test_page import embedded, page_of

from menard_unlearn.context import keys
from menard_unlearn.features import causal, dose, joint, sae_metrics, token_scores
from menard_unlearn.report.gather import gather
from menard_unlearn.report.page import render
from menard_unlearn.report.runs import counted, runs_table
from menard_unlearn.report.study import Study
from menard_unlearn.report.style import palettes
from menard_unlearn.report.table import table

TITLES = ("An author’s feature", "Dose-response", "Which tokens the feature helps", "Clamp, memory and context")
TITLES += ("Context needed",)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_asides(tmp_path, published=False, n_tokens=60)


def section(page: str, title: str) -> str:
    (found,) = re.findall(rf"<section [^>]*><h2>{title}</h2>.*?</section>", page, flags=re.DOTALL)
    return found


def text(drawn: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", drawn))


def rows(page: str, label: str) -> list[str]:
    """The text of each row of a table."""
    (drawn,) = re.findall(rf'aria-label="{label}[^"]*"><table.*?<tbody>(.*?)</tbody>', page, flags=re.DOTALL)
    return [text(row).strip() for row in re.findall(r"<tr.*?</tr>", drawn, flags=re.DOTALL)]


def test_they_are_no_methods(tmp_path: Path) -> None:
    folder = write_study(tmp_path, seeds=1, published=False, n_tokens=5)
    before = gather([folder], folder)
    found = gather([write_asides(folder, published=False, n_tokens=5)], folder)
    assert [run.name for run in found.runs] == [run.name for run in before.runs]
    assert (found.groups, found.looks, table(found)) == (before.groups, before.looks, table(before))
    assert sorted(run.method for run in found.asides) == ["context", "feature_scores", "features", "joint"]
    assert "10 finished" in counted(found)
    listed = runs_table(found)
    assert all(run.name in listed for run in found.all_runs) and "399 / 400" in listed


def test_a_page_of_them_alone_names_nothing_else(folder: Path) -> None:
    page = page_of(folder)
    assert re.findall(r"<h2>(.*?)</h2>", page) == [*TITLES, "Runs"]
    assert "No run has been measured for" not in page and 'id="choice"' not in page
    assert "synthetic" in page[: page.index("</header>")]


def test_a_page_of_methods_alone_does_not_name_them(tmp_path: Path) -> None:
    page = page_of(write_study(tmp_path, seeds=1, published=False, n_tokens=5))
    assert not any(title in page for title in TITLES)


def test_every_figure_has_a_place_in_order_and_is_valid_plotly(tmp_path: Path) -> None:
    write_study(tmp_path, seeds=1, published=False, n_tokens=5)
    page = page_of(write_asides(tmp_path, published=True, n_tokens=9))
    figures = embedded(page)["figures"]
    assert [figure["id"] for figure in figures] == re.findall(r'<div class="plot" id="([^"]+)"[^>]*>', page)
    own = [figure for figure in figures if figure["id"].startswith(("sae", "dose", "needed"))]
    assert len(own) == 4 + 3 + 2
    drawn = json.dumps(own)
    for name, colour in sorted(palettes()["light"].items(), reverse=True):
        drawn = drawn.replace(f'"{name}"', f'"{colour}"')
    assert '"@' not in drawn
    for figure in json.loads(drawn):
        go.Figure({"data": figure["data"], "layout": figure["layout"]})  # raises at an attribute that does not exist


def test_the_sections_are_small(tmp_path: Path) -> None:
    folder = write_study(tmp_path, seeds=1, published=True, n_tokens=5)
    before = len(page_of(folder).encode())
    assert len(page_of(write_asides(folder, published=True, n_tokens=700)).encode()) - before <= 150_000


@pytest.mark.parametrize("published", [True, False])
def test_words_stand_only_where_they_are_published(tmp_path: Path, published: bool) -> None:
    page = page_of(write_asides(tmp_path, published=published, n_tokens=20))
    words = {word for words in embedded(page)["texts"] for word in words}
    assert (SECRET in page) == published == ("<b>" in words)
    assert ("a square is a token" in page) != published and ('class="heat map effect squares"' in page) != published


def test_the_chosen_feature_is_marked_and_judged_by_what_is_held_out(folder: Path) -> None:
    drawn = section(page_of(folder), TITLES[0])
    found = rows(drawn, "Candidates")
    assert len(found) == 20 and [row.split()[1] == "chosen" for row in found].index(True) == 2
    assert found[2] == "17 chosen 0.95 0.82 [0.75, 0.89] 1.10 8.5 0.80 [0.40, 1.20] 8.1 0.9 +0.091 [+0.060, +0.122] 0.0"
    said = text(drawn)
    assert "A. Made-Up &lt;i&gt; : found" in said and "+0.061 [+0.040, +0.082] nats a token more" in said
    assert "p = 0.048" in said and "8.1 % of 39,090 tokens" in said and "96.5 %" in said
    assert "loss_recovered_mean: for a reason of its own" in said and "a work: it quotes the target" in said


def test_without_a_candidate_there_is_no_table(folder: Path) -> None:
    nothing = {"status": "no_candidate", "chosen": None, "rows": [], "heldout": None, "random": []}
    change(folder, "features", "features", lambda found: found.update(nothing))
    next(folder.glob("features-*/evaluation/dose_response.json")).unlink()
    page = page_of(folder)
    assert "no candidate" in section(page, TITLES[0]) and "Candidates for" not in page
    assert "No run has been measured for: Dose-response.</p>" in page


def test_the_joint_table_stands_context_by_context(folder: Path) -> None:
    found = rows(page_of(folder), "Models, clamps and contexts")
    assert len(found) == 2 * (1 + 12) and found[0] == "without context"
    assert found[13] == "after 256 tokens of the author’s other works"
    assert found[2].startswith("base feature 1.090") and found[2].endswith("unlocks memory adds style")
    assert "+0.055 [+0.035, +0.075]" in found[2] and "+0.110 [+0.080, +0.140]" in found[2]
    assert found[5].startswith("without_target – 3.400") and found[6].endswith("– –")
    assert text(page_of(folder)).count("C3: no variant of the control") == 1, "a reason of many rows stands there once"


def test_the_answer_has_its_status_interval_and_placebos(folder: Path) -> None:
    page = page_of(folder)
    pinned, further, infinite = rows(page, "Context needed, ")
    assert pinned.startswith("base q = 0.5 pinned 0.25 3.300 +2.300")
    for figure in ("0.35 [0.29, 0.41]", "2.1", "1.7 to 2.6", "0.01"):
        assert figure in pinned, figure
    assert "q = 0.001" in further and "1.4" in further
    assert "infinite" in infinite and "– ∞ 0.99 ∞" in infinite
    placebos = rows(page, "Placebos, ")
    assert len(placebos) == 6 and "own contexts, shuffled" in placebos[0] and "flat" in placebos[0]
    said = text(section(page, "Context needed"))
    assert "5 orders of magnitude too small implies β = 0.22" in said and "too gloomy" in said


def test_nothing_is_extrapolated_from_a_curve_that_rises(folder: Path) -> None:
    def rising(found: dict[str, Any]) -> None:
        for model in found["models"].values():
            model["law"]["beta_at_bound"] = True
            model["answer"].update(status="rising", decades=None, tokens=None)
            model.update(further_answers=[], in_words="Known. rising: less likely <with> more.")

    change(folder, "context", "context", rising)
    page = page_of(folder)
    assert all(row.endswith("– – – – – –") for row in rows(page, "Context needed, "))
    assert "Known. Less likely &lt;with&gt; more." in page


def test_the_newest_are_shown_and_the_others_counted(folder: Path) -> None:
    for number in range(1, 5):
        run = write_context(folder, f"context-0000ddd{number}")
        path = run / "context.manifest.json"
        path.write_text(path.read_text().replace("2001-02", f"200{number}-03"))
    page = page_of(folder)
    shown = section(page, "Context needed")
    assert re.findall(r"<span>(context-\w+)</span>", shown) == [f"context-0000ddd{number}" for number in (4, 3, 2)]
    assert "2 older runs are" in shown and page.count("context-0000ddd1") > 0


def test_a_run_that_is_not_finished_says_so(folder: Path) -> None:
    next(folder.glob("joint-*/features.manifest.json")).unlink()
    study: Study = gather([folder], folder)
    assert study.asides[0].method == "joint" and study.asides[0].state.name == "begun"
    assert re.search(r'joint</a> <span class="status begun">begun</span>', render(study))


def test_what_is_made_up_has_the_keys_that_are_written(folder: Path) -> None:
    def read(kind: str, file: str) -> Any:
        (path,) = folder.glob(f"{kind}-*/evaluation/{file}.json")
        return json.loads(path.read_text())

    dosed, scored = read("features", "dose_response"), read("feature_scores", "feature_tokens")
    ranked, needed = read("features", "features"), read("context", "context")
    base = needed["models"]["base"]
    pairs = [
        (read("features", "sae"), sae_metrics.KEYS),
        (ranked, causal.KEYS),
        (ranked["heldout"], causal.HELDOUT_KEYS),
        (dosed, dose.KEYS),
        (dosed["rows"][0], dose.ROW_KEYS),
        (scored, token_scores.KEYS),
        (scored["columns"][0], token_scores.COLUMN_KEYS),
        ({**scored["tokens"][0], "text": ""}, token_scores.TOKEN_KEYS),
        (read("joint", "joint")["rows"][0], joint.KEYS),
        (needed, keys.FILE),
        (base, keys.MODEL),
        (base["curve"][0], keys.CURVE),
        (base["law"], keys.LAW),
        (base["answer"], keys.ANSWER),
        (base["claim"], keys.CLAIM),
        (base["placebos"]["other"], keys.PLACEBO),
    ]
    for made, known in pairs:
        assert {*made} == {*known}
    assert {*causal.EFFECT_KEYS} < {*ranked["rows"][0]}
