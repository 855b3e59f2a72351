"""The target under the models: token by token, and by character with a control beside it."""

from __future__ import annotations

import html
from typing import Any

from menard_unlearn.report import heatmap, prose
from menard_unlearn.report.aligned import aligned_maps
from menard_unlearn.report.cells import signed
from menard_unlearn.report.study import Run, Study

HEAT_MAPS_AT_MOST = 8
"""With more runs than this only the first seeds get a map, and no more of them than this: the page stays under 2 MB."""
TOKEN_MAPS_AT_MOST = 3
"""Maps by token where there are more than HEAT_MAPS_AT_MOST runs: they are five times as large as the others."""


def by_token(study: Study) -> str:
    """Heading, reading and a heat map a run; "" where no run read the target."""
    shown, chosen = _chosen(study, {run.name: run.tokens for run in study.runs if run.tokens}, TOKEN_MAPS_AT_MOST)
    if not shown:
        return ""
    names = dict.fromkeys(str(tokens["target_name"]) for _, tokens in shown)
    numbered = "" if all(heatmap.is_published(tokens) for _, tokens in shown) else prose.NUMBERED
    return (
        f"<h2>The target, token by token: {html.escape(', '.join(names))}</h2>"
        f'<p class="read">{prose.TARGET}{numbered}{chosen}</p>{heatmap.legend()}'
        f"{''.join(_tokens(run, found, len(study.of(run.method)) > 1) for run, found in shown)}"
    )


def by_character(study: Study) -> str:
    """Reading and the aligned maps of the target and a control; "" where no run has them."""
    maps = {run.name: found for run in study.runs if (found := run.result("heat"))}
    shown, chosen = _chosen(study, maps, HEAT_MAPS_AT_MOST)
    named = [(run.method, {**found, "texts": _without_editions(found["texts"])}) for run, found in shown]
    drawn = aligned_maps(named) if named else ""
    return f'<p class="read">{prose.CHARACTERS}{chosen}</p>{drawn}' if drawn else ""


def _without_editions(texts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [text for text in texts if text["role"] != "edition"]


def _chosen(study: Study, found: dict[str, dict[str, Any]], most: int) -> tuple[list[tuple[Run, dict[str, Any]]], str]:
    """The runs to be shown, references first, and what the reader is told of the others."""
    shown = [(run, found[run.name]) for run in study.runs if run.name in found]
    if len(shown) <= HEAT_MAPS_AT_MOST:
        return shown, ""
    first: dict[str, tuple[Run, dict[str, Any]]] = {}
    for run, own in shown:
        first.setdefault(run.method, (run, own))
    left = len(first) - most
    more = prose.FIRST_METHODS.format(count=most, left=left) if left > 0 else prose.FIRST_SEEDS
    return list(first.values())[:most], more


def _tokens(run: Run, found: dict[str, Any], seeds: bool) -> str:
    tokens = found["tokens"]
    first = sum(token["rank_worst"] == 1 for token in tokens)
    mean = signed(f"{sum(token['logprob'] for token in tokens) / len(tokens):.3g}")
    name = f"{html.escape(run.method)}, seed {run.seed}" if seeds else html.escape(run.method)
    return (
        f'<div class="tokens"><h3>{name}</h3><p class="figures">{len(tokens)} tokens; {first} of them the model’s only '
        f"first choice; mean log-probability {mean}</p>{heatmap.heat_map(found)}</div>"
    )
