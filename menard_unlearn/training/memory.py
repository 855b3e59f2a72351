"""How much memory a training will need, estimated from the model's configuration before anything large is loaded."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import PretrainedConfig

from menard_unlearn.errors import UserError
from menard_unlearn.models.architecture import auto_class
from menard_unlearn.models.partial import stump_class
from menard_unlearn.models.predictions import LOGITS_AT_ONCE
from menard_unlearn.models.stump import decoder_layers, text_config
from menard_unlearn.training.config import TrainerConfig
from menard_unlearn.training.lora import targets
from menard_unlearn.training.patterns import leave_out, select

GB = 1e9
PARTS = ("weights", "originals", "gradients", "optimizer", "activations", "gathered")
FLOATS_A_LAYER = 20
"""Activations kept for the backward pass, in widths a token and layer: attention about 8, a gated MLP about 12."""
LOGIT_COPIES = 3
"""fp32 copies of a chunk of logits: themselves, their log-softmax, their gradient."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes, by what they hold."""

    weights: int
    """All tensors in the dtype loaded, the trained ones in fp32."""
    originals: int
    """The trained tensors' first values, kept for reference."""
    gradients: int
    """fp32, of the trained tensors."""
    optimizer: int
    """AdamW's two fp32 states of the trained tensors."""
    activations: int
    """A rough upper figure, for forget and retain side together."""
    n_trained: int
    """Number of trained parameters."""
    gathered: int
    """Of a sharded model: what is put together for a while, two layers and all that lies outside of them."""
    loading: int
    """Of a sharded model: all of its weights, before it is divided and the rest of this exists."""

    @property
    def total(self) -> int:
        """Their sum, or what loading takes where that is more."""
        return max(self.loading, sum(getattr(self, part) for part in PARTS))

    def __str__(self) -> str:
        found = {part: getattr(self, part) for part in (*PARTS, "loading")}
        return ", ".join(f"{part} {size / GB:.2f}" for part, size in found.items() if size or part in PARTS[:5])


def estimate(
    model_config: PretrainedConfig,
    config: TrainerConfig,
    *,
    dtype: torch.dtype,
    length: int,
    n_processes: int,
    last_layer: int | None = None,
) -> MemoryEstimate:
    """Estimate one process's need for items of at most `length` tokens. No weight is allocated.

    `n_processes`: all that train together; with trainer.sharding each has its part of weights, gradients and states.
    With `last_layer` that of a stump, which ends there. Raises UserError for a trained pattern without a match.
    """
    model = _skeleton(model_config, last_layer)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    n_trained, n_added = _trained(model, config)
    text = text_config(model)
    tokens = 2 * length * math.ceil(config.batch_size / (config.accumulation * n_processes))
    sharded = config.sharding == "fsdp2" and n_processes > 1
    widened = n_trained - n_added
    # Products are in half precision as long as something frozen is
    computed = 4 if widened == sum(sizes.values()) else dtype.itemsize
    layers = tokens * text.num_hidden_layers * text.hidden_size * FLOATS_A_LAYER * computed
    logits = 0 if last_layer is not None else min(tokens * text.vocab_size, LOGITS_AT_ONCE)
    weights = sum(sizes.values()) * dtype.itemsize + widened * (4 - dtype.itemsize) + 4 * n_added
    parts = n_processes if sharded else 1
    return MemoryEstimate(
        weights=-(-weights // parts),
        originals=0 if sharded else 4 * n_trained,
        gradients=-(-4 * n_trained // parts),
        optimizer=-(-8 * n_trained // parts) if config.optimizer == "adamw" else 0,
        activations=layers + logits * 4 * LOGIT_COPIES,
        n_trained=n_trained,
        gathered=_gathered(model, config, dtype) if sharded else 0,
        loading=weights if sharded else 0,
    )


def _gathered(model: nn.Module, config: TrainerConfig, dtype: torch.dtype) -> int:
    """Weights and whole gradients of what lies outside the layers and of two layers; and the first values of what lies
    outside, the head's among them. Adapters are too small to count."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    trained = () if config.lora else leave_out(select(sizes, config.trained), config.frozen, "trainer.trained")
    costs = {name: 8 * size if name in set(trained) else size * dtype.itemsize for name, size in sizes.items()}
    inside = [
        f"{name}." for name, module in model.named_modules() if any(module is one for one in decoder_layers(model))
    ]
    layers = sorted(sum(costs[name] for name in costs if name.startswith(layer)) for layer in inside)
    outside = [name for name in costs if not name.startswith(tuple(inside))]
    first = sum(4 * sizes[name] for name in outside if name in set(trained))
    return sum(layers[-2:]) + sum(costs[name] for name in outside) + first


def _skeleton(model_config: PretrainedConfig, last_layer: int | None) -> nn.Module:
    """The model without its numbers."""
    with torch.device("meta"):
        if last_layer is not None:
            return stump_class(model_config, last_layer)(copy.deepcopy(model_config))
        return auto_class(model_config).from_config(model_config)


def _trained(model: nn.Module, config: TrainerConfig) -> tuple[int, int]:
    """Numbers that are trained, and how many of them adapters add to the model."""
    if config.lora is None:
        sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
        chosen = leave_out(select(sizes, config.trained), config.frozen, "trainer.trained")
        return sum(sizes[name] for name in chosen), 0
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    matrices = [shapes[name] for name in targets(model, config.lora, config.frozen)]
    added = sum(config.lora.rank * math.prod(shape[:-2]) * (shape[-2] + shape[-1]) for shape in matrices)
    return added, added


def processes_of(config: TrainerConfig) -> int:
    """That train together on this machine."""
    return config.processes or max(1, torch.cuda.device_count())


def available_bytes() -> int:
    """What this process may still take: of its GPU, or else of the machine within its control group's limit."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    lines = Path("/proc/meminfo").read_text().splitlines()
    machine = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return min(machine, cgroup_bytes())


def cgroup_bytes() -> int:
    """What containers and Slurm leave to this process; more than any machine has where there is no limit."""
    limit, used = (Path(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if not limit.is_file() or limit.read_text().strip() == "max":
        return 1 << 62
    return int(limit.read_text()) - int(used.read_text())


def refuse_too_large(needed: MemoryEstimate, config: TrainerConfig) -> None:
    """Raise UserError with the numbers where the estimate exceeds trainer.max_memory_gb, or else what is available.

    Processes have a GPU each, or share the machine's memory.
    """
    sharing = 1 if torch.cuda.is_available() else processes_of(config)
    limit = available_bytes() / sharing if config.max_memory_gb is None else config.max_memory_gb * GB
    if needed.total > limit:
        source = "available" if config.max_memory_gb is None else "allowed by trainer.max_memory_gb"
        raise UserError(
            f"training would need about {needed.total / GB:.2f} GB ({needed}), {limit / GB:.2f} GB are {source}: "
            "train fewer tensors (trainer.trained) or adapters (trainer.lora), raise trainer.accumulation, divide the "
            "model among GPUs (trainer.processes, trainer.sharding=fsdp2), or allow more (trainer.max_memory_gb)"
        )
