"""Which tokens a feature helps: the target, coloured by what the clamp does to each token's log-probability."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from menard_unlearn.report.asides import Aside, course, heading, newest, not_computed, older
from menard_unlearn.report.cells import cell, signed
from menard_unlearn.report.embedded import asset
from menard_unlearn.report.heatmap import CSS as HEAT
from menard_unlearn.report.heatmap import is_published
from menard_unlearn.report.plain import Head, figure, nothing, percent_of, percentage, plain_table
from menard_unlearn.report.study import Study

STEPS = (0.02, 0.1, 0.5, 2.0)
"""Nats from which on a change belongs to the next stronger class, up and down alike."""
LABELS = (
    "−2 nats or less",
    "−2 to −0.5",
    "−0.5 to −0.1",
    "−0.1 to −0.02",
    "about 0",
    "0.02 to 0.1",
    "0.1 to 0.5",
    "0.5 to 2",
    "2 or more",
)
MIDDLE = len(STEPS)
CLAMPED = 1
"""Place of the clamp among `columns`; the first is the model as it is."""
TOKENS_AT_MOST = 3000
"""Of a longer text only the beginning is mapped on the page."""
COLUMNS = (
    Head("under", "", ""),
    Head("k", "dose, in largest activations of the feature", "num"),
    Head("nats", "−ln P of the target", "num"),
    Head("nats saved", "above 0 the target has become likelier", "num"),
    Head("first choice, %", "share of tokens that are the only first choice", "num"),
    Head("raised, %", "share of tokens that become likelier", "num"),
    Head("helped, %", "share of tokens raised by more than under every random control", "num"),
)
CSS = asset("effects.css")


def effects(study: Study) -> str:
    """The newest runs, each with a table and the place of its map; "" of none. The page fills the places with what
    `effect_maps` gives."""
    shown = newest(study, "feature_tokens")
    parts = [course(_parts(place, aside)) for place, aside in enumerate(shown)]
    return (legend() if parts else "") + "".join(parts) + older(study, "feature_tokens")


def effect_maps(study: Study, texts: list[list[str]]) -> list[dict[str, Any]]:
    """Of each place its classes and what one is told where one points at a token; words go into `texts`, each text
    once, and not at all where the target is not published."""
    maps = []
    for place, aside in enumerate(newest(study, "feature_tokens")):
        tokens, text = aside.found["tokens"][:TOKENS_AT_MOST], None
        if is_published(aside.found):
            words = [token["text"] for token in tokens]
            texts += [] if words in texts else [words]
            text = texts.index(words)
        maps.append(
            {
                "id": f"effect-{place}",
                "kind": "d",
                "name": aside.run.name,
                "text": text,
                "classes": "".join(str(step_of(change(token))) for token in tokens),
                "helped": "".join(str(int(bool(token["helped"][CLAMPED]))) for token in tokens),
                "told": [*_told(aside.found, tokens), *_random(aside.found, tokens)],
            }
        )
    return maps


def change(token: Mapping[str, Any]) -> float:
    """What the clamp adds to its log-probability, nats."""
    return token["logprob"][CLAMPED] - token["logprob"][0]


def step_of(nats: float) -> int:
    """The class of a change, 0 the largest loss, `MIDDLE` nearly none."""
    size = sum(abs(nats) >= step for step in STEPS)
    return MIDDLE + (size if nats > 0 else -size)


def _told(found: Mapping[str, Any], tokens: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for place, column in enumerate(found["columns"]):
        ranks = [(token["rank_best"][place], token["rank_worst"][place]) for token in tokens]
        rows.append(
            {
                "name": _name(column),
                "ranks": [best if best == worst else f"{best}–{worst}" for best, worst in ranks],
                "logprobs": [float(f"{token['logprob'][place]:.2f}") for token in tokens],
            }
        )
    return rows


def _random(found: Mapping[str, Any], tokens: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What random controls do at each token; nothing without any."""
    if not found["controls"]:
        return []
    names = {"random_mean": "random controls, mean", "random_max": "random controls, most"}
    return [{"name": name, "changes": [float(f"{token[key]:.2f}") for token in tokens]} for key, name in names.items()]


def _name(column: Mapping[str, Any]) -> str:
    if column["kind"] == "none":
        return "as it is"
    return column["name"].replace("_", " ")


