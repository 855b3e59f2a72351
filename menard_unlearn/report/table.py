"""The table of methods: one row a run, references first."""

from __future__ import annotations

import html

from menard_unlearn.report.cells import STATUSES, number, percent, summary, year
from menard_unlearn.report.grid import Column, grid
from menard_unlearn.report.study import Study

RECALL = "Recall of probes, %"
TARGET = "Target text"

COLUMNS = (
    Column(
        "Cutoff", "of answers (A1)", "year after which recall drops, and its 95 % interval", year(summary, "cutoff")
    ),
    Column("Cutoff", "of change (A2)", "year after which what the base knew is lost", year(summary, "cutoff_change")),
    Column(
        RECALL, "forget ↓", "facts to be forgotten, in wordings not trained for them", percent(summary, "forget_recall")
    ),
    Column(
        RECALL,
        "held-out forget ↓",
        "later facts that no forget set held",
        percent(summary, "heldout_forget_recall"),
    ),
    Column(RECALL, "retain ↑", "facts to be kept", percent(summary, "retain_recall")),
    Column(
        RECALL,
        "held-out retain ↑",
        "earlier facts that no retain set held",
        percent(summary, "heldout_retain_recall"),
    ),
    Column(
        "Selectivity", "AUC ↑", "0.5: forgets at random; 1: only later facts (A3)", number(summary, "forget_auc", ".3f")
    ),
    Column(
        "Selectivity",
        "to gold ↓",
        "mean distance to gold’s curve by year (A5)",
        number(summary, "distance_to_gold", ".3f"),
    ),
    Column(TARGET, "bits/byte ↑", "surprise at the target (B1)", number(summary, "target_bits_per_byte", ".3f")),
    Column(TARGET, "−log P, nats ↑", "the same of the whole target", number(summary, "target_nats", ",.0f")),
    Column(
        TARGET,
        "greedy prefix ↓",
        "tokens written before it leaves the text",
        number(summary, "target_greedy_prefix", ",d"),
    ),
    Column("Utility", "KL ↓", "from the base on timeless text, nats a token", number(summary, "utility_kl", ".4f")),
    Column(
        "Utility", "retain bits/byte ↓", "on held-out text to be kept", number(summary, "retain_bits_per_byte", ".3f")
    ),
    Column("Cost", "time, s", "seconds of unlearning", number(summary, "seconds", ",.1f")),
    Column("Cost", "MB", "peak memory of the process", number(summary, "peak_memory_mb", ",.0f")),
)


def table(study: Study) -> str:
    """The table as HTML."""
    return grid("Table of methods", COLUMNS, study, study.runs)


def status_meanings() -> str:
    """Every status with its meaning, as a definition list."""
    items = "".join(
        f'<dt><span class="status {name}">{name}</span></dt><dd>{html.escape(meaning)}</dd>'
        for name, meaning in STATUSES.items()
    )
    return f"<dl>{items}</dl>"
