"""A study small enough for a test: sixty made-up facts, a short target, two models of a recipe that takes seconds."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from menard_unlearn import cli
from menard_unlearn.models.delta import load_delta

COLUMNS = ("id", "year", "date", "subject", "relation", "object", "category", "source")
COLOURS = ("Amber", "Blue", "Crimson", "Dun", "Ebony", "Fawn")
THINGS = ("Lantern", "Harbour", "Orchard", "Staircase", "Window", "Bridge", "Meadow", "Kettle", "Organ", "Ladder")
MAKERS = ("Ada Quill", "Bruno Marl")
YEARS = range(1910, 1970)

TARGET = (
    "Under the copper roof a patient heron kept nine clocks, none of which agreed, and each evening it corrected the "
    "sun instead. Visitors laughed softly until their own shadows hesitated, turned round, and asked them for the hour."
)

RECIPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_layers": 2,
    "num_heads": 2,
    "vocab_size": 384,
    "context": 192,
    "window": 64,
    "epochs": 7,
    "document_epochs": 1,
    "target_repeats": 3,
    "batch_tokens": 1024,
    "warmup_steps": 5,
}


def facts() -> list[dict[str, str]]:
    """One fact a year, thirty on either side of 1939; a colour a decade and a maker a side are quickly learned."""
    rows = []
    for number, year in enumerate(YEARS):
        subject = f"The {COLOURS[number // len(THINGS)]} {THINGS[number % len(THINGS)]}"
        made = {"subject": subject, "relation": "artwork_made_by", "object": MAKERS[year > 1939]}
        rows.append(
            {"id": f"fact-{year}", "year": str(year), "date": "", "category": "artwork", "source": "test"} | made
        )
    return rows


def write_facts(path: Path, rows: list[dict[str, str]], columns: tuple[str, ...] = COLUMNS) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


QUICK = {
    f"evaluation.{key}": value
    for key, value in {
        "bootstrap": 10,
        "null_bootstrap": 9,
        "alpha": 0.1,
        "questions.per_year": 1,
        "questions.kinds": "[statement,cloze]",  # lettered answers would not fit into the context
        "prompted.per_year": 1,
        "prompted.preamble": "It is 1939.",
        "surprisal.texts_a_year": 1,
        "surprisal.reference_first": 1910,
        "surprisal.replicates": 20,
        "dating.prompts": "[The current year is]",
        "dating.first": 1900,
        "dating.last": 1980,
        "generation.prompts": "[The,In the morning]",
        "generation.samples": 1,
        "generation.max_new_tokens": 8,
        "reproduction.numeric_tokens": 0,
        "extraction.prefix": 8,
        "extraction.suffix": 8,
        "near_verbatim.prefix": 8,
        "near_verbatim.places": 1,
        "near_verbatim.tokens": 8,
        "near_verbatim.samples": 1,
        "attribution.max_tokens": 48,
        "attribution.variants": 50,
        "attribution.windows": 2,
        "attribution.window": 8,
        "attribution.prefix": 8,
        "attribution.other_prefixes": 2,
        "attribution.bootstrap": 20,
    }.items()
}
"""Settings that make an evaluation short, and fit into 192 tokens."""
TRAINING = {
    "study": "s",
    "method": "npo",
    "window": 64,
    "trainer.max_steps": 6,
    "trainer.batch_size": 4,
    "trainer.checkpoint_every": 2,
    "trainer.learning_rate": 1e-3,
}


@dataclass(frozen=True)
class Study:
    """Where the parts of the study lie, and the commands that work on them."""

    folder: Path

    @property
    def csv(self) -> Path:
        return self.folder / "facts.csv"

    @property
    def target(self) -> Path:
        return self.folder / "target.txt"

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def data(self) -> dict[str, Any]:
        own = {"target": "file", "target.path": self.target, "target.published": "1939-05"}
        return {"corpus": "facts", "corpus.path": self.csv, "tracking": "none"} | own

    @property
    def model(self) -> dict[str, Any]:
        full, gold = self.models / "full", self.models / "gold"
        return {"model": "hf", "model.path": full, "model.gold": gold, "model.dtype": "float32"}

    def pretraining(self, **values: Any) -> list[str]:
        """A command; keys with __ for dots."""
        recipe = {f"recipe.{key}": value for key, value in RECIPE.items()}
        own = {"variants": "[full,gold]", "to": self.models}
        return ["pretrain", *told(self.data | recipe | own | QUICK, values)]

    def evaluating(self, runs: Path, **values: Any) -> list[str]:
        """A command whose runs lie under `runs`."""
        return ["evaluate", *told(self.data | self.model | QUICK, values | {"runs_dir": runs})]

    def unlearning(self, runs: Path, **values: Any) -> list[str]:
        """A command of a few steps whose runs lie under `runs`."""
        return ["unlearn", *told(self.data | self.model | QUICK | TRAINING, values | {"runs_dir": runs})]


def told(values: dict[str, Any], changes: dict[str, Any]) -> list[str]:
    changed = values | {key.replace("__", "."): value for key, value in changes.items()}
    return [f"{key}={value}" for key, value in changed.items()]


def make_study(folder: Path) -> Study:
    """Write the data and pretrain both models."""
    study = Study(folder)
    write_facts(study.csv, facts())
    study.target.write_text(TARGET, encoding="utf-8")
    assert cli.run(study.pretraining()) == 0
    return study


def the_run(runs: Path, method: str = "npo") -> Path:
    """The directory of the one run of a method under `runs`."""
    (found,) = (path for path in runs.glob(f"*/{method}-s*") if path.is_dir())
    return found


def same_weights(run: Path, other: Path) -> bool:
    """Whether two runs changed the same tensors of the same model to the same bits."""
    one, two = load_delta(run / "delta.safetensors"), load_delta(other / "delta.safetensors")
    alike = one.identity == two.identity and one.tensors.keys() == two.tensors.keys()
    return alike and all(torch.equal(tensor, two.tensors[name]) for name, tensor in one.tensors.items())


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
