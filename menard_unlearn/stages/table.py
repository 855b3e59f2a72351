"""The rows of summary.json as a table for the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

WIDTH = 150
"""Columns where the output is no terminal: what a log or a README shows."""

NUMBERS = {
    "forget": ("forget_recall", ".2f"),
    "retain": ("retain_recall", ".2f"),
    "held-out\nforget": ("heldout_forget_recall", ".2f"),
    "held-out\nretain": ("heldout_retain_recall", ".2f"),
    "AUC": ("forget_auc", ".2f"),
    "target\nbits/byte": ("target_bits_per_byte", ".3f"),
    "greedy\nprefix": ("target_greedy_prefix", "d"),
    "KL\nneutral": ("utility_kl", ".3f"),
    "s": ("seconds", ".0f"),
}
"""Heading → key of the summary and its format."""


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a line a run. What was not computed is a dash; the status says why a cutoff is missing."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method", no_wrap=True)
    table.add_column("knows up to", no_wrap=True)
    table.add_column("changed at", no_wrap=True)
    for heading in NUMBERS:
        table.add_column(heading, justify="right")
    for row in rows:
        seed = "" if row["seed"] is None else f" s{row['seed']}"
        numbers = (_shown(row[key], form) for key, form in NUMBERS.values())
        table.add_row(f"{row['method']}{seed}", _cutoff(row, "cutoff"), _cutoff(row, "cutoff_change"), *numbers)
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _cutoff(row: Mapping[str, Any], key: str) -> str:
    if row[f"{key}_year"] is None:
        return row[f"{key}_status"] or "–"
    return f"{row[f'{key}_year']:.1f} [{row[f'{key}_low']:.1f}, {row[f'{key}_high']:.1f}]"
