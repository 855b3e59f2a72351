"""The page as text: what it holds, and what it must not."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from synthetic import WORDS, write_study

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
    return build_page(folder, folder / "report.html").read_text()


def without_scripts(page: str) -> str:
    return re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)


def embedded(page: str) -> dict[str, Any]:
    (data,) = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', page, flags=re.DOTALL)
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
    assert len(figures) == 2 + 4 + 4 + 2 + 4
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
    hidden = without_scripts(page_of(make(published=False)))
    assert not any(f">{word} <" in hidden for word in WORDS)
    assert ">17</i>" in hidden
    shown = without_scripts(page_of(make(published=True, name="published")))
    assert ">placeholder </i>" in shown


def test_markup_in_data_is_escaped(make: Make) -> None:
    folder = make(published=True)
    summary = json.loads((folder / "summary.json").read_text())
    summary[2]["method"] = "</script><b>x"
    (folder / "summary.json").write_text(json.dumps(summary))
    page = page_of(folder)
    assert "<b>x" not in page
    assert html.escape("</script><b>x") in page
    assert ">&lt; </i>" in page
    assert "synthetic &lt;model&gt;" in page


def test_null_is_a_dash_with_its_status(make: Make) -> None:
    page = page_of(make())
    row = re.search(r"<th scope=\"row\"[^>]*>rmu.*?</tr>", page)
    assert row is not None
    assert '<span class="status no-cutoff">no-cutoff</span>' in row.group()
    assert not re.search(r">(None|nan|null)<", without_scripts(page))
    base = re.search(r"<th scope=\"row\"[^>]*>base.*?</tr>", page)
    assert base is not None
    assert 'title="not defined for base">–</td>' in base.group()


def test_references_come_first_and_seeds_are_named(make: Make) -> None:
    (methods,) = re.findall(r'aria-label="Table of methods">(.*?)</table>', page_of(make(seeds=2)))
    rows = re.findall(r'<th scope="row"[^>]*>(.*?)</th>', methods)
    assert rows[:2] == ["base", "gold"]
    assert rows[2] == 'gradient_ascent <span class="seed">seed 0</span>'
    assert len(rows) == 2 + 4 * 2


def test_study_without_evaluations_still_makes_a_page(make: Make) -> None:
    folder = make()
    for path in folder.glob("*/evaluation/*.json"):
        path.unlink()
    page = page_of(folder)
    assert "No run has been measured for this yet" in page
    assert len(embedded(page)["figures"]) == 2 + 2 + 4


def test_empty_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no summary\.json"):
        build_page(tmp_path, tmp_path / "report.html")
    (tmp_path / "summary.json").write_text("[]")
    with pytest.raises(UserError, match="has no finished run"):
        build_page(tmp_path, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
