"""Heat maps of several models under one another, aligned by the characters of one text.

Two readings: how probably a passage could be drawn from its model (windows), over the whole text at once; and how
probable each token is, line by line under the words. Everything is an SVG path a class, so that a page stays small.
"""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from menard_unlearn.report.embedded import asset
from menard_unlearn.report.heatmap import LABELS, STEPS

WINDOW_STEPS = (0.5, 0.1, 0.01, 1e-3, 1e-6, 1e-12, 1e-24)
"""Lower ends of the classes of a window's probability, surest first; the last class lies below them all."""
WINDOW_LABELS = ("over 50 %", "10-50 %", "1-10 %", "0.1-1 %", "10⁻⁶-10⁻³", "10⁻¹²-10⁻⁶", "10⁻²⁴-10⁻¹²", "less")
UNTESTED = '<span><i class="untested"></i>in no suffix</span>'
LINE = 100
"""Characters of a line."""
LINES_AT_MOST = 60
"""Of a longer text only the beginning stands line by line."""
ROW = 14
"""Pixels of a model's strip: a lane of 7 for its tokens, below it one of 3 for its windows."""

CSS = asset("aligned.css") + "".join(
    f".al .{kind}{n}{{stroke:var(--{kind}{n});background:var(--{kind}{n})}}"
    for kind, count in (("t", len(STEPS) + 1), ("w", len(WINDOW_STEPS) + 1))
    for n in range(count)
)

Runs = Sequence[tuple[str, Mapping[str, Any]]]
Cells = list[int | None]
"""The class of each character; None where it has no value."""


def aligned_maps(runs: Runs) -> str:
    """HTML, with its own style, of what several models make of the same texts; "" where there is nothing to show.

    Args:
        runs: name and what heat.json holds, in the order of the rows. A text of one role and SHA-256 is the same text;
            its words stand above the strips only where every run gives them.
    """
    texts: dict[tuple[str, str], list[tuple[str, Mapping[str, Any]]]] = {}
    for name, heat in runs:
        for text in heat["texts"]:
            texts.setdefault((text["role"], text["sha256"]), []).append((name, text))
    if not texts:
        return ""
    settings = runs[0][1]
    reading = (
        f"Orange: the largest probability with which {settings['suffix']} tokens that lie over a character follow the "
        f"{settings['prefix']} before them, of windows {settings['stride']} tokens apart. Blue: the probability of the "
        "character’s token, given all before it."
    )
    return (
        f'<div class="al"><style>{CSS}</style><p class="read">{reading}</p>{_legend("w", WINDOW_LABELS, UNTESTED)}'
        f'<div class="maps">{"".join(map(_overview, texts.values()))}</div>{_legend("t", LABELS)}'
        f"{''.join(map(_lines, texts.values()))}</div>"
    )


def _legend(kind: str, labels: Sequence[str], more: str = "") -> str:
    keys = "".join(f'<span><i class="{kind}{step}"></i>{label}</span>' for step, label in enumerate(labels))
    return f'<div class="steps">{keys}{more}</div>'


def _heading(text: Mapping[str, Any], note: str) -> str:
    return f"<h4>{html.escape(text['role'])}: {html.escape(text['name'])}<span>{note}</span></h4>"


def _overview(shown: Runs) -> str:
    """The windows over a whole text, one strip a model."""
    text = shown[0][1]
    rows = []
    for name, own in shown:
        cells = _cells(own["windows"], own["n_chars"], WINDOW_STEPS)
        best = max((value for *_, value in own["windows"] or []), default=None)
        rows.append(
            f"<b>{html.escape(name)}</b>{_svg(own['n_chars'], 1, _paths('w', cells, 0.5, None))}"
            f'<i title="the largest p of a window">{"–" if best is None else _probability(best)}</i>'
        )
    ends = f'<b></b><div class="ends"><span>0</span><span>character {text["n_chars"]}</span></div><i></i>'
    return f'<div>{_heading(text, "whole text, windows")}<div class="rows">{"".join(rows)}{ends}</div></div>'


