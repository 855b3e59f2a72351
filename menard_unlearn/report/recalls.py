"""Recall of the four sets of probes with its interval, counted from the probes themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from menard_unlearn.report.study import Run
from menard_unlearn.statistics.intervals import wilson

SPLITS = ("forget", "retain", "heldout_forget", "heldout_retain")
"""Sets of probes; of each, `<split>_recall` is a key of the summary."""


def recalls(run: Run) -> Mapping[str, Any]:
    """The run's object of summary.json, and `<split>_recall_low` and `_high`, the 95 % Wilson interval in which a fact
    counts once, its probes being alike. The ends are missing where evaluation/items.jsonl does not tell them."""
    return {**run.row, **_ends(run)}


def _ends(run: Run) -> dict[str, float]:
    facts = _facts(run)
    found: dict[str, float] = {}
    for split in SPLITS:
        recall = run.row.get(f"{split}_recall")
        n = facts.get(split, 0)
        interval = None if recall is None else wilson(recall * n, n)
        if interval is not None:
            found |= {f"{split}_recall_low": interval[0], f"{split}_recall_high": interval[1]}
    return found


def _facts(run: Run) -> Mapping[str, int]:
    """Set of probes → number of facts in it, read when first asked for."""
    known = run.kept.get("facts")
    if known is None:
        seen: dict[str, set[str]] = {}
        path = run.path / "evaluation" / "items.jsonl"
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            item = json.loads(line)
            seen.setdefault(item["split"], set()).add(item["fact_id"])
        known = run.kept["facts"] = {split: len(facts) for split, facts in seen.items()}
    return known
