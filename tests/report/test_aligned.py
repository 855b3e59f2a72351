"""Heat maps under one another: small, aligned, and without words where there must be none."""

from __future__ import annotations

import html
import math
import random
import re
from itertools import pairwise
from typing import Any

from menard_unlearn.report.aligned import CSS, ROW, aligned_maps

WORDS = ("placeholder", "text", "with", "<", "words")


def heat(
    n_chars: int = 250, *, words: str | None = None, role: str = "target", tokens: list[list[float]] | None = None
) -> dict[str, Any]:
    """What heat.json holds of one text."""
    text = {
        "role": role,
        "name": "a & b",
        "sha256": f"{role}{n_chars}",
        "n_chars": n_chars,
        "windows": [[50, 120, math.log(0.6)], [120, n_chars, -700.0]],
        "windows_over_median": 10.0,
        "windows_over_max": 11,
        "tokens": [[0, 5, math.log(0.99)], [5, n_chars, -20.0]] if tokens is None else tokens,
        "token_context": None,
    }
    shown = {} if words is None else {"text": words}
    return {"prefix": 50, "suffix": 50, "stride": 5, "texts": [text | shown], "left_out": []}


def strips(drawn: str, kind: str) -> list[tuple[int, str]]:
    """(class, path data) of every path of a kind in the lines."""
    found = re.findall(rf'<path class="{kind}(\d)" d="([^"]+)"', drawn.split('<div class="lines')[1])
    return [(int(step), data) for step, data in found]


def test_strips_of_all_models_lie_over_the_same_characters() -> None:
    drawn = aligned_maps([("one", heat()), ("two", heat(tokens=[[0, 3, -0.01], [150, 160, math.log(0.3)]]))])
    first = 4.5
    assert strips(drawn, "t") == [
        (0, f"M0 {first}h5"),
        (0, f"M0 {first + ROW}h3"),
        (2, f"M50 {first + ROW}h10"),  # of the second line
    ]
    assert strips(drawn, "w") == [
        (0, "M50 10.5h50"),
        (0, f"M50 {10.5 + ROW}h50"),
        (0, "M0 10.5h20"),
        (0, f"M0 {10.5 + ROW}h20"),
    ]
    assert re.findall(r"<em>(\d+)</em>", drawn) == ["0", "100", "200"]
    assert drawn.count("one<br>two") == 3


def test_neighbours_of_a_class_are_one_stroke() -> None:
    tokens = [[at, at + 1, math.log(0.99 if at % 10 else 0.3)] for at in range(100)]
    (sure, unsure) = strips(aligned_maps([("one", heat(100, tokens=tokens))]), "t")
    assert sure == (0, "M1 4.5h9" + "m1 0h9" * 9)
    assert unsure == (2, "M0 4.5h1" + "m9 0h1" * 9)


def test_the_overview_names_the_best_window() -> None:
    drawn = aligned_maps([("one", heat())])
    assert 'title="the largest p of a window">0.6</i>' in drawn
    lost = heat()
    lost["texts"][0]["windows"] = [[50, 250, -700.0]]
    assert "10<sup>−304</sup>" in aligned_maps([("one", lost)])
    lost["texts"][0] |= {"windows": None, "tokens": None}
    assert ">–</i>" in aligned_maps([("one", lost)])


def test_words_stand_only_where_every_run_publishes_them_and_are_escaped() -> None:
    words = " ".join(WORDS * 10)[:250]
    shown = aligned_maps([("one", heat(len(words), words=words)), ("two", heat(len(words), words=words))])
    assert html.unescape("".join(re.findall(r"<p>(.*?)</p>", shown))) == words
    hidden = aligned_maps([("one", heat(len(words), words=words)), ("<i>two", heat(len(words)))])
    assert "placeholder" not in hidden and "not published" in hidden
    assert "<i>two" not in hidden and "a &amp; b" in hidden


def test_every_character_has_a_cell_of_its_own() -> None:
    latin = aligned_maps([("one", heat(6, words="a\n港e\u0301b", tokens=[]))])
    assert "<p>a↵<u>港</u>e<u>\u0301</u>b</p>" in latin
    wide = aligned_maps([("one", heat(60, words="港" * 59 + "a", tokens=[]))])
    assert re.findall(r"<em>(\d+)</em>", wide) == ["0", "50"] and "<u>a</u>" in wide


def test_the_control_has_a_block_of_its_own_and_other_texts_are_kept_apart() -> None:
    both = heat()
    both["texts"] += heat(role="control")["texts"]
    drawn = aligned_maps([("one", both), ("two", both), ("other", heat(100))])
    assert drawn.count('<div class="lines') == 3
    assert drawn.count("<details>") == 3, "without its words the target needs no lines in the open"
    assert aligned_maps([("one", heat(words="w" * 250))]).count("<details>") == 0
    assert aligned_maps([]) == "" == aligned_maps([("one", {**both, "texts": []})])


def test_six_models_of_a_usual_text_stay_small() -> None:
    rng = random.Random(0)
    runs = []
    for name in ("base", "gold", "gradient_ascent", "npo", "rmu", "simnpo"):
        edges = sorted({0, 2500, *rng.sample(range(2500), 700)})
        tokens = [[a, b, -rng.expovariate(0.5)] for a, b in pairwise(edges)]
        runs.append((name, heat(2500, words="words " * 416 + "last", tokens=tokens)))
    assert len(aligned_maps(runs).encode()) <= 60_000


def test_its_style_is_its_own() -> None:
    rules = re.sub(r"@media[^{]*\{(.*?\})\}", r"\1", CSS, flags=re.DOTALL)
    selectors = [one.strip() for rule in re.findall(r"([^{}]+)\{", rules) for one in rule.split(",")]
    assert selectors and all(one == ".al" or one.startswith(".al ") for one in selectors)
