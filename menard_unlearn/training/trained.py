"""Which tensors a run trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from menard_unlearn.models.delta import whole
from menard_unlearn.training.lora import LoraConfig, inject
from menard_unlearn.training.patterns import leave_out, select

KEY = "trainer.trained"


def prepare(
    model: nn.Module,
    patterns: Sequence[str],
    frozen: Sequence[str] = (),
    lora: LoraConfig | None = None,
    seed: int = 0,
) -> dict[str, nn.Parameter]:
    """Freeze all but what is to be trained, make that fp32 in place, and return it by name.

    It is what a pattern matches and no frozen one does; tied tensors count once, by their first name. With `lora` it is
    adapters, put in here and drawn from `seed`: the patterns are then not consulted. Raises UserError for a pattern
    that matches nothing.
    """
    if lora is not None:
        return inject(model, lora, frozen, seed)
    parameters = dict(model.named_parameters())
    chosen = leave_out(select(parameters, patterns, KEY), frozen, KEY)
    model.requires_grad_(False)
    for name in chosen:
        parameters[name].data = parameters[name].data.float()
        parameters[name].requires_grad_(True)
    return {name: parameters[name] for name in chosen}


def copies(trained: Mapping[str, nn.Parameter], keep: bool = True) -> dict[str, Tensor]:
    """Their present values, on the CPU, detached from what happens to them later.

    Of a sharded model all processes have to ask; those that do not keep them get nothing.
    """
    found: dict[str, Tensor] = {}
    for name, parameter in trained.items():
        value = whole(parameter.detach())
        if keep:
            found[name] = value.to("cpu", copy=True)
    return found


def mixed_precision(model: nn.Module, device_type: str) -> torch.autocast:
    """Where frozen tensors are in half precision and trained ones are not, their products are in half precision.

    The cache of casts is off: it knows a parameter by identity, and would hand the base model's forward pass, which
    exchanges the parameters' storage, the casts of the trained values.
    """
    half = next((p.dtype for p in model.parameters() if p.dtype in (torch.bfloat16, torch.float16)), None)
    return torch.autocast(device_type, dtype=half or torch.bfloat16, enabled=half is not None, cache_enabled=False)
