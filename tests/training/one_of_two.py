"""One process of several, which torchrun starts: `python -m one_of_two <folder>`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from part import CHANGES as DISTURBED
from part import disturbed
from tiny_training import METHODS, elsewhere, items, moved, others, tiny_train, wrapper
from torch import Tensor, nn

from menard_unlearn.corpus.batches import TokenBatch
from menard_unlearn.corpus.encoding import Encoder
from menard_unlearn.methods.base import Frozen
from menard_unlearn.methods.npo import NPO
from menard_unlearn.run import RunDir
from menard_unlearn.training.cache import CacheConfig, caching
from menard_unlearn.training.frozen import MakeFrozen
from menard_unlearn.training.loop import TrainResult
from menard_unlearn.training.lora import LoraConfig
from menard_unlearn.training.preemption import Preemption
from menard_unlearn.training.rank import TakeRow, take_part

CHANGES: dict[str, Any] = {
    "accumulation": 2,
    "batch_size": 8,
    "max_steps": 2,
    "stop": None,
    "learning_rate": 1e-4,
    "checkpoint_every": 2,
}
WRAPPERS = [f"{method}+{kind}" for method, kind in (("grad_diff", "sam"), ("rmu", "sam"), ("npo", "lat"))]
RUNS = [*METHODS, *WRAPPERS]

LORA = {
    "_target_": f"{LoraConfig.__module__}.LoraConfig",
    "rank": 2,
    "alpha": 4.0,
    "targets": [r"\.down_proj\.weight$"],
}
ALL = {"trained": [".*"], "optimizer": "sgd", "learning_rate": 1e-2}
"""Plain steps: seen against the base, which the model still is at first, the gradient of a divergence is rounding."""
SHARED: dict[str, tuple[str | NPO, dict[str, Any]]] = {
    "rmu": ("rmu", {}),
    "grad_diff": ("grad_diff", {}),
    "npo": ("npo", {}),
    "all tensors": (NPO(0.1, 1.0, "kl"), ALL),
    "adapters": ("grad_diff", {"lora": LORA}),
}
"""Trained by one process and by two, sharded or not; what they ask of the base is kept."""
KINDS = {"two": "none", "sharded": "fsdp2"}
BY_TWO = [("two", "all tensors"), ("two", "adapters"), *(("sharded", name) for name in SHARED)]
BEGUN_BY_ONE, BEGUN_BY_TWO = "begun by one", "begun by two"


def train_all(folder: Path) -> None:
    for name in RUNS:
        method, _, kind = name.partition("+")
        given = wrapper(kind, last_layer=1) if kind else None
        tiny_train(folder / name, method, hooks={"make_frozen": elsewhere, "wrapper": given}, **CHANGES)


def train_shared(folder: Path, name: str, sharding: str, until: int | None = None) -> None:
    """`until`: leave after so many steps, as one that was told to."""
    method, changes = SHARED[name]
    forget = items(11, "forget")
    sides = {"forget": forget, "retain": items(7, "retain"), "alternate": others(forget)}
    config, told = CacheConfig(str(folder.parent / "cache"), 1.0, None), Preemption()
    hooks = {
        "make_frozen": kept(caching(config, "tiny", "float32", sides), name),
        "preemption": told,
        "on_log": lambda row: told.note(15) if row["step"] == until else None,
    }
    with suppress(SystemExit):
        tiny_train(folder / name, method, hooks=hooks, sharding=sharding, **(CHANGES | {"max_steps": 3} | changes))


def kept(make_frozen: MakeFrozen, name: str) -> MakeFrozen:
    """Of the base, or for RMU of one a little elsewhere."""

    def make(model: nn.Module, originals: Mapping[str, Tensor], sample: TokenBatch, encoder: Encoder) -> Frozen:
        return make_frozen(model, moved(originals) if name == "rmu" else originals, sample, encoder)

    return make


def work(folder: Path) -> None:
    """What two processes do: begin anew, go on with what one has begun, and begin what one is to end."""
    train_all(folder / "plain two")
    for kind, name in BY_TWO:
        train_shared(folder / kind, name, KINDS[kind])
    train_shared(folder / BEGUN_BY_ONE, "all tensors", "fsdp2")
    train_shared(folder / BEGUN_BY_TWO, "all tensors", "fsdp2", until=1)


def everything(folder: Path, preemption: Preemption, on_log: TakeRow) -> tuple[TrainResult, str]:
    """And the end of a training that was disturbed, beside the same one undisturbed."""
    work(folder)
    tiny_train(folder / "undisturbed", "npo", hooks={}, **DISTURBED)
    return disturbed(folder / "disturbed", {}, preemption, on_log)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    take_part(RunDir(folder / "disturbed"), lambda preemption, on_log: everything(folder, preemption, on_log))
