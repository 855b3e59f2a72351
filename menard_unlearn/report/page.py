"""`report.html`: everything of a study that is worth a look, in one file that fetches nothing."""

from __future__ import annotations

import html
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from menard_unlearn.files import replace
from menard_unlearn.report import heatmap, prose
from menard_unlearn.report.cutoffs import cutoff_figures
from menard_unlearn.report.figures import Figure, loss_figures, pareto_figures
from menard_unlearn.report.keys import key_of_curves
from menard_unlearn.report.study import Run, Study, read_study
from menard_unlearn.report.style import palettes
from menard_unlearn.report.table import ABSENT, column_meanings, signed, status_meanings, table
from menard_unlearn.report.years import year_figures

HEAT_MAPS_AT_MOST = 12
"""With more runs than this only the first seed of each method gets a heat map, which keeps the page under 2 MB."""

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
    cutoffs = cutoff_figures(study)
    body = (
        _header(study),
        _methods(study),
        _section("Cutoffs", prose.CUTOFFS, cutoffs, kind=" pair tall"),
        _section("Recall by year", prose.YEARS, years, key=key_of_curves()),
        _section("Forgotten against kept", prose.PARETO, pareto, kind=" pair"),
        _target(study),
        _section("Loss by term", prose.LOSSES, losses),
        f"<footer>Made from {html.escape(str(study.folder))}. {prose.SOURCES}</footer>",
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(study.name)} – menard_unlearn</title>"
        f"<style>{_asset('page.css')}{heatmap.CSS}</style></head><body>{''.join(body)}"
        f'<script type="application/json" id="figures">{_data([*cutoffs, *years, *pareto, *losses])}</script>'
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
        f"<details><summary>What the columns are</summary>{column_meanings()}</details>"
    )


def _section(title: str, reading: str, figures: list[Figure], *, key: str = "", kind: str = "") -> str:
    if not figures:
        return f'<h2>{title}</h2><p class="read">{prose.UNMEASURED}</p>'
    panels = "".join(map(_panel, figures))
    return f'<h2>{title}</h2><p class="read">{reading}</p>{key}<div class="panels{kind}">{panels}</div>'


def _panel(figure: Figure) -> str:
    heading = f"<h3>{html.escape(figure.title)}<span>{html.escape(figure.note)}</span></h3>"
    height = figure.layout.get("height")
    tall = "" if height is None else f' style="height:{height}px"'
    return f'<figure>{heading}<div class="plot" id="{figure.id}"{tall}></div></figure>'


def _target(study: Study) -> str:
    shown = [(run, run.tokens) for run in study.runs if run.tokens]
    crowded = len(shown) > HEAT_MAPS_AT_MOST
    if crowded:
        shown = [(run, tokens) for run, tokens in shown if run is study.of(run.method)[0]]
    if not shown:
        return _section("The target, token by token", "", [])
    names = dict.fromkeys(str(tokens["target_name"]) for _, tokens in shown)
    numbered = "" if all(heatmap.is_published(tokens) for _, tokens in shown) else prose.NUMBERED
    chosen = prose.FIRST_SEEDS if crowded else ""
    return (
        f"<h2>The target, token by token: {html.escape(', '.join(names))}</h2>"
        f'<p class="read">{prose.TARGET}{numbered}{chosen}</p>{heatmap.legend()}'
        f"{''.join(_tokens(run, found, len(study.of(run.method)) > 1) for run, found in shown)}"
    )


def _tokens(run: Run, found: dict[str, Any], seeds: bool) -> str:
    tokens = found["tokens"]
    first = sum(token["rank_worst"] == 1 for token in tokens)
    mean = signed(f"{sum(token['logprob'] for token in tokens) / len(tokens):.3g}")
    name = f"{html.escape(run.method)}, seed {run.seed}" if seeds else html.escape(run.method)
    return (
        f'<div class="tokens"><h3>{name}</h3><p class="figures">{len(tokens)} tokens; {first} of them the model’s only '
        f"first choice; mean log-probability {mean}</p>{heatmap.heat_map(found)}</div>"
    )
