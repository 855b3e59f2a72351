"""A delta: the tensors that a run changed, and which base model they belong to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from menard_unlearn.errors import UserError

FORMAT = "menard-delta-1"
METADATA = "menard"
"""One key alone: the order of several in the file is not fixed, and equal deltas should be equal files."""


@dataclass(frozen=True, eq=False)
class Delta:
    """Read back with `load_delta`."""

    tensors: dict[str, Tensor]
    """Parameter name to its whole new value (not a difference), on the CPU, in the dtype it was stored in."""
    identity: str
    """Identity of the base model, as given to `save_delta`."""


def save_delta(path: Path | str, tensors: Mapping[str, Tensor], identity: str, dtype: torch.dtype) -> None:
    """Write the tensors in `dtype` to a safetensors file, aside first and then renamed: the file is whole or not there.

    Raises OSError or SafetensorError where the disk refuses; what was at `path` before is then untouched.
    """
    path = Path(path)
    # Clones, because safetensors refuses tensors that share memory (tied weights), and a view would be written whole.
    stored = {name: tensor.detach().to("cpu", dtype, copy=True).contiguous() for name, tensor in tensors.items()}
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(stored, aside, metadata={METADATA: json.dumps([FORMAT, identity])})
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
            found, identity = json.loads((file.metadata() or {}).get(METADATA, "[null, null]"))
            if found != FORMAT:
                raise UserError(f"{path} holds no delta but format {found!r}: give a run's delta.safetensors")
            return Delta({name: file.get_tensor(name) for name in file.keys()}, identity)  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{path} cannot be read as safetensors ({error}): delete it and run the stage again") from error


def named(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """The model's parameters of these names. Raises UserError where a name is missing or a shape differs."""
    parameters = dict(model.named_parameters())
    for name, tensor in tensors.items():
        if name not in parameters:
            raise UserError(
                f"the delta has {name!r}, which {type(model).__name__} has not: it belongs to another model"
            )
        if parameters[name].shape != tensor.shape:
            raise UserError(
                f"{name!r} is {tuple(tensor.shape)} in the delta and {tuple(parameters[name].shape)} in the model: "
                "it belongs to another model"
            )
    return {name: parameters[name] for name in tensors}


def apply_delta(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy the tensors into the model, in place, in the model's own dtype and on its device."""
    with torch.no_grad():
        for name, parameter in named(model, tensors).items():
            parameter.copy_(tensors[name])


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
