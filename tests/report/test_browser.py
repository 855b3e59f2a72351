"""The page in a real browser, where one is installed: what a reader does with it, and what it may not do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser, browser
from made_asides import write_asides
from synthetic import write_run, write_study

from menard_unlearn.report.page import build_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

ROWS = "[...document.querySelectorAll('[aria-label=\"Table of methods\"] tbody tr')].filter(row => !row.hidden)"
NAMES = f"{ROWS}.map(row => row.cells[0].textContent)"
FORGET = '[aria-label="Table of methods"] th[data-c="3"]'


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, seeds=2, published=True, n_tokens=400)
    write_asides(folder, published=True, n_tokens=300)
    failed = write_run(folder, "npo", 7, True, 5)
    (failed / "unlearn.manifest.json").unlink()
    failure = {"error": "a long reason " * 20, "kind": "Failure", "at": "2001-02-03T04:05:06Z"}
    (failed / "failure.json").write_text(json.dumps({**failure, "host": "node1", "job": "12_3", "log": None}))
    return build_page([folder], folder / "report.html")


@pytest.mark.parametrize("dark", [False, True])
def test_every_figure_is_drawn_in_the_colours_of_the_page(shown: Browser, page: Path, dark: bool) -> None:
    shown.open(page, height=20_000, dark=dark)  # all of it in view
    count = shown.value("document.querySelectorAll('.plot').length")
    shown.wait(f"document.querySelectorAll('.plot .main-svg .trace.scatter').length >= {count}")
    drawn = "[...document.querySelectorAll('.plot')].every(plot => plot.querySelector('.trace.scatter'))"
    shown.wait(drawn)
    colours = (
        "[document.body, document.querySelector('.plot .xtick text')].map((it, n) => getComputedStyle(it)[n ? 'fill' :"
        " 'backgroundColor'])"
    )
    light, night = ["rgb(255, 255, 255)", "rgb(92, 92, 92)"], ["rgb(27, 28, 30)", "rgb(168, 168, 164)"]
    assert shown.value(colours) == (night if dark else light)
    assert shown.value("document.querySelectorAll('.map i').length") > 400 * 5
    assert shown.complaints() == []
    assert "failed" not in shown.value("({...document.documentElement.dataset})")
    assert shown.requests() == [page.as_uri()]


def test_figures_wait_until_they_are_near(shown: Browser, page: Path) -> None:
    shown.open(page, height=500)
    last = "[...document.querySelectorAll('.plot')].at(-1)"
    shown.show(".plot")
    shown.wait("!!document.querySelector('.plot .trace.scatter')")
    assert not shown.value(f"!!{last}.querySelector('.main-svg')")
    shown.value(f"{last}.scrollIntoView()")
    shown.wait(f"!!{last}.querySelector('.trace.scatter')")


def test_a_heading_sorts_up_down_and_back(shown: Browser, page: Path) -> None:
    shown.open(page)
    before = shown.value(NAMES)
    shown.click(f"{FORGET} button")
    assert shown.value(f"document.querySelector('{FORGET}').getAttribute('aria-sort')") == "ascending"
    values = shown.value(f"{ROWS}.map(row => parseFloat(row.cells[3].textContent))")
    assert values == sorted(values) and shown.value(NAMES) != before
    shown.value(f"document.querySelector('{FORGET} button').focus()")
    shown.press("Enter")
    assert shown.value(f"document.querySelector('{FORGET}').getAttribute('aria-sort')") == "descending"
    assert shown.value(f"{ROWS}.map(row => parseFloat(row.cells[3].textContent))") == sorted(values, reverse=True)
    shown.press("Enter")
    assert shown.value(NAMES) == before
    assert shown.value("document.querySelectorAll('[aria-sort]').length") == 0


def test_rows_without_a_year_stay_below_those_that_have_one(shown: Browser, page: Path) -> None:
    shown.open(page)
    heading = '[aria-label="Table of methods"] th[data-c="1"] button'
    for _ in range(2):
        shown.click(heading)
        pinned = shown.value(f"{ROWS}.map(row => 'v' in row.cells[1].dataset)")
        assert pinned == sorted(pinned, reverse=True) and len(set(pinned)) == 2


def test_a_method_is_hidden_everywhere(shown: Browser, page: Path) -> None:
    shown.open(page, height=20_000)
    shown.wait("!!document.querySelector('#pareto-trained .trace.scatter')")
    marks = "document.querySelectorAll('#pareto-trained .points path').length"
    front = "document.querySelector('#pareto-trained').data[0].x.length"
    before, rings = shown.value(marks), shown.value(front)
    shown.value("[...document.querySelectorAll('#choice label')].find(it => it.textContent === 'npo').click()")
    assert not any("npo" in name for name in shown.value(NAMES))
    shown.wait(f"{marks} < {before}")
    assert shown.value(front) == rings - 1, "the front is that of what is shown"
    titles = "[...document.querySelectorAll('figure:not([hidden]) h3')].map(it => it.firstChild.textContent)"
    assert "npo" not in shown.value(titles) and "rmu" in shown.value(titles)
    shown.value("document.querySelector('#choice [data-all=\"1\"]').click()")
    shown.wait(f"{marks} === {before}")


def test_pointing_at_a_figure_tells_its_numbers(shown: Browser, page: Path) -> None:
    shown.open(page)
    shown.show("#pareto-trained")
    shown.wait("document.querySelectorAll('#pareto-trained .points path').length > 6")
    mark = "[...document.querySelectorAll('#pareto-trained .trace.scatter')].at(-1).querySelector('.points path')"
    x, y = shown.value(f"(box => [box.x + box.width / 2, box.y + box.height / 2])({mark}.getBoundingClientRect())")
    shown.point(x - 3, y)
    shown.point(x, y)
    shown.wait("!!document.querySelector('#pareto-trained .hovertext')")
    told = shown.value("document.querySelector('#pareto-trained .hovertext').textContent")
    assert "mean of 2 seeds" in told and "forgotten facts: 5" in told and "seed 1: 5" in told


def test_pointing_at_a_year_tells_recall_interval_and_probes(shown: Browser, page: Path) -> None:
    shown.open(page)
    x, y = shown.show("#year-2")
    shown.wait("!!document.querySelector('#year-2 .trace.scatter')")
    shown.point(x - 3, y)
    shown.point(x, y)
    shown.wait("!!document.querySelector('#year-2 .hoverlayer .legend')")
    told = shown.value("document.querySelector('#year-2 .hoverlayer').textContent")
    assert re.search(r"seed 0 : \d+\.\d% \[\d+\.\d%, \d+\.\d%\].*19\d\d–19\d\d, 80 probes", told), told
    assert "base" in told and "gold" in told


def test_the_keyboard_opens_lists_and_reaches_every_table(shown: Browser, page: Path) -> None:
    shown.open(page)
    summary = "[...document.querySelectorAll('#methods summary')].find(it => it.textContent.startsWith('Each of the'))"
    assert not shown.value(f"{summary}.parentElement.open")
    shown.value(f"{summary}.focus()")
    shown.press("Enter")
    shown.wait(f"{summary}.parentElement.open")
    rows = "[...document.querySelectorAll('[aria-label=\"Table of runs\"] tbody tr')]"
    assert shown.value(f"{rows}.length") == 2 + 4 * 2 + 1 and shown.value(f"{rows}[0].offsetHeight") > 0
    shown.click('[aria-label="Table of runs"] th[data-c="3"] button')
    shares = shown.value(f"{rows}.map(row => parseFloat(row.cells[3].textContent))")
    assert shares == sorted(shares)
    unnamed = "[...document.querySelectorAll('.wide')].filter(it => it.tabIndex !== 0 || !it.ariaLabel).length"
    assert shown.value(unnamed) == 0


def test_pointing_at_a_token_tells_every_model_of_it(shown: Browser, page: Path) -> None:
    shown.open(page)
    shown.show("#map-0")
    shown.wait("document.querySelectorAll('#map-1 i').length === 400")
    x, y = shown.value(
        "(box => [box.x + 4, box.y + 4])(document.querySelector('#map-0 i:nth-child(17)').getBoundingClientRect())"
    )
    shown.point(x, y)
    told = shown.value("document.querySelector('.tip').textContent")
    assert told.startswith("token 17") and "gold" in told and "log-prob" in told
    assert shown.value("[...document.querySelectorAll('.map .at')].every(it => it.dataset.t === '16')")
    shown.point(2, 2)
    assert shown.value("document.querySelector('.tip').hidden")


def test_pointing_at_an_edited_token_tells_every_edit_of_it(shown: Browser, page: Path) -> None:
    shown.open(page)
    shown.show("#effect-0")
    shown.wait("document.querySelectorAll('#effect-0 i').length === 300")
    x, y = shown.value(
        "(box => [box.x + 4, box.y + 4])(document.querySelector('#effect-0 i:nth-child(2)').getBoundingClientRect())"
    )
    shown.point(x, y)
    told = shown.value("document.querySelector('.tip').textContent")
    assert told.startswith("token 2as it is") and "feature 17rank" in told and "random controls, mostchange +" in told
    assert shown.value("document.querySelectorAll('.map .at').length") == 1, "maps of models are not of this kind"
    underlined = "[...document.querySelectorAll('#effect-0 i')].map(it => Number(it.classList.contains('up'))).join('')"
    assert shown.value(underlined) == shown.value("page.data.maps.find(it => it.id === 'effect-0').helped")


@pytest.mark.parametrize("width", [320, 768])
def test_nothing_lies_beside_a_narrow_page(shown: Browser, page: Path, width: int) -> None:
    shown.open(page, width=width, height=30_000)
    shown.wait("[...document.querySelectorAll('.plot')].every(plot => plot.querySelector('.trace.scatter'))")
    shown.value("document.querySelectorAll('details').forEach(it => { it.open = true; })")
    assert shown.value("document.documentElement.scrollWidth") == width
    beside = (
        "[...document.querySelectorAll('body *')].filter(it => it.getBoundingClientRect().right > innerWidth + 1"
        " && !it.closest('.wide, .plot, .lines, .tip')).map(it => it.outerHTML.slice(0, 80))"
    )
    assert shown.value(beside) == []


def test_the_switch_turns_page_and_figures(shown: Browser, page: Path) -> None:
    shown.open(page)
    shown.show(".plot")
    shown.wait("!!document.querySelector('.plot .xtick text')")
    fill = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    ground = "getComputedStyle(document.body).backgroundColor"
    light = (shown.value(ground), shown.value(fill))
    shown.click("#theme")
    shown.wait(f"{fill} !== {light[1]!r}")
    assert shown.value(ground) != light[0]
    shown.click("#theme")
    shown.wait(f"{fill} === {light[1]!r}")
    shown.value("localStorage.removeItem('menard-theme')")


def test_on_paper_all_is_drawn_and_light(shown: Browser, page: Path) -> None:
    shown.open(page, height=500, dark=True)
    shown.value("dispatchEvent(new Event('beforeprint'))")
    shown.wait("[...document.querySelectorAll('.plot')].every(plot => plot.querySelector('.trace.scatter'))")
    assert shown.value("getComputedStyle(document.querySelector('.plot .xtick text')).fill") == "rgb(92, 92, 92)"
    assert shown.value("[...document.querySelectorAll('.map')].every(map => map.childElementCount > 0)")
