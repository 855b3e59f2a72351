"""The page: everything of some runs that is worth a look, in one file that fetches nothing."""

from __future__ import annotations

import html
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from menard_unlearn.files import replace
from menard_unlearn.report import heatmap, prose
from menard_unlearn.report.cells import ABSENT
from menard_unlearn.report.curves import all_of, curve_figures, curves
from menard_unlearn.report.cutoffs import cutoff_figures
from menard_unlearn.report.dated import dated_figures
from menard_unlearn.report.differences import differences
from menard_unlearn.report.drawing import extraction_table
from menard_unlearn.report.embedded import asset, packed
from menard_unlearn.report.figures import Figure, panel
from menard_unlearn.report.gather import gather
from menard_unlearn.report.keys import choice_of_groups, key_of_curves, key_of_groups, key_of_surprisal
from menard_unlearn.report.memory import attribution_table
from menard_unlearn.report.pareto import pareto_figures
from menard_unlearn.report.runs import counted, runs_table
from menard_unlearn.report.signs import dated_table
from menard_unlearn.report.study import Study
from menard_unlearn.report.style import css_colours, palettes
from menard_unlearn.report.table import table
from menard_unlearn.report.target import by_character, by_token, token_maps
from menard_unlearn.report.ways import asked
from menard_unlearn.report.years import year_figures

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
    years, pareto, training = year_figures(study), pareto_figures(study), curve_figures(study)
    cutoffs, dated = cutoff_figures(study), dated_figures(study)
    references = dict.fromkeys(run.method for run in study.runs if run.is_reference)
    sections = {
        "Methods": (prose.METHODS, choice_of_groups(study) + table(study)),
        "Forgotten against kept": (prose.PARETO, _panels(pareto, "pair", key_of_groups(study))),
        "Cutoffs": (prose.CUTOFFS, _panels(cutoffs, "pair tall")),
        "Recall by year": (prose.YEARS, _panels(years, key=key_of_curves(references))),
        "Other ways of asking": (prose.ASKED, asked(study)),
        "What else dates it": (prose.DATED, _panels(dated, key=key_of_surprisal(references)) + dated_table(study)),
        "Memorized, or written afresh": (prose.MEMORY, attribution_table(study)),
        "What can be drawn from it": (prose.DRAWN, extraction_table(study)),
        "The target by character": ("", by_character(study)),
        "The target, token by token": ("", by_token(study)),
        "Training": (prose.TRAINING, curves(study, training)),
        "Runs": (prose.RUNS, runs_table(study)),
        "Settings that differ": (prose.DIFFERENCES, differences(study)),
    }
    shown = {title: _section(title, *parts) for title, parts in sections.items() if parts[1]}
    left = [title for title in sections if title not in shown]
    unmeasured = f'<p class="read">{prose.UNMEASURED} {", ".join(left)}.</p>' if left else ""
    figures = [*pareto, *cutoffs, *years, *dated, *all_of(training)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(study.name)} – menard_unlearn</title>"
        f"<style>:root{{{css_colours()}}}{asset('page.css')}{heatmap.CSS}</style></head><body>"
        f"{_header(study, list(shown))}<main>{''.join(shown.values())}{unmeasured}</main>"
        f"<footer>{prose.SOURCES}</footer>"
        f'<script type="application/json" id="data">{_data(figures, token_maps(study))}</script>'
        f'<script type="text/plain" id="plotly">{packed("plotly-basic.min.js")}</script>'
        f"{''.join(f'<script>{asset(name)}</script>' for name in SCRIPTS)}</body></html>"
    )


def _data(figures: Sequence[Figure], maps: dict[str, Any]) -> str:
    drawn = [{"id": figure.id, "data": figure.data, "layout": figure.layout} for figure in figures]
    whole = {"figures": drawn, "palettes": palettes(), **maps}
    text = json.dumps(whole, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")  # so that no name in the data can end the script element


def _header(study: Study, titles: Sequence[str]) -> str:
    dates = [run.state.at for run in study.runs if run.state.at]
    again = shlex.join(["menard", "report", *map(str, study.places)])
    facts = {
        "last day that may be known": study.setting("split", "cutoff"),
        "base model": study.setting("model", "path"),
        "data": _corpus(study),
        "last run ended": max(dates).replace("T", " ").replace("Z", " UTC") if dates else None,
    }
    shown = [f"<div><dt>{name}</dt><dd>{html.escape(value or ABSENT)}</dd></div>" for name, value in facts.items()]
    shown.append(f'<div><dt>runs</dt><dd><a href="#runs">{counted(study)}</a></dd></div>')
    links = "".join(f'<a href="#{anchor(title)}">{title}</a>' for title in titles)
    return (
        f'<header><div class="top"><h1>{html.escape(study.name)}</h1>'
        '<button type="button" id="theme" hidden>dark</button></div>'
        f'<dl class="facts">{"".join(shown)}'
        f'<div class="again"><dt>this page again</dt><dd><code>{html.escape(again)}</code></dd></div></dl>'
        f'<nav aria-label="Sections">{links}</nav><p class="failed" id="failed" hidden>{prose.FAILED}</p>'
        f'<noscript><p class="failed">{prose.NO_SCRIPT}</p></noscript></header>'
    )


def _corpus(study: Study) -> str | None:
    """The kind of source and where it lies."""
    kind = study.setting("corpus", "_target_")
    places = [place for key in ("path", "folder") if (place := study.setting("corpus", key))]
    return ": ".join([kind.rpartition(".")[2], *places]) if kind else None


def anchor(title: str) -> str:
    """A section's identity, for links."""
    return "".join(letter if letter.isalnum() else "-" for letter in title.lower())


def _section(title: str, reading: str, drawn: str) -> str:
    how = f'<p class="read">{reading}</p>' if reading else ""
    return f'<section id="{anchor(title)}"><h2>{title}</h2>{how}{drawn}</section>'


def _panels(figures: Sequence[Figure], kind: str = "", key: str = "") -> str:
    """The places of the figures below their key; "" of none."""
    return f'{key}<div class="panels {kind}">{"".join(map(panel, figures))}</div>' if figures else ""