def _parts(place: int, aside: Aside) -> list[str]:
    found = aside.found
    clamped = found["columns"][CLAMPED]
    left = found["n_tokens"] - TOKENS_AT_MOST
    share, chance = clamped["share_helped"], percent_of(found["chance"])
    helps = "" if share is None else f" It helps {percent_of(share)} of them; chance alone would {chance}."
    words = (
        f"Target: <b>{html.escape(found['target_name'])}</b>, {found['n_tokens']:,} tokens, under "
        f"{html.escape(_name(clamped))} at k = {_dose(clamped)}.{helps}"
    )
    more = "" if is_published(found) else " The text is not published: a square is a token, without its words."
    more += f" The first {TOKENS_AT_MOST:,} tokens are mapped." if left > 0 else ""
    kind = "heat map effect" if is_published(found) else "heat map effect squares"
    label = f"{_name(clamped)} on {found['n_tokens']} tokens.{helps}"
    return [
        heading(aside.run, f"after layer {found['layer']}"),
        f'<p class="said">{words}{more}</p>',
        f'<div class="{kind}" id="effect-{place}" tabindex="0" role="img" aria-label="{html.escape(label)}"></div>',
        plain_table(f"The target under each edit, {aside.run.name}", COLUMNS, _rows(found), sorts=False),
        not_computed(aside, found["left_out"]),
    ]


def _dose(column: Mapping[str, Any]) -> str:
    return "–" if column["k"] is None else f"{column['k']:g}"


def _rows(found: Mapping[str, Any]) -> list[str]:
    """The edits, and below them the range of the random controls."""
    rows = []
    for column in found["columns"]:
        plain = column["kind"] == "none"
        saved = nothing("what the others are counted from") if plain else cell(signed(f"{column['nats_saved']:+.1f}"))
        raised = nothing("the same model") if plain else percentage(column["share_raised"], "")
        helped = percentage(column["share_helped"], "nothing is edited" if plain else "no random control")
        first = figure(column, "k", "g", "nothing is edited") + cell(f"{column['nats']:,.1f}") + saved
        rows.append(_row(html.escape(_name(column)), first, percentage(column["share_rank1"], ""), raised, helped))
    for kind in ("random_feature", "random_direction"):
        own = [column for column in found["controls"] if column["kind"] == kind]
        if own:
            rows.append(_row(f"{len(own)} {kind.replace('_', ' ')}s", *_ranges(own)))
    return rows


def _ranges(columns: list[dict[str, Any]]) -> list[str]:
    """Least and greatest of each figure."""
    why = "they are what helped is counted against"

    def span(key: str, form: str, unit: float) -> str:
        values = [column[key] / unit for column in columns]
        return cell(f"{signed(format(min(values), form))} to {signed(format(max(values), form))}")

    k = figure(columns[0], "k", "g", "no dose of its own")
    nats = (span("nats", ",.1f", 1.0), span("nats_saved", "+.1f", 1.0))
    return [k, *nats, span("share_rank1", ".1f", 0.01), span("share_raised", ".1f", 0.01), nothing(why)]


def _row(name: str, *cells: str) -> str:
    return f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>'


def legend() -> str:
    """What each colour means, and what is underlined."""
    keys = " ".join(f'<span><i class="d{step}">&nbsp;{label}&nbsp;</i></span>' for step, label in enumerate(LABELS))
    return f'<div class="heat effect scale">{keys} <span><i class="d4 up">&nbsp;helped&nbsp;</i></span></div>'


def standalone(found: Mapping[str, Any]) -> str:
    """The map with its style and legend, for a place that has neither; without words unless the target is published."""
    published = is_published(found)
    cells = [_cell(number, token, published) for number, token in enumerate(found["tokens"], start=1)]
    kind, gap = ("heat effect", "") if published else ("heat effect numbered", " ")
    page = "body{font-family:system-ui,sans-serif;color-scheme:light dark;background:canvas;color:canvastext}"
    return f'<style>{page}{HEAT}{CSS}</style>{legend()}<div class="{kind}">{gap.join(cells)}</div>'


def _cell(number: int, token: Mapping[str, Any], published: bool) -> str:
    up = " up" if token["helped"][CLAMPED] else ""
    before, after = token["logprob"][0], token["logprob"][CLAMPED]
    random = (
        ""
        if token["random_max"] is None
        else f", random {token['random_mean']:+.2f}, at most {token['random_max']:+.2f}"
    )
    told = f"{number}: log-prob {before:.2f} → {after:.2f} ({after - before:+.2f}{random})"
    shown = html.escape(token["text"]).replace("\n", "↵\n") if published else str(number)
    return f'<i class="d{step_of(change(token))}{up}" title="{told}">{shown}</i>'
