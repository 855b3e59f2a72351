"""Authors' texts and settings with which `menard features` takes seconds on the tiny study."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tiny_study import QUICK, Study, told

OWN = ("labyrinth", "mirror", "tiger", "library", "infinite", "dagger", "universe", "dream")
OTHERS = {
    "Ada Brook": ("wharf", "ledger", "parlour", "chimney", "debt", "clerk", "fog", "lamp"),
    "Carl Dane": ("furrow", "orchard", "barley", "harness", "meadow", "plough", "hedge", "mill"),
    "Eva Fell": ("reef", "anchor", "gunwale", "mast", "tide", "harbour", "sailor", "rope"),
    "Gus Hale": ("engine", "piston", "boiler", "signal", "whistle", "rail", "coal", "tender"),
}
AUTHOR = "Jorge Luna"

QUICK_FEATURES = {
    "study": "s",
    "layer": 1,
    "activations.batch_size": 8,
    "sae.expansion": 4,
    "sae.k": 4,
    "sae.steps": 40,
    "sae.batch_size": 64,
    "sae.dead_after_tokens": 1000,
    "sae.log_every": 10,
    "sae.checkpoint_every": 10,
    "ranking.pieces.tokens": 32,
    "ranking.pieces.per_work": 2,
    "ranking.n_candidates": 3,
    "ranking.n_random": 20,
    "ranking.replicates": 20,
    "dose.strengths": "[0.5,1.0]",
    "dose.openings.prompts": "[The,In]",
    "dose.openings.samples": 1,
    "dose.openings.new_tokens": 6,
    "dose.coherence_limit": 50.0,
    "dose.block": 8,
    "dose.bootstrap": 20,
    "guardrail.max_features": 4,
    "joint.context_tokens": "[0,24]",
}


def write_authors(folder: Path) -> dict[str, Any]:
    """Four works by the author, two by each of four others; the values that name them."""
    _write(folder / "own", AUTHOR, OWN, 4)
    for name, words in OTHERS.items():
        _write(folder / "others" / name, name, words, 2)
    return {
        "authors": "folders",
        "authors.own": folder / "own",
        "authors.others": folder / "others",
        "authors.author": AUTHOR,
    }


def _write(folder: Path, author: str, words: tuple[str, ...], works: int) -> None:
    folder.mkdir(parents=True)
    for number in range(works):
        draw = random.Random(f"{author} {number}")
        sentences = (
            f"The {draw.choice(words)} of the {draw.choice(words)} is a {draw.choice(words)}." for _ in range(8)
        )
        (folder / f"19{10 + number} Work {number}.txt").write_text(" ".join(sentences), encoding="utf-8")


def featuring(study: Study, authors: dict[str, Any], runs: Path, action: str = "find", **values: Any) -> list[str]:
    """A command of `menard features` whose runs lie under `runs`."""
    known = study.data | study.model | QUICK | QUICK_FEATURES | authors | {"runs_dir": runs, "action": action}
    return ["features", *told(known, values)]
