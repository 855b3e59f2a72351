"""One process of several; the environment says which. `one_of_two.py <folder>`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from tiny_training import METHODS, tiny_train

CHANGES = {
    "accumulation": 2,
    "batch_size": 8,
    "max_steps": 3,
    "stop": None,
    "learning_rate": 1e-4,
    "checkpoint_every": 2,
}


def train_all(folder: Path) -> None:
    for name in METHODS:
        tiny_train(folder / name, name, **CHANGES)


if __name__ == "__main__":
    train_all(Path(sys.argv[1]))
