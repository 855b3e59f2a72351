"""The target under the models: token by token side by side, and by character with a control beside it."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

from menard_unlearn.report import heatmap, prose
from menard_unlearn.report.aligned import aligned_maps
from menard_unlearn.report.cells import signed
from menard_unlearn.report.grid import tag
from menard_unlearn.report.study import Run, Study

ALIGNED_AT_MOST = 8
"""With more runs than this only the first seeds are mapped by character, and no more groups than this: the page stays
small."""


def by_token(study: Study) -> str:
    """Reading and the place of a map a group; "" where no run read the target. The page fills the places with
    what `token_maps` gives when they come into view."""
    shown = _with_tokens(study)
    if not shown:
        return ""
    names = dict.fromkeys(str(found["target_name"]) for _, found in shown)
    published = all(heatmap.is_published(found) for _, found in shown)
    places = "".join(_place(study, number, run, found) for number, (run, found) in enumerate(shown))
    hidden = "" if published else prose.NUMBERED
    seeds = prose.FIRST_SEEDS if any(len(study.of(run.group)) > 1 for run, _ in shown) else ""
    return (
        f'<p class="read">Target: <b>{html.escape(", ".join(names))}</b>. {prose.TARGET}{hidden}{seeds}</p>'
        f"{heatmap.legend()}"
        f'<div class="maps">{places}</div>'
    )


def token_maps(study: Study) -> dict[str, Any]:
    """`texts`: the tokens' words, of each tokenizer once; `maps`: of each place its class, log-probability and ranks by
    token, and the number of its text, None where the target is not published."""
    texts: list[list[str]] = []
    maps = []
    for number, (run, found) in enumerate(_with_tokens(study)):
        tokens, text = found["tokens"], None
        if heatmap.is_published(found):
            words = [token["text"] for token in tokens]
            texts += [] if words in texts else [words]
            text = texts.index(words)
        ranks = [(token["rank_best"], token["rank_worst"]) for token in tokens]
        maps.append(
            {
                "id": f"map-{number}",
                "name": run.group,
                "text": text,
                "classes": "".join(str(heatmap.step_of(token["logprob"])) for token in tokens),
                "logprobs": [float(f"{token['logprob']:.2f}") for token in tokens],
                "ranks": [best if best == worst else f"{best}–{worst}" for best, worst in ranks],
            }
        )
    return {"texts": texts, "maps": maps}


def _place(study: Study, number: int, run: Run, found: dict[str, Any]) -> str:
    tokens = found["tokens"]
    first = sum(token["rank_worst"] == 1 for token in tokens)
    logprob = sum(token["logprob"] for token in tokens) / len(tokens)
    mean = signed(f"{logprob:.3f}" if logprob > -1 else f"{logprob:.1f}")
    seed = f"<span>seed {run.seed}</span>" if len(study.of(run.group)) > 1 else ""
    kind = "heat map" if heatmap.is_published(found) else "heat map squares"
    return (
        f'<figure class="tokens"{tag(study, run.group)}><h3>{html.escape(run.group)}{seed}</h3>'
        f'<p class="figures">first choice {first} of {len(tokens)}; mean log-prob {mean}</p>'
        f'<div class="{kind}" id="map-{number}" tabindex="0" role="img" '
        f'aria-label="{html.escape(run.group)}: {first} of {len(tokens)} tokens are its first choice"></div></figure>'
    )


def by_character(study: Study) -> str:
    """Reading and the aligned maps of the target and a control; "" where no run has them."""
    every = [(run, found) for run in study.runs if (found := run.result("heat"))]
    shown = every if len(every) <= ALIGNED_AT_MOST else _first_seeds(every)
    told = "" if len(shown) == len(every) else prose.FIRST_SEEDS
    if (left := len(shown) - ALIGNED_AT_MOST) > 0:
        told = prose.FIRST_METHODS.format(count=ALIGNED_AT_MOST, left=left)
    named = [(run.group, {**found, "texts": _without_editions(found["texts"])}) for run, found in shown]
    drawn = aligned_maps(named[:ALIGNED_AT_MOST]) if named else ""
    return f'<p class="read">{prose.CHARACTERS}{told}</p>{drawn}' if drawn else ""


def _without_editions(texts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [text for text in texts if text["role"] != "edition"]


def _with_tokens(study: Study) -> list[tuple[Run, dict[str, Any]]]:
    return _first_seeds((run, run.tokens) for run in study.runs if run.tokens)


def _first_seeds(found: Iterable[tuple[Run, dict[str, Any]]]) -> list[tuple[Run, dict[str, Any]]]:
    """Of each group the lowest seed, references first, as the runs of a study are ordered."""
    first: dict[str, tuple[Run, dict[str, Any]]] = {}
    for run, own in found:
        first.setdefault(run.group, (run, own))
    return list(first.values())
