"""`report.html`: everything of a study that is worth a look, in one file that fetches nothing."""

from __future__ import annotations

import html
import json
from importlib.resources import files
from pathlib import Path

from menard_unlearn.files import replace
from menard_unlearn.report import heatmap, prose
from menard_unlearn.report.cells import ABSENT
from menard_unlearn.report.cutoffs import cutoff_figures
from menard_unlearn.report.dated import dated_figures
from menard_unlearn.report.drawing import extraction_table
from menard_unlearn.report.figures import Figure, loss_figures, pareto_figures
from menard_unlearn.report.grid import meanings
from menard_unlearn.report.keys import key_of_curves, key_of_surprisal
from menard_unlearn.report.memory import attribution_table
from menard_unlearn.report.signs import dated_table
from menard_unlearn.report.study import Study, read_study
from menard_unlearn.report.style import palettes
from menard_unlearn.report.table import COLUMNS, status_meanings, table
from menard_unlearn.report.target import by_character, by_token
from menard_unlearn.report.ways import asked
from menard_unlearn.report.years import year_figures

# Nothing may be fetched, whatever a figure or a name might ask for.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"


def build_page(study_dir: Path, out: Path) -> Path:
    """Write the page of a study and return its path.

    Args:
        study_dir: runs/<study>, with summary.json.
        out: the file to write.

    Raises:
        UserError: the folder holds no summary or no run.
    """
    replace(out, render(read_study(study_dir)).encode())
    return out


def render(study: Study) -> str:
    """The page as text."""
    years, pareto, losses = year_figures(study), pareto_figures(study), loss_figures(study)
    cutoffs, dated = cutoff_figures(study), dated_figures(study)
    body = (
        _header(study),
        _methods(study),
        _section("Cutoffs", prose.CUTOFFS, cutoffs, kind=" pair tall"),
        _section("Recall by year", prose.YEARS, years, key=key_of_curves()),
        _block("Other ways of asking", prose.ASKED, asked(study)),
        _section(
            "What else dates it", prose.DATED, dated, key=key_of_surprisal() if dated else "", more=dated_table(study)
        ),
        _section("Forgotten against kept", prose.PARETO, pareto, kind=" pair"),
        _block("Memorized, or written afresh", prose.MEMORY, attribution_table(study)),
        _block("What can be drawn from it", prose.DRAWN, extraction_table(study)),
        _block("The target by character", "", by_character(study)),
        by_token(study) or _block("The target, token by token", "", ""),
        _section("Loss by term", prose.LOSSES, losses),
        f"<footer>Made from {html.escape(str(study.folder))}. {prose.SOURCES}</footer>",
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(study.name)} – menard_unlearn</title>"
        f"<style>{_asset('page.css')}{heatmap.CSS}</style></head><body>{''.join(body)}"
        f'<script type="application/json" id="figures">{_data([*cutoffs, *years, *dated, *pareto, *losses])}</script>'
        f"<script>{_asset('plotly-basic.min.js')}</script><script>{_asset('page.js')}</script></body></html>"
    )


def _data(figures: list[Figure]) -> str:
    drawn = [{"id": figure.id, "data": figure.data, "layout": figure.layout} for figure in figures]
    text = json.dumps({"figures": drawn, "palettes": palettes()}, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")  # so that no name in the data can end the script element


def _asset(name: str) -> str:
    return files("menard_unlearn.report").joinpath("assets", name).read_text(encoding="utf-8")


def _header(study: Study) -> str:
    count = sum(not run.is_reference for run in study.runs)
    references = [run.method for run in study.runs if run.is_reference]
    dates = [run.finished_at for run in study.runs if run.finished_at]
    facts = {
        "last day that may be known": study.setting("split", "cutoff"),
        "base model": study.setting("model", "path"),
        "data": _corpus(study),
        "runs": ", ".join([_counted(count, len(study.methods)), *references]),
        "last run ended": max(dates).replace("T", " ").replace("Z", " UTC") if dates else None,
    }
    shown = [f"<div><dt>{name}</dt><dd>{html.escape(value or ABSENT)}</dd></div>" for name, value in facts.items()]
    again = f"<div><dt>this page again</dt><dd><code>menard report {html.escape(str(study.folder))}</code></dd></div>"
    return (
        f'<header><h1>{html.escape(study.name)}</h1><dl class="facts">{"".join(shown)}{again}</dl>'
        f'<p class="failed" id="failed" hidden>{prose.FAILED}</p>'
        f'<noscript><p class="failed">{prose.NO_SCRIPT}</p></noscript></header>'
    )


def _counted(runs: int, methods: int) -> str:
    named = f"{methods} method{'' if methods == 1 else 's'}"
    return named if runs == methods else f"{runs} runs of {named}"


def _corpus(study: Study) -> str | None:
    """The kind of source and where it lies."""
    kind = study.setting("corpus", "_target_")
    places = [place for key in ("path", "folder") if (place := study.setting("corpus", key))]
    return ": ".join([kind.rpartition(".")[2], *places]) if kind else None


def _methods(study: Study) -> str:
    return (
        f'<h2>Methods</h2><p class="read">{prose.METHODS}</p>{table(study)}'
        f"<details><summary>What the statuses say</summary>{status_meanings()}</details>"
        f"<details><summary>What the columns are</summary>{meanings(COLUMNS)}</details>"
    )


def _block(title: str, reading: str, drawn: str) -> str:
    if not drawn:
        return f'<h2>{title}</h2><p class="read">{prose.UNMEASURED}</p>'
    how = f'<p class="read">{reading}</p>' if reading else ""
    return f"<h2>{title}</h2>{how}{drawn}"


def _section(title: str, reading: str, figures: list[Figure], *, key: str = "", kind: str = "", more: str = "") -> str:
    """A heading, how to read it, the figures with their key, and what follows them."""
    panels = "".join(map(_panel, figures))
    drawn = f'{key}<div class="panels{kind}">{panels}</div>{more}' if figures else more
    return _block(title, reading, drawn)


def _panel(figure: Figure) -> str:
    heading = f"<h3>{html.escape(figure.title)}<span>{html.escape(figure.note)}</span></h3>"
    height = figure.layout.get("height")
    tall = "" if height is None else f' style="height:{height}px"'
    return f'<figure>{heading}<div class="plot" id="{figure.id}"{tall}></div></figure>'
