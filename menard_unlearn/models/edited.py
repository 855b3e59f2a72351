"""Whether edits of a model's residual stream hold just now: what a model is compared with is never edited."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

from torch import nn

_PLAIN: WeakSet[nn.Module] = WeakSet()


@contextmanager
def without_edits(model: nn.Module) -> Iterator[None]:
    """Within the block no clamp, guardrail or other edit of this model's states holds; afterwards all do again."""
    inner = model in _PLAIN
    _PLAIN.add(model)
    try:
        yield
    finally:
        if not inner:
            _PLAIN.discard(model)


def edits_hold(model: nn.Module) -> bool:
    """Whether an edit is to be made."""
    return model not in _PLAIN
