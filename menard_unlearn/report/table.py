"""The table of methods: a row a method, references first, and where it has several seeds a table of every run."""

from __future__ import annotations

import html

from menard_unlearn.report.cells import STATUSES, mark, number, percent, result, summary, year
from menard_unlearn.report.grid import Column, explained, grid, means
from menard_unlearn.report.recalls import recalls
from menard_unlearn.report.study import Study

RECALL = "Recall of probes, %"
TARGET = "Target text"

cutoff = result("cutoff")

COLUMNS = (
    Column(
        "Cutoff", "of answers (A1)", "year after which recall drops, and its 95 % interval", year(summary, "cutoff")
    ),
    Column("Cutoff", "of change (A2)", "year after which what the base knew is lost", year(summary, "cutoff_change")),
    Column(
        RECALL,
        "forget ↓",
        "facts to be forgotten, in wordings not trained for them",
        percent(recalls, "forget_recall", interval="forget_recall"),
    ),
    Column(
        RECALL,
        "held-out forget ↓",
        "later facts that no forget set held",
        percent(recalls, "heldout_forget_recall", interval="heldout_forget_recall"),
    ),
    Column(RECALL, "retain ↑", "facts to be kept", percent(recalls, "retain_recall", interval="retain_recall")),
    Column(
        RECALL,
        "held-out retain ↑",
        "earlier facts that no retain set held",
        percent(recalls, "heldout_retain_recall", interval="heldout_retain_recall"),
    ),
    Column(
        "Selectivity",
        "AUC ↑",
        "0.5: forgets at random; 1: only later facts (A3)",
        number(cutoff, "forget_auc", ".2f", interval="forget_auc"),
    ),
    Column(
        "Selectivity",
        "to gold ↓",
        "mean distance to gold’s curve by year (A5)",
        number(summary, "distance_to_gold", ".2f"),
    ),
    Column(TARGET, "bits/byte ↑", "surprise at the target (B1)", number(summary, "target_bits_per_byte", ".3f")),
    Column(TARGET, "−log P, nats ↑", "the same of the whole target", number(summary, "target_nats", ",.0f")),
    Column(
        TARGET,
        "greedy prefix ↓",
        "tokens written before it leaves the text",
        number(summary, "target_greedy_prefix", ",.0f"),
    ),
    Column("Utility", "KL ↓", "from the base on timeless text, nats a token", number(summary, "utility_kl", ".3f")),
    Column(
        "Utility", "retain bits/byte ↓", "on held-out text to be kept", number(summary, "retain_bits_per_byte", ".3f")
    ),
    Column("Cost", "time, s", "seconds of unlearning", number(summary, "seconds", ",.0f")),
    Column("Cost", "MB", "peak memory of the process", number(summary, "peak_memory_mb", ",.0f")),
)


def table(study: Study) -> str:
    """The table as HTML, and what its statuses and columns say."""
    statuses = "".join(f"<dt>{mark(name)}</dt><dd>{html.escape(meaning)}</dd>" for name, meaning in STATUSES.items())
    shown = means("Table of methods", COLUMNS, study)
    if len(study.looks) < len(study.runs):
        every = grid("Table of runs", COLUMNS, study, study.runs)
        shown += f"<details><summary>Each of the {len(study.runs)} runs</summary>{every}</details>"
    return f"{shown}<details><summary>What the statuses say</summary><dl>{statuses}</dl></details>{explained(COLUMNS)}"
