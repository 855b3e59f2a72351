"""Clamp, memory and context: every model under every clamp after every context, on the same text."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from menard_unlearn.report.asides import Aside, course, heading, newest, not_computed, older
from menard_unlearn.report.cells import ABSENT, cell, mark
from menard_unlearn.report.plain import Head, figure, meanings, nothing, percentage, plain_table
from menard_unlearn.report.study import Study

PLAIN, OUT = "none", "without_target"
CONDITIONS = (
    Head("model", "without_target saw all but the text", ""),
    Head("clamp", "each of the same dose", ""),
    Head("nats/token ↑", "surprise at the text", "num"),
    Head("first choice, %", "share of its tokens that are the only first choice", "num"),
    Head("greedy prefix", "tokens written before the first that differs", "num"),
    Head("C1, nats/token", "how much likelier than the model without the text finds it, under the same clamp", "num"),
    Head("Menard F", "C2 under the same clamp: 1 written afresh, 0 memorized", "num"),
    Head("variants, SD", "C3: how much likelier than edited texts, in standard deviations of the controls’", "num"),
    Head("exposure, bits", "C6: its rank among keyed variants", "num"),
    Head("gain, nats/token", "above the same model after the same context without a clamp", "num"),
    Head("unlocked, nats/token", "that gain minus what the clamp gives the model without memory", "num"),
    Head("verdict", "memory: unlocked lies above 0; style: the gain without memory does", ""),
)
VERDICTS = {"unlocks": "found", "adds": "live", "hides": "failed", "spoils": "failed"}
"""First word of a verdict → the ground that it stands on."""


def joint(study: Study) -> str:
    """The newest runs, one below the other; "" of none."""
    parts = [course(_parts(aside)) for aside in newest(study, "joint")]
    return "".join(parts) + older(study, "joint") + (meanings(CONDITIONS) if parts else "")


def _parts(aside: Aside) -> list[str]:
    found = aside.found
    several = len(found["features"]) > 1
    features = f"feature{'s' if several else ''} {', '.join(map(str, found['features']))}"
    told = html.escape(f"{features} of {found['author']} at k = {found['k']:g}")
    table = plain_table(f"Models, clamps and contexts of {aside.run.name}", CONDITIONS, list(_rows(found)), sorts=False)
    reasons = [f"{row['model']}, {row['clamp']}: {why}" for row in found["rows"] for why in row["left_out"]]
    return [heading(aside.run, told), table, not_computed(aside, [*found["left_out"], *_grouped(reasons)])]


def _grouped(reasons: Sequence[str]) -> list[str]:
    """The reasons that many rows share once, with the first of the rows."""
    first: dict[str, list[str]] = {}
    for reason in reasons:
        where, _, why = reason.partition(": ")
        first.setdefault(why, []).append(where)
    more = {why: f" and {len(where) - 1} more" if len(where) > 1 else "" for why, where in first.items()}
    return [f"{where[0]}{more[why]}: {why}" for why, where in first.items()]


def _rows(found: Mapping[str, Any]) -> Iterator[str]:
    """The rows, those of a context below a row that says which."""
    contexts = dict.fromkeys(row["context_tokens"] for row in found["rows"])
    for tokens in contexts:
        words = f"after {tokens:,} tokens of the author’s other works" if tokens else "without context"
        yield f'<tr class="over"><th scope="rowgroup" colspan="{len(CONDITIONS)}">{words}</th></tr>'
        above = None
        for row in found["rows"]:
            if row["context_tokens"] == tokens:
                yield _row(row, row["model"] != above)
                above = row["model"]


def _row(row: Mapping[str, Any], begins: bool) -> str:
    model = html.escape(row["model"])
    name = model if begins else f'<span class="seed">{model}</span>'
    c1 = None if row["counterfactual_nats"] is None else row["counterfactual_nats"] / row["n_tokens"]
    why = "needs a model without the text"
    no_clamp = "nothing is clamped" if row["clamp"] == PLAIN else "not measured without a clamp"
    cells = (
        f"<td>{html.escape(row['clamp'].replace('_', ' ')) if row['clamp'] != PLAIN else ABSENT}</td>",
        figure(row, "nats_per_token", ".3f", ""),
        percentage(row["share_rank1"], ""),
        figure(row, "greedy_prefix", ",d", "no usable cache"),
        nothing(why) if c1 is None else cell(f"{c1:+.3f}", value=c1),
        figure(row, "menard_fraction", ".2f", why),
        figure(row, "variant_z", ".1f", "undefined"),
        figure(row, "exposure", ".1f", "undefined"),
        figure(row, "gain", "+.3f", no_clamp),
        figure(row, "unlocked", "+.3f", no_clamp if row["clamp"] == PLAIN else why),
        f"<td>{_verdict(row['verdict'])}</td>",
    )
    kind = ' class="reference"' if row["model"] == OUT else ""
    return f'<tr{kind}><th scope="row">{name}</th>{"".join(cells)}</tr>'


def _verdict(verdict: str | None) -> str:
    if verdict is None:
        return ABSENT
    return " ".join(mark(part, VERDICTS.get(part.split()[0], "")) for part in verdict.split(", "))
