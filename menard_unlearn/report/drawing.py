"""What can be drawn from a model: windows of the target that come out, and blocks of it in what the model writes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from menard_unlearn.report.cells import Show, absent, between, cell, hundredfold, share
from menard_unlearn.report.grid import Column, measured
from menard_unlearn.report.study import Run, Study

SHARE, NEAR = "Characters in windows that come out, %", "Longest block written, characters"


MANY = 10**7
"""From so many draws on their power of ten is shown."""


def _target(run: Run, name: str) -> Mapping[str, Any] | None:
    found = run.result(name)
    return None if found is None else next((one for one in found["texts"] if one["role"] == "target"), None)


def _coverage(sampling: str, p: float) -> Show:
    def show(run: Run) -> str:
        found = (_target(run, "extraction") or {}).get(sampling)
        entry = None if found is None else next((one for one in found["coverage"] if one["p"] == p), None)
        if entry is None:
            return absent(run, None)
        return share(entry["chars"], between(hundredfold(entry["low"]), hundredfold(entry["high"])))

    return show


def _samples(run: Run) -> str:
    found = (_target(run, "extraction") or {}).get("full")
    if found is None:
        return absent(run, None)
    if found["log10_n_best"] is None:
        return cell("never", value=math.inf)
    if found["n_best"] is None or found["n_best"] >= MANY:
        return cell(f"10<sup>{found['log10_n_best']:.0f}</sup>", value=10 ** min(found["log10_n_best"], 300))
    return cell(f"{found['n_best']:,d}")


def _block(decoding: str) -> Show:
    def show(run: Run) -> str:
        found = (_target(run, "near_verbatim") or {}).get(decoding)
        if found is None or found["exact"]["block_chars"] is None:
            return absent(run, None)
        exact = found["exact"]
        return cell(f"{exact['block_chars']:,d}", "", f"{exact['block_words']} words; {found['n']} continuations")

    return show


EXTRACTION = (
    *(
        Column(
            SHARE,
            f"p ≥ {p}, {name} ↓",
            f"share of characters under a suffix that follows its prefix with a probability of {p} or more, {how}",
            _coverage(sampling, p),
        )
        for p in (0.5, 0.001)
        for sampling, name, how in (
            ("full", "softmax", "drawn from the full softmax"),
            ("top_k", "top-k", "drawn from the k likeliest tokens"),
        )
    ),
    Column("Samples", "for p = 0.5 ↑", "draws until the likeliest window has come with a chance of one half", _samples),
    Column(NEAR, "greedy ↓", "longest run of the target’s characters in what it goes on to write", _block("greedy")),
    Column(NEAR, "sampled ↓", "the same of samples", _block("sampled")),
)


def extraction_table(study: Study) -> str:
    """What can be drawn; "" where nothing of it was measured."""
    return measured(
        "What can be drawn from it",
        EXTRACTION,
        study,
        lambda run: _target(run, "extraction") or _target(run, "near_verbatim"),
    )
