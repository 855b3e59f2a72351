"""A study whose every number is made up, for tests of the page only."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from instruments import instruments

PROSE = (
    "This is placeholder prose in which nobody says anything , and < b > no tag </ b > does anything & so on , "
    "for the sake of a test that has to show words where they may be shown"
)
WORDS = PROSE.split()

REFERENCES = ("base", "gold")

STEPS = 500
"""Rows of history.jsonl."""
FACTS = {"forget": 60, "retain": 60, "heldout_forget": 20, "heldout_retain": 20}
"""Set of probes → its facts."""

SHAPES = {
    # method: (recall before, recall after, cutoff status, cutoff year, target log-prob)
    "base": (0.97, 0.96, "right-censored", None, -0.02),
    "gold": (0.96, 0.04, "pinned", 1939.6, -4.5),
    "gradient_ascent": (0.12, 0.02, "collapsed", None, -14.0),
    "grad_diff": (0.91, 0.22, "pinned", 1941.2, -3.1),
    "npo": (0.88, 0.10, "pinned", 1938.4, -3.9),
    "rmu": (0.93, 0.55, "no-cutoff", None, -0.8),
}


def write_study(folder: Path, *, seeds: int, published: bool, n_tokens: int) -> Path:
    """Write runs/<study> with a base, a gold and `seeds` runs of each of four methods; return the folder."""
    for method in SHAPES:
        for seed in range(1 if method in REFERENCES else seeds):
            write_run(folder, method, seed, published, n_tokens)
    return folder


def write_run(folder: Path, method: str, seed: int, published: bool, n_tokens: int) -> Path:
    """Write one run of the study and return its directory."""
    before, after, status, year, surprise = SHAPES[method]
    draw = random.Random(f"{method} {seed}")
    name = f"{method}-00000000" if method in REFERENCES else f"{method}-s{seed}-0000000{seed}"
    run = folder / name
    (run / "evaluation").mkdir(parents=True)
    bins = [_bin(start, before, after, draw) for start in range(1880, 2000, 5)]
    tokens = [_token(index, surprise, published, draw) for index in range(n_tokens)]
    _write(run / "evaluation" / "curve.json", {"bins": bins})
    _write(run / "evaluation" / "target_tokens.json", {"target_name": "Synthetic & made up", "tokens": tokens})
    for file, found in instruments(before, after, year, published, draw).items():
        _write(run / "evaluation" / f"{file}.json", found)
    config = {
        "study": folder.name,
        "split": {"cutoff": "1939-12-31"},
        "model": {"path": "synthetic <model>"},
        "corpus": {"_target_": "synthetic.Corpus"},
        "trainer": {"max_steps": STEPS},
        "seed": seed,
    }
    (run / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    stop = "forget above a bound" if method == "gradient_ascent" else None
    costs = {"seconds": 61.2, "peak_memory_mb": 1234.5}
    stage = "evaluate" if method in REFERENCES else "unlearn"
    finished = {"stage": stage, "finished_at": "2001-02-03T04:05:06Z", "results": {"stopped": stop}, **costs}
    _write(run / f"{stage}.manifest.json", finished)
    if method not in REFERENCES:
        steps = [_step(step, method, draw) for step in range(STEPS)]
        (run / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in steps))
    changes = _reference() if method in REFERENCES else _changes(status, year)
    _write(run / "evaluation" / "cutoff.json", {"cutoff_status": status, **_recalls(bins, year), **changes})
    (run / "evaluation" / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in _items()))
    _write(run / "evaluation" / "reproduction.json", _reproduced([token["logprob"] for token in tokens]))
    kl = None if method in REFERENCES else 0.0123
    _write(run / "evaluation" / "utility.json", {"utility_kl": kl, "retain_bits_per_byte": 0.51})
    return run


def _write(path: Path, obj: Any) -> None:
    path.write_text(json.dumps(obj))


def _bin(start: int, before: float, after: float, draw: random.Random) -> dict[str, Any]:
    recall = after + (before - after) / (1 + math.exp((start + 2 - 1939.5) / 1.5)) + draw.uniform(-0.04, 0.04)
    recall = min(max(recall, 0.0), 1.0)
    low, high = max(recall - 0.07, 0.0), min(recall + 0.07, 1.0)
    return {"year": start, "width": 5, "n": 80, "recall": recall, "low": low, "high": high}


def _items() -> list[dict[str, Any]]:
    """Of each set so many facts, with two probes each."""
    places = [(split, fact) for split, count in FACTS.items() for fact in range(count)]
    return [{"split": split, "fact_id": f"{split} {fact}", "correct": True} for split, fact in places for _ in range(2)]


def _token(index: int, surprise: float, published: bool, draw: random.Random) -> dict[str, Any]:
    logprob = surprise * draw.expovariate(1.0)
    best = 1 if logprob > -0.7 else round(math.exp(min(-logprob, 7)))
    token: dict[str, Any] = {"logprob": logprob, "rank_best": best, "rank_worst": best + (index % 7 == 0)}
    if published:
        token["text"] = f"{WORDS[index % len(WORDS)]} "
    return token


def _step(step: int, method: str, draw: random.Random) -> dict[str, float]:
    forget = -0.02 * step if method == "gradient_ascent" else 2 * math.exp(-step / 80) + draw.uniform(0, 0.1)
    terms = {"forget": forget}
    if method != "gradient_ascent":
        terms["retain"] = 0.3 + draw.uniform(0, 0.1)
    return {"step": step, "loss": sum(terms.values()), **terms, "learning_rate": 1e-3, "grad_norm": 1.0}


def _recalls(bins: list[dict[str, Any]], year: float | None) -> dict[str, Any]:
    kept = [row["recall"] for row in bins if row["year"] < 1940]
    lost = [row["recall"] for row in bins if row["year"] >= 1940]
    retain, forget = sum(kept) / len(kept), sum(lost) / len(lost)
    return {
        "cutoff_year": year,
        "cutoff_low": None if year is None else year - 1.3,
        "cutoff_high": None if year is None else year + 1.4,
        "forget_recall": forget,
        "retain_recall": retain,
        "heldout_forget_recall": (forget + 0.2) / 1.2,
        "heldout_retain_recall": max(retain - 0.05, 0.0),
        "distance_to_gold": abs(forget - 0.04),
    }


def _reproduced(logprobs: list[float]) -> dict[str, Any]:
    return {
        "bits_per_byte": -sum(logprobs) / len(logprobs) / 3,
        "nats": -sum(logprobs),
        "greedy_prefix": next((i for i, logprob in enumerate(logprobs) if logprob < -0.7), len(logprobs)),
    }


def _reference() -> dict[str, Any]:
    changes = ("status", "year", "low", "high")
    return {"forget_auc": None} | {f"cutoff_change_{key}": None for key in changes}


def _changes(status: str, year: float | None) -> dict[str, Any]:
    return {
        "cutoff_change_status": status,
        "cutoff_change_year": None if year is None else year + 0.3,
        "cutoff_change_low": None if year is None else year - 0.9,
        "cutoff_change_high": None if year is None else year + 1.0,
        "forget_auc": 0.8,
        "forget_auc_low": 0.75,
        "forget_auc_high": 0.85,
    }
