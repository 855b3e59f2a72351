"""The page: everything of some runs that is worth a look, in one file that fetches nothing."""

from __future__ import annotations

import html
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from menard_unlearn.files import replace
from menard_unlearn.report import effects, heatmap, prose
from menard_unlearn.report.cells import ABSENT
from menard_unlearn.report.effects import effect_maps
from menard_unlearn.report.embedded import asset, packed
from menard_unlearn.report.figures import Figure
from menard_unlearn.report.gather import gather
from menard_unlearn.report.runs import counted
from menard_unlearn.report.sections import Section, sections
from menard_unlearn.report.study import Study
from menard_unlearn.report.style import css_colours, palettes
from menard_unlearn.report.target import token_maps

# Nothing may be fetched, whatever a figure or a name might ask for.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
SCRIPTS = ("page.js", "tables.js", "maps.js", "figures.js")


def build_page(places: Sequence[Path], out: Path) -> Path:
    """Write the page of runs and studies and return its path.

    Args:
        places: folders of runs, of studies, or of folders of studies.
        out: the file to write; links to the runs are relative to it.

    Raises:
        UserError: one of the folders is not there or holds no run.
    """
    replace(out, render(gather(places, out.parent)).encode())
    return out


def render(study: Study) -> str:
    """The page as text."""
    every = sections(study)
    shown = [section for section in every if section.drawn]
    left = ", ".join(section.title for section in every if not section.drawn)
    unmeasured = f'<p class="read">{prose.UNMEASURED} {left}.</p>' if left else ""
    figures = [figure for section in shown for figure in section.figures]
    maps = token_maps(study)
    maps["maps"] += effect_maps(study, maps["texts"])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(study.name)} – menard_unlearn</title>"
        f"<style>:root{{{css_colours()}}}{asset('page.css')}{heatmap.CSS}{effects.CSS}</style></head><body>"
        f"{_header(study, shown)}<main>{''.join(section.html() for section in shown)}{unmeasured}</main>"
        f"<footer>{prose.SOURCES}</footer>"
        f'<script type="application/json" id="data">{_data(figures, maps)}</script>'
        f'<script type="text/plain" id="plotly">{packed("plotly-basic.min.js")}</script>'
        f"{''.join(f'<script>{asset(name)}</script>' for name in SCRIPTS)}</body></html>"
    )


def _data(figures: Sequence[Figure], maps: dict[str, Any]) -> str:
    drawn = [{"id": figure.id, "data": figure.data, "layout": figure.layout} for figure in figures]
    whole = {"figures": drawn, "palettes": palettes(), **maps}
    text = json.dumps(whole, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")  # so that no name in the data can end the script element


def _header(study: Study, shown: Sequence[Section]) -> str:
    dates = [run.state.at for run in study.all_runs if run.state.at]
    again = shlex.join(["menard", "report", *map(str, study.places)])
    facts = {
        "last day that may be known": study.setting("split", "cutoff"),
        "base model": study.setting("model", "path"),
        "data": _corpus(study),
        "last run ended": max(dates).replace("T", " ").replace("Z", " UTC") if dates else None,
    }
    told = [f"<div><dt>{name}</dt><dd>{html.escape(value or ABSENT)}</dd></div>" for name, value in facts.items()]
    told.append(f'<div><dt>runs</dt><dd><a href="#runs">{counted(study)}</a></dd></div>')
    links = "".join(f'<a href="#{section.anchor}">{section.title}</a>' for section in shown)
    return (
        f'<header><div class="top"><h1>{html.escape(study.name)}</h1>'
        '<button type="button" id="theme" hidden>dark</button></div>'
        f'<dl class="facts">{"".join(told)}'
        f'<div class="again"><dt>this page again</dt><dd><code>{html.escape(again)}</code></dd></div></dl>'
        f'<nav aria-label="Sections">{links}</nav><p class="failed" id="failed" hidden>{prose.FAILED}</p>'
        f'<noscript><p class="failed">{prose.NO_SCRIPT}</p></noscript></header>'
    )


def _corpus(study: Study) -> str | None:
    """The kind of source and where it lies."""
    kind = study.setting("corpus", "_target_")
    places = [place for key in ("path", "folder") if (place := study.setting("corpus", key))]
    return ": ".join([kind.rpartition(".")[2], *places]) if kind else None
