"""A delta: the tensors that a run changed, or its adapters, and which base model they belong to.

Legend: E experts, O outputs, I inputs, R rank.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from menard_unlearn.errors import UserError

FORMAT = "menard-delta-1"
METADATA = "menard"
"""One key alone: the order of several in the file is not fixed, and equal deltas should be equal files."""


class Adapters(dict[str, Tensor]):
    """Low-rank changes W + (alpha/rank)·B·A of some matrices of the plain base model.

    Of a matrix `name`, `<name>.lora_A` is A_RI and `<name>.lora_B` is B_OR; of a stack of experts A_ERI and B_EOR.
    """

    def __init__(self, tensors: Mapping[str, Tensor], rank: int, alpha: float) -> None:
        super().__init__(tensors)
        self.rank = rank
        self.alpha = alpha

    @property
    def names(self) -> list[str]:
        """The matrices."""
        return [name.removesuffix(".lora_A") for name in self if name.endswith(".lora_A")]

    def change(self, name: str) -> Tensor:
        """What is added to a matrix, fp32."""
        return self.alpha / self.rank * (self[f"{name}.lora_B"].float() @ self[f"{name}.lora_A"].float())

    def description(self) -> dict[str, Any]:
        """As a file's metadata says it."""
        return {"rank": self.rank, "alpha": self.alpha, "names": self.names}


@dataclass(frozen=True, eq=False)
class Delta:
    """Read back with `load_delta`."""

    tensors: dict[str, Tensor]
    """Parameter name to its whole new value (not a difference), or `Adapters`; on the CPU, in the dtype stored."""
    identity: str
    """Identity of the base model, as given to `save_delta`."""


def save_delta(path: Path | str, tensors: Mapping[str, Tensor], identity: str, dtype: torch.dtype) -> None:
    """Write the tensors in `dtype` to a safetensors file, aside first and then renamed: the file is whole or not there.

    Of adapters the file says so: their rank, alpha and matrices are in its metadata.

    Raises OSError or SafetensorError where the disk refuses; what was at `path` before is then untouched.
    """
    path = Path(path)
    about = [FORMAT, identity, *([tensors.description()] if isinstance(tensors, Adapters) else [])]
    # Clones, because safetensors refuses tensors that share memory (tied weights), and a view would be written whole.
    stored = {name: tensor.detach().to("cpu", dtype, copy=True).contiguous() for name, tensor in tensors.items()}
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(stored, aside, metadata={METADATA: json.dumps(about)})
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def load_delta(path: Path | str) -> Delta:
    """Read a delta. Raises UserError where there is no such file, or another kind of file."""
    if not Path(path).is_file():
        raise UserError(f"no delta at {path}: give the run directory of a finished run")
    try:
        with safe_open(path, framework="pt") as file:
            found, identity, *lora = json.loads((file.metadata() or {}).get(METADATA, "[null, null]"))
            if found != FORMAT:
                raise UserError(f"{path} holds no delta but format {found!r}: give a run's delta.safetensors")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return Delta(Adapters(tensors, lora[0]["rank"], lora[0]["alpha"]) if lora else tensors, identity)
    except SafetensorError as error:
        raise UserError(f"{path} cannot be read as safetensors ({error}): delete it and run the stage again") from error


def changed(model: nn.Module, delta: Delta) -> dict[str, nn.Parameter]:
    """The model's parameters that the delta changes. Raises UserError as `named`."""
    return named(model, delta.tensors)


def named(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """The model's parameters of these names, or those that these adapters are for.

    Raises UserError where a name is missing or a shape differs.
    """
    parameters = dict(model.named_parameters())
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if isinstance(tensors, Adapters):
        shapes = {n: (*tensors[f"{n}.lora_B"].shape[:-1], tensors[f"{n}.lora_A"].shape[-1]) for n in tensors.names}
    for name, shape in shapes.items():
        if name not in parameters:
            raise UserError(
                f"the delta has {name!r}, which {type(model).__name__} has not: it belongs to another model"
            )
        if parameters[name].shape != shape:
            raise UserError(
                f"{name!r} is {shape} in the delta and {tuple(parameters[name].shape)} in the model: "
                "it belongs to another model"
            )
    return {name: parameters[name] for name in shapes}


def apply_delta(model: nn.Module, delta: Mapping[str, Tensor] | Delta) -> None:
    """Copy the tensors into the model, in place, in the model's own dtype and on its device.

    Adapters are added to what is there, so the model is to be their base, and they are applied once.
    """
    tensors = delta.tensors if isinstance(delta, Delta) else delta
    with torch.no_grad():
        for name, parameter in named(model, tensors).items():
            if isinstance(tensors, Adapters):
                parameter.copy_(parameter.float() + tensors.change(name).to(parameter.device))
            elif isinstance(parameter, DTensor):
                parameter.copy_(part(tensors[name], parameter))
            else:
                parameter.copy_(tensors[name])


def whole(value: Tensor) -> Tensor:
    """The tensor itself, or what all processes hold of it put together; a sharded one must be asked for by all."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def part(value: Tensor, like: DTensor) -> DTensor:
    """A whole tensor, which every process has, divided as another one is."""
    on_device = value.to(like.device, like.dtype)
    return distribute_tensor(on_device, like.device_mesh, like.placements, src_data_rank=None)


@contextmanager
def swapped(model: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[nn.Module]:
    """The model with these tensors in place of its own, which come back when the block is left, even by an exception.

    Storage is exchanged, not copied: the parameters keep their version counters, so a graph that was recorded before
    the block can still be differentiated after it. Compute inside under no_grad.
    """
    parameters = named(model, tensors)
    own = {name: parameter.data for name, parameter in parameters.items()}
    try:
        for name, parameter in parameters.items():
            parameter.data = tensors[name].to(parameter.device, parameter.dtype)
        yield model
    finally:
        for name, parameter in parameters.items():
            parameter.data = own[name]
