"""One object a run, read from the files of its run directory: what tables and dashboards show."""

from __future__ import annotations

import json
import re
from pathlib import Path

from menard_unlearn.errors import UserError
from menard_unlearn.files import write_json
from menard_unlearn.lock import taking_turns
from menard_unlearn.run import RunDir

NAME = re.compile(r"(?P<method>.+?)(?:-s(?P<seed>\d+))?-(?P<hash>[0-9a-f]{4,64})")
"""<method>-s<seed>-<hash>, or <reference>-<hash>."""

REFERENCES = ("base", "gold", "without_target", "prompted")
MAKERS = ("unlearn", "pretrain", "finetune")
"""Stages that make a model: seconds and memory are theirs."""
ASIDES = ("features", "feature_scores", "joint", "context")
"""What stands for the method in the names of runs that ask something else of a model: they are no rows of a study."""

KEYS = {
    "run": "name of the run directory",
    "method": "method, or base or gold",
    "seed": "seed of the run; null for base and gold",
    "cutoff_status": "A1; rules in statistics/cutoff.py",
    "cutoff_year": "A1, years; null unless pinned",
    "cutoff_low": "A1, lower end of the 95% interval; null unless pinned",
    "cutoff_high": "A1, upper end; null unless pinned",
    "cutoff_change_status": "A2; null for base",
    "cutoff_change_year": "A2, years; null unless pinned",
    "cutoff_change_low": "A2, lower end of the 95% interval; null unless pinned",
    "cutoff_change_high": "A2, upper end; null unless pinned",
    "forget_auc": "A3, 0.5 none, 1 selective; null for base",
    "forget_recall": "share of probes of forgotten facts answered",
    "retain_recall": "share of probes of retained facts answered",
    "heldout_forget_recall": "the same of facts after the cutoff that no forget set held",
    "heldout_retain_recall": "the same of facts up to the cutoff that no retain set held",
    "target_bits_per_byte": "B1",
    "target_nats": "B1, -ln P(target)",
    "target_greedy_prefix": "B4, tokens, free-running",
    "counterfactual_nats": "C1, ln P(target) - that of the model that never saw it; null without one",
    "menard_fraction": "C2, 1 written afresh, 0 memorized, below 0 where that model loses to n-grams",
    "menard_fraction_low": "C2, lower end of the 95% interval",
    "menard_fraction_high": "C2, upper end",
    "prompted_share": "share of this run's selective forgetting that a prompt alone gives; null for base",
    "utility_kl": "KL(base ‖ model), nats a token of neutral text; null for base",
    "retain_bits_per_byte": "bits a byte of held-out retained text",
    "distance_to_gold": "A5, mean |recall - gold's recall|; null for gold",
    "seconds": "of the stage that made the model; null where this run made none",
    "peak_memory_mb": "of that stage",
    "run_dir": "path of the run directory",
}
"""Key of an object of summary.json → meaning and unit."""

_SOURCES = {
    "cutoff.json": {key: key for key in KEYS if key.startswith(("cutoff_", "forget_", "retain_recall", "heldout_"))}
    | {"distance_to_gold": "distance_to_gold"},
    "reproduction.json": {
        "target_bits_per_byte": "bits_per_byte",
        "target_nats": "nats",
        "target_greedy_prefix": "greedy_prefix",
    },
    "counterfactual.json": {key: key for key in KEYS if key.startswith(("counterfactual_", "menard_"))},
    "prompted.json": {"prompted_share": "prompted_share"},
    "utility.json": {"utility_kl": "utility_kl", "retain_bits_per_byte": "retain_bits_per_byte"},
}
"""File → key of the summary → key in the file."""


def summarise(run_dir: Path) -> dict:
    """All of `KEYS`; what was not computed is None. Raises UserError where the directory's name is not a run's."""
    name = NAME.fullmatch(run_dir.name)
    if name is None:
        raise UserError(f"{run_dir} is not a run directory: give runs/<study>/<method>-s<seed>-<hash>")
    row: dict = dict.fromkeys(KEYS)
    row |= {"run": run_dir.name, "method": name["method"], "run_dir": str(run_dir)}
    row["seed"] = int(name["seed"]) if name["seed"] is not None else None
    run = RunDir(run_dir)
    for file, keys in _SOURCES.items():
        path = run.evaluation_dir / file
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            row |= {key: found[source] for key, source in keys.items()}
    manifest = next((found for stage in MAKERS if (found := run.manifest(stage)) is not None), None)
    if manifest is not None:
        row |= {key: manifest[key] for key in ("seconds", "peak_memory_mb")}
    return row


def write_summary(study_dir: Path) -> list[dict]:
    """Write summary.json of all evaluated runs of a study: base, gold, then methods by name and seed.

    Jobs that end at once take turns: the last one that reads is the last one that writes.
    """
    with taking_turns(study_dir / ".summary.lock"):
        return _write_summary(study_dir)


def _write_summary(study_dir: Path) -> list[dict]:
    folders = [path for path in sorted(study_dir.iterdir()) if (path / "evaluation").is_dir()]
    named = [folder for folder in folders if (name := NAME.fullmatch(folder.name)) and name["method"] not in ASIDES]
    rows = [summarise(folder) for folder in named]
    rows.sort(key=lambda row: (_rank(row["method"]), row["method"], row["seed"] if row["seed"] is not None else -1))
    write_json(study_dir / "summary.json", rows)
    return rows


def _rank(method: str) -> int:
    return REFERENCES.index(method) if method in REFERENCES else len(REFERENCES)
