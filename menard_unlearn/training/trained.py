"""Which tensors a run trains."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from menard_unlearn.errors import UserError


def select(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """The names in which some pattern is found, in the model's order; UserError for a pattern that finds nothing."""
    names = list(names)
    if not patterns:
        raise UserError(
            "trainer.trained is empty, nothing would be trained: give patterns, for all tensors trainer.trained=['.*']"
        )
    for pattern in patterns:
        if not any(re.search(pattern, name) for name in names):
            raise UserError(
                f"trained pattern {pattern!r} matches none of the model's {len(names)} tensors; near ones: "
                f"{', '.join(nearest(pattern, names))}: set trainer.trained"
            )
    return [name for name in names if any(re.search(pattern, name) for pattern in patterns)]


def nearest(pattern: str, names: Sequence[str]) -> list[str]:
    """The three names most like the pattern read as plain text."""
    plain = re.sub(r"[\\^$()?*+]", "", pattern)
    return difflib.get_close_matches(plain, names, n=3, cutoff=0.0)


def prepare(model: nn.Module, patterns: Sequence[str]) -> dict[str, nn.Parameter]:
    """Freeze all but the selected tensors, and make those fp32 in place. Tied ones count once, by their first name."""
    parameters = dict(model.named_parameters())
    chosen = select(parameters, patterns)
    model.requires_grad_(False)
    for name in chosen:
        parameters[name].data = parameters[name].data.float()
        parameters[name].requires_grad_(True)
    return {name: parameters[name] for name in chosen}


def copies(trained: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Their present values, on the CPU, detached from what happens to them later."""
    return {name: parameter.detach().to("cpu", copy=True) for name, parameter in trained.items()}


def mixed_precision(model: nn.Module, device_type: str) -> torch.autocast:
    """Where frozen tensors are in half precision and trained ones are not, their products are in half precision.

    The cache of casts is off: it knows a parameter by identity, and would hand the base model's forward pass, which
    exchanges the parameters' storage, the casts of the trained values.
    """
    half = next((p.dtype for p in model.parameters() if p.dtype in (torch.bfloat16, torch.float16)), None)
    return torch.autocast(device_type, dtype=half or torch.bfloat16, enabled=half is not None, cache_enabled=False)
