"""The target, token by token, coloured by how probable the model still finds each."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any

STEPS = (0.95, 0.5, 0.1, 0.01, 0.001)
"""Lower ends of the classes of a token's probability, surest first; the last class lies below them all."""
LABELS = ("over 95 %", "50-95 %", "10-50 %", "1-10 %", "0.1-1 %", "under 0.1 %")

CSS = """
.heat{--h0:light-dark(#084a8c,#a9d4f5);--h1:light-dark(#2f7fbc,#68a9dc);--h2:light-dark(#7db5da,#3777ac);
--h3:light-dark(#bdd9ec,#255479);--h4:light-dark(#e6eff7,#21394c);--h5:transparent;--hi:light-dark(#fff,#111);
--lo:light-dark(#222,#e6e6e3);line-height:1.9;font-size:.85rem;overflow-wrap:anywhere}
.heat i{font-style:normal;border-radius:2px;padding:2px 0;white-space:pre-wrap;color:var(--lo)}
.heat.numbered i{display:inline-block;min-width:2.1em;text-align:center;font-size:.68rem;line-height:1.5;margin:1px;
padding:1px 2px;font-variant-numeric:tabular-nums}
.heat .h0{background:var(--h0);color:var(--hi)}.heat .h1{background:var(--h1);color:var(--hi)}
.heat .h2{background:var(--h2)}.heat .h3{background:var(--h3)}.heat .h4{background:var(--h4)}
.heat.numbered .h5,.scale .h5{box-shadow:inset 0 0 0 1px #8886}
.scale{display:flex;flex-wrap:wrap;gap:4px 12px;margin:.4em 0 .8em}
"""


def heat_map(found: Mapping[str, Any]) -> str:
    """HTML of the target's tokens; needs `CSS` on the page.

    Args:
        found: what target_tokens.json holds. Each of its `tokens` has `logprob` (nats), `rank_best` and `rank_worst`
            (1 is the model's first choice; they differ where other tokens are equally probable), and, only where the
            target is published, `text`. Without it the cells hold the tokens' numbers.
    """
    published = is_published(found)
    cells = [_cell(number, token, published) for number, token in enumerate(found["tokens"], start=1)]
    kind, gap = ("heat", "") if published else ("heat numbered", " ")
    return f'<div class="{kind}">{gap.join(cells)}</div>'


def is_published(found: Mapping[str, Any]) -> bool:
    """Whether the words may be shown: one token without its text hides them all."""
    return all("text" in token for token in found["tokens"])


def standalone(found: Mapping[str, Any]) -> str:
    """The same with its style and legend, for a place that has neither."""
    page = "body{font-family:system-ui,sans-serif;color-scheme:light dark;background:canvas;color:canvastext}"
    return f"<style>{page}{CSS}</style>{legend()}{heat_map(found)}"


def legend() -> str:
    """What each colour means."""
    keys = " ".join(f'<span><i class="h{step}">&nbsp;{label}&nbsp;</i></span>' for step, label in enumerate(LABELS))
    return f'<div class="heat scale">{keys}</div>'


def step_of(logprob: float) -> int:
    """The class of a token's probability, 0 the surest."""
    return next((step for step, lowest in enumerate(STEPS) if math.exp(logprob) >= lowest), len(STEPS))


def _cell(number: int, token: Mapping[str, Any], published: bool) -> str:
    step, best, worst = step_of(token["logprob"]), token["rank_best"], token["rank_worst"]
    rank = f"rank {best}" if best == worst else f"rank {best}-{worst}"
    shown = html.escape(token["text"]).replace("\n", "↵\n") if published else str(number)
    return f'<i class="h{step}" title="{number}: {rank}, log-prob {token["logprob"]:.2f}">{shown}</i>'
