"""context.json as tables and sentences for the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from menard_unlearn.stages.table import WIDTH
from menard_unlearn.statistics.floor_law import BETA


def print_context(content: Mapping[str, Any]) -> None:
    """A table a model, a row a length, nats a token; then the answer, and what the placebos say of it."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, markup=False)
    for name, model in content["models"].items():
        console.print(f"\n{name}: {content['target_name']}, {model['n_tokens']} tokens, {model['n_draws']} draws")
        console.print(curves(model))
        console.print(model["in_words"], soft_wrap=True)
        for line in (*placebo_lines(model), *claim_lines(model)):
            console.print(line, soft_wrap=True)
    for reason in content["left_out"]:
        console.print(f"left out: {reason}", soft_wrap=True)


def curves(model: Mapping[str, Any]) -> Table:
    """Loss by length, beside the placebos'."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("context", "nats a token", "95% interval", *model["placebos"]):
        table.add_column(heading.replace("_", " "), justify="right")
    placebos = model["placebos"].values()
    table.add_row("none", f"{model['no_context']:.4f}", "", *(f"{found['no_context']:.4f}" for found in placebos))
    for place, row in enumerate(model["curve"]):
        interval = "–" if row["low"] is None else f"{row['low']:.4f} to {row['high']:.4f}"
        others = (f"{found['curve'][place]['nats']:.4f}" for found in placebos)
        table.add_row(f"{row['tokens']:,}", f"{row['nats']:.4f}", interval, *others)
    return table


def placebo_lines(model: Mapping[str, Any]) -> list[str]:
    """By how much the target after its own contexts does better than each placebo."""
    return [
        f"beyond {name.replace('_', ' ')}: {found['beyond']:+.4f} nats a token "
        f"[{found['beyond_low']:+.4f}, {found['beyond_high']:+.4f}]"
        for name, found in model["placebos"].items()
        if found["beyond"] is not None
    ]


def claim_lines(model: Mapping[str, Any]) -> list[str]:
    """The claim of so many orders of magnitude."""
    claim = model["claim"]
    if claim is None:
        return []
    least = claim["fitted"] <= BETA[0] * 1.01
    fitted = f"the losses do not fall (β at most {claim['fitted']:.3f})" if least else f"fitted {claim['fitted']:.3f}"
    return [
        f"{claim['orders']:g} orders of magnitude imply β = {claim['implied']:.3f}, {fitted} "
        f"(difference {claim['low']:+.3f} to {claim['high']:+.3f}, p = {claim['p_value']:.3f}): {claim['verdict']}"
    ]
