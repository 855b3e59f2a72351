"""A model in another precision for a while, without a second copy of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from menard_unlearn.models.stump import decoder_layers

HALF = (torch.bfloat16, torch.float16)


@contextmanager
def in_other_precision(model: PreTrainedModel) -> Iterator[torch.dtype | None]:
    """The precision that the model computes in meanwhile, or None where there is no other to be had.

    A model in bf16 or fp16 computes in fp32: each layer's weights are made fp32 as it is entered and are what they were
    as it is left, so that memory grows by one layer (or embedding, or head) in fp32. A model in fp32 computes under
    autocast in bf16, which casts a weight at each use. A model in float64 has none. Layers cast as they are used:
    arXiv 2506.09501.
    """
    weight = next(parameter for parameter in model.parameters() if parameter.is_floating_point())
    if weight.dtype in HALF:
        with _in_single(model):
            yield torch.float32
    elif weight.dtype == torch.float32:
        # without its cache, which would hold a half of the model beside it
        with torch.autocast(weight.device.type, torch.bfloat16, cache_enabled=False):
            yield torch.bfloat16
    else:
        yield None


@contextmanager
def _in_single(model: nn.Module) -> Iterator[None]:
    layers = list(decoder_layers(model))
    inside = {id(module) for layer in layers for module in layer.modules()}
    outside = [module for module in model.modules() if id(module) not in inside]
    # A layer as a whole: its parts may use each other's weights without calling each other.
    owners: list[tuple[nn.Module, bool]] = [(layer, True) for layer in layers]
    owners += [(module, False) for module in outside]
    handles = []
    for module, whole in owners:
        enter, leave = _casts(module, whole)
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _casts(module: nn.Module, whole: bool) -> tuple[Callable[..., None], Callable[..., None]]:
    """What makes a module's weights fp32 before it runs, and what puts the very same ones back."""
    originals: list[tuple[Tensor, Tensor]] = []

    def enter(*_: Any) -> None:
        for held in (*module.parameters(recurse=whole), *module.buffers(recurse=whole)):
            if held.dtype in HALF:
                originals.append((held, held.data))
                held.data = held.data.float()

    def leave(*_: Any) -> None:
        while originals:
            held, value = originals.pop()
            held.data = value

    return enter, leave