def _lines(shown: Runs) -> str:
    """Tokens under the words, and windows below them, a line of the text at a time."""
    text, many = shown[0][1], len(shown)
    tokens = [_cells(own["tokens"], own["n_chars"], STEPS) for _, own in shown]
    windows = [_cells(own["windows"], own["n_chars"], WINDOW_STEPS) for _, own in shown]
    words = text["text"] if all("text" in own for _, own in shown) else None
    wide = words is not None and sum(map(_is_wide, words)) > len(words) / 2
    size = LINE // 2 if wide else LINE
    names = "<br>".join(html.escape(name) for name, _ in shown)
    lines = []
    for start in range(0, min(text["n_chars"], size * LINES_AT_MOST), size):
        end = min(start + size, text["n_chars"])
        drawn = "".join(
            _paths("t", tokens[row][start:end], row * ROW + 4.5, len(STEPS))
            + _paths("w", windows[row][start:end], row * ROW + 10.5, len(WINDOW_STEPS))
            for row in range(many)
        )
        above = "" if words is None else _letters(words[start:end], wide)
        cell = 2 if wide else 1
        svg = _svg(end - start, many * ROW, drawn, f' style="height:{many * ROW}px;width:{(end - start) * cell}ch"')
        lines.append(f'<div class="line"><em>{start}</em><p>{above}</p><small>{names}</small>{svg}</div>')
    note = "tokens (wide) and windows (thin), by character"
    if text["n_chars"] > size * LINES_AT_MOST:
        note += f"; the first {size * LINES_AT_MOST:,} of {text['n_chars']:,}"
    if words is None:
        note += "; the text is not published, so its words are not shown"
    drawn = f'<div class="lines{" two" if wide else ""}">{"".join(lines)}</div>'
    if text["role"] == "target" and words is not None:
        return _heading(text, note) + drawn
    return f"<details><summary>{_heading(text, note)}</summary>{drawn}</details>"


def _cells(spans: Iterable[Sequence[float]] | None, n_chars: int, steps: Sequence[float]) -> Cells:
    """The class of each character, from spans [from, to, ln p]."""
    cells: Cells = [None] * n_chars
    for start, end, logprob in spans or []:
        step = next((step for step, lowest in enumerate(steps) if logprob >= math.log(lowest)), len(steps))
        cells[int(start) : int(end)] = [step] * (int(end) - int(start))
    return cells


def _paths(kind: str, cells: Cells, y: float, empty: int | None) -> str:
    """One path a class, of the horizontal strokes of its runs; the class `empty` is the ground that they lie on."""
    data: dict[int, str] = {}
    reached: dict[int, int] = {}
    at = 0
    for step, alike in groupby(cells):
        length = sum(1 for _ in alike)
        if step is not None and step != empty:
            move = f"m{at - reached[step]} 0" if step in data else f"M{at} {y:g}"
            data[step] = f"{data.get(step, '')}{move}h{length}"
            reached[step] = at + length
        at += length
    return "".join(f'<path class="{kind}{step}" d="{data[step]}"/>' for step in sorted(data))


def _svg(width: int, height: int, drawn: str, more: str = "") -> str:
    return f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none"{more}>{drawn}</svg>'


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def _letters(line: str, wide: bool) -> str:
    """Each character as wide as its cell, whatever its font makes of it: the plain ones are so by themselves."""
    letters = []
    for character in line:
        plain = character == "\n" or (character.isprintable() and not unicodedata.combining(character))
        shown = html.escape("↵" if character == "\n" else character, quote=False)
        letters.append(shown if plain and not wide and not _is_wide(character) else f"<u>{shown}</u>")
    return "".join(letters)


def _probability(logprob: float) -> str:
    """As a number where it can be read as one, else as a power of ten."""
    if logprob >= math.log(0.001):
        return f"{math.exp(logprob):.2g}"
    return f"10<sup>{logprob / math.log(10):.0f}</sup>".replace("-", "−")
