"""The page as text: what it holds, and what it must not."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import plotly.graph_objects as go
import pytest
from synthetic import write_study

from menard_unlearn.errors import UserError
from menard_unlearn.report.page import build_page
from menard_unlearn.report.style import palettes

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(seeds: int = 1, published: bool = False, n_tokens: int = 60, name: str = "synthetic") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        return write_study(folder, seeds=seeds, published=published, n_tokens=n_tokens)

    return make


def page_of(folder: Path) -> str:
    return build_page([folder], folder / "report.html").read_text()


def without_scripts(page: str) -> str:
    return re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)


def methods_of(page: str, rows: str = "methods") -> str:
    (methods,) = re.findall(rf'aria-label="Table of {rows}">(.*?)</table>', page)
    return methods


def embedded(page: str) -> dict[str, Any]:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.DOTALL)
    return json.loads(data)


def test_page_is_one_file_that_fetches_nothing(make: Make) -> None:
    page = page_of(make(seeds=3, published=True, n_tokens=500))
    assert len(page.encode()) <= 2_000_000
    assert not re.search(r"<(link|img|iframe|script[^>]* src)", without_scripts(page))
    assert "default-src 'none'" in page


def test_every_figure_has_a_place_and_is_valid_plotly(make: Make) -> None:
    page = page_of(make())
    figures = embedded(page)["figures"]
    assert [figure["id"] for figure in figures] == re.findall(r'<div class="plot" id="([^"]+)"[^>]*>', page)
    assert len(figures) == 2 + 4 + 4 + 3 + (2 + 3 * 4)
    text = json.dumps(figures)
    for name, colour in sorted(palettes()["light"].items(), reverse=True):  # @m0/band before @m0
        text = text.replace(f'"{name}"', f'"{colour}"')
    assert '"@' not in text
    for figure in json.loads(text):
        go.Figure({"data": figure["data"], "layout": figure["layout"]})  # raises at an attribute that does not exist


def test_both_palettes_name_the_same_colours() -> None:
    light, dark = palettes().values()
    assert light.keys() == dark.keys()


def test_words_stay_out_unless_published(make: Make) -> None:
    hidden = page_of(make(published=False))
    assert embedded(hidden)["texts"] == []
    assert {found["text"] for found in embedded(hidden)["maps"]} == {None}
    assert not any(word in hidden for word in ("placeholder", "nobody", "sake"))
    shown = embedded(page_of(make(published=True, name="published")))
    assert len(shown["texts"]) == 1, "the words of all models stand there once"
    assert shown["texts"][0][2] == "placeholder "


def test_a_map_a_method_has_a_class_and_ranks_for_every_token(make: Make) -> None:
    page = page_of(make(seeds=2, n_tokens=50))
    maps = embedded(page)["maps"]
    assert [found["name"] for found in maps] == ["base", "gold", "grad_diff", "gradient_ascent", "npo", "rmu"]
    for found in maps:
        assert len(found["classes"]) == len(found["logprobs"]) == len(found["ranks"]) == 50
    assert all(
        step == "0" for step, logprob in zip(maps[0]["classes"], maps[0]["logprobs"], strict=True) if logprob > -0.01
    )
    assert page.count("lowest seed is shown") == 2 and "<span>seed 0</span>" in page


def test_markup_in_data_is_escaped(make: Make) -> None:
    folder = make(published=True)
    (folder / "npo-s0-00000000").rename(folder / "<b>x-s0-00000000")
    page = page_of(folder)
    assert "<b>x" not in page
    assert html.escape("<b>x") in page
    assert embedded(page)["texts"][0][11].startswith("<")
    assert "synthetic &lt;model&gt;" in page


def test_null_is_a_dash_with_its_status(make: Make) -> None:
    page = page_of(make())
    row = re.search(r"<th scope=\"row\"[^>]*><a[^>]*>rmu<.*?</tr>", methods_of(page))
    assert row is not None
    assert '<span class="status no-cutoff">no-cutoff</span>' in row.group()
    assert not re.search(r">(None|nan|null)<", without_scripts(page))
    base = re.search(r"<th scope=\"row\"[^>]*><a[^>]*>base<.*?</tr>", methods_of(page))
    assert base is not None
    assert 'title="not defined for base">–</td>' in base.group()


def test_references_come_first_and_seeds_are_named(make: Make) -> None:
    page = page_of(make(seeds=2))
    rows = re.findall(r'<th scope="row"[^>]*>(.*?)</th>', methods_of(page))
    assert rows[0] == '<a href="base-00000000/">base</a>' and len(rows) == 2 + 4
    assert rows[2] == 'grad_diff<span class="between">2 seeds</span>'
    rows = re.findall(r'<th scope="row"[^>]*>(.*?)</th>', methods_of(page, "runs"))
    assert rows[0] == '<a href="base-00000000/">base</a>'
    assert rows[1] == '<a href="gold-00000000/">gold</a>'
    assert rows[4] == '<a href="gradient_ascent-s0-00000000/">gradient_ascent</a> <span class="seed">seed 0</span>'
    assert len(rows) == 2 + 4 * 2


def test_an_unfinished_run_says_so_in_the_table(make: Make) -> None:
    folder = make()
    (folder / "npo-s0-00000000" / "unlearn.manifest.json").unlink()
    assert '>npo</a> <span class="status begun">begun</span>' in methods_of(page_of(folder))


def test_study_without_evaluations_still_makes_a_page(make: Make) -> None:
    folder = make()
    for path in folder.glob("*/evaluation/*.json"):
        path.unlink()
    page = page_of(folder)
    left = re.search(r"No run has been measured for: (.*?)</p>", page)
    assert left is not None and "Recall by year" in left.group() and "Training" not in left.group()
    assert len(embedded(page)["figures"]) == 2 + 3 * 4  # the terms alone


def test_losses_that_overflowed_are_left_out_and_the_page_stands(make: Make) -> None:
    folder = make()
    history = folder / "gradient_ascent-s0-00000000" / "history.jsonl"
    rows = history.read_text().splitlines()
    history.write_text(
        "\n".join([*rows[:3], *(f'{{"step": {at}, "forget": NaN, "grad_norm": Infinity}}' for at in (3, 4))])
    )
    (forget,) = [found for found in embedded(page_of(folder))["figures"] if found["id"] == "curve-1-0"]
    assert forget["data"][0]["y"] == pytest.approx([0, -0.02, -0.04])


def test_every_link_leads_somewhere(make: Make, tmp_path: Path) -> None:
    one, two = make(seeds=2), make(name="an & other")
    page = build_page([one, two], tmp_path / "pages" / "both.html")
    links = re.findall(r'href="([^"]+)"', without_scripts(page.read_text()))
    inner = {link for link in links if link.startswith("#")}
    assert inner and all(f'id="{link[1:]}"' in page.read_text() for link in inner)
    runs = {page.parent / unquote(html.unescape(link)) for link in links if link not in inner}
    assert {run.resolve() for run in runs} == {*one.glob("*-*"), *two.glob("*-*")}


def test_one_run_alone_is_a_page(make: Make) -> None:
    run = make() / "npo-s0-00000000"
    page = build_page([run], run.parent / "comparison.html").read_text()
    assert [found["data"][-1]["name"] for found in embedded(page)["figures"] if found["id"].startswith("year")] == [
        "npo"
    ]
    assert 'id="choice"' not in page and "Settings that differ" in page[page.index("No run has been measured for") :]


def test_empty_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no run"):
        build_page([tmp_path], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
