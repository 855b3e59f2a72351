"""A model that several processes hold in parts: FSDP2, of which a run's files show nothing.

`torch.distributed.fsdp.fully_shard` is called here and not by transformers or accelerate: theirs would gather what lies
outside the layers when the model's own forward pass begins, and methods leave that pass half-way, start it in the
middle, or ask the head alone. Here it belongs to the objective, whose one forward pass encloses whatever a method does;
a decoder layer gathers itself whenever it runs. accelerate's does not run on CPUs, besides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from menard_unlearn.errors import UserError
from menard_unlearn.methods.base import Method, Recipe
from menard_unlearn.methods.kinds import GradientTransform, Wrapper
from menard_unlearn.models.delta import part
from menard_unlearn.models.stump import decoder_layers
from menard_unlearn.training.objective import Objective

KEY = "trainer.sharding=fsdp2"


def refuse_unshardable(recipe: Recipe, wrapper: Wrapper | None) -> None:
    """Raise UserError for what needs whole tensors, before any work."""
    name = type(recipe).__name__
    if wrapper is not None:
        reason = f"wrapper={type(wrapper).__name__} differentiates more than once a step"
    elif not isinstance(recipe, Method):
        reason = f"{name} has several phases, or edits whole tensors"
    elif isinstance(recipe, GradientTransform):
        reason = f"{name} works on whole gradients"
    else:
        return
    raise UserError(f"{KEY} does not go with this method: {reason}; set trainer.sharding=none, or trainer.lora")


def shard(objective: Objective, trained: MutableMapping[str, nn.Parameter], device: torch.device) -> None:
    """Divide the model's tensors among all processes, in place; `trained` is given the parameters that there are now.

    Nothing else may hold the tensors that there were before, or their memory stays taken.
    """
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for layer in decoder_layers(objective.model):
        fully_shard(layer, mesh=mesh)
    fully_shard(objective, mesh=mesh)
    # What transformers' Trainer asks of a model that is not to be wrapped or moved
    objective.is_distributed_loading_by_transformers = True  # pyright: ignore[reportArgumentType]
    for name in trained:
        trained[name] = objective.model.get_parameter(name)


def is_sharded(objective: nn.Module) -> bool:
    """Whether `shard` was called on it."""
    return isinstance(objective, FSDPModule)


@contextmanager
def gathered(objective: nn.Module) -> Iterator[None]:
    """The model can be called by itself within the block, by all processes alike."""
    if not isinstance(objective, FSDPModule):
        yield
        return
    objective.unshard()
    try:
        yield
    finally:
        objective.reshard()


def whole_state(state: Mapping[str, Any], keep: bool) -> dict[str, Any]:
    """An optimizer's state as one process would have it, on the CPU; empty tensors where it is not to be kept."""

    def gather(value: Any) -> Any:
        if not isinstance(value, DTensor):
            return value
        full = value.full_tensor()
        return full.cpu() if keep else full.new_empty(0)

    entries = {number: {key: gather(value) for key, value in entry.items()} for number, entry in state["state"].items()}
    return {**state, "state": entries}


def divided_state(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Such a state as this process holds it."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def divide(value: Any, parameter: Tensor) -> Any:
        if isinstance(value, Tensor) and isinstance(parameter, DTensor) and value.shape == parameter.shape:
            return part(value, parameter)
        return value

    entries = {
        number: {key: divide(value, parameters[number]) for key, value in entry.items()}
        for number, entry in state["state"].items()
    }
    return {**state, "state": entries}
