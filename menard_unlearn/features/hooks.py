"""Read and edit the residual stream after a decoder layer while the model is scored or generates.

Only decoder layers are hooked: what lies inside them is run twice under gradient checkpointing. A layer answers a bare
tensor or a tuple, by family and version. Which positions count is said by the tokens and the mask that the model was
called with, so that BOS, whose norm is a hundred times the others', and padding are left alone wherever they stand.

Legend: B rows, T tokens of this call, P tokens of earlier calls in the cache, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenBatch
from menard_unlearn.errors import UserError
from menard_unlearn.models.edited import edits_hold
from menard_unlearn.models.stump import decoder_layers, hidden, refuse_absent, text_config


@dataclass(frozen=True, eq=False)
class Positions:
    """What stands where in the call that is going on."""

    input_ids_BT: Tensor
    kept_BT: Tensor
    """bool: neither special nor padding."""
    n_past: int
    """P, tokens that a key-value cache holds from before; 0 begins new sequences."""


Edit = Callable[[Tensor, Positions], Tensor | None]
"""(hidden_BTD, positions) → what replaces it, or None for no change."""


def special_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None) -> frozenset[int]:
    """Ids of special tokens: all that the tokenizer names, and BOS, EOS and padding of the model's configuration."""
    config = text_config(model)
    named = [getattr(config, f"{role}_token_id", None) for role in ("bos", "eos", "pad")]
    found = {token for value in named for token in (value if isinstance(value, list | tuple) else [value])}
    if tokenizer is not None:
        found |= set(tokenizer.all_special_ids)
    return frozenset(token for token in found if isinstance(token, int))


def kept_hidden(
    model: PreTrainedModel, batch: TokenBatch, layer: int, special: Collection[int]
) -> tuple[Tensor, Tensor]:
    """(hidden_BTD, kept_BT): the stream after a layer, and where neither special tokens nor padding stand.

    The batch lies on the model's device; the forward pass ends at the layer.
    """
    special_K = torch.tensor(sorted(special), dtype=torch.long, device=batch.input_ids_BT.device)
    hidden_BTD = hidden(model, batch.input_ids_BT, batch.attention_mask_BT, layer)
    return hidden_BTD, batch.attention_mask_BT.bool() & ~torch.isin(batch.input_ids_BT, special_K)


@contextmanager
def editing(model: PreTrainedModel, layer: int, edit: Edit, special: Collection[int]) -> Iterator[None]:
    """Within the block `edit` is called with the residual stream after this layer in every forward pass.

    Blocks nest: the inner one's edit sees what the outer one's has made of the stream. A key-value cache that was
    filled outside must not be used inside, nor the other way round. Raises UserError for a layer that the model has
    not, and for a compiled model, which would not notice.
    """
    refuse_compiled(model)
    layers = decoder_layers(model)
    refuse_absent(layer, len(layers))
    special_N = torch.tensor(sorted(special), dtype=torch.long)
    now: list[Positions] = []

    def note(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        now[:] = [_positions(args, kwargs, special_N)]

    def replace(_module: nn.Module, _args: Any, output: Any) -> Any:
        if not edits_hold(model):
            return None
        hidden_BTD = output[0] if isinstance(output, tuple) else output
        edited_BTD = edit(hidden_BTD, now[0])
        if edited_BTD is None:
            return None
        return (edited_BTD, *output[1:]) if isinstance(output, tuple) else edited_BTD

    # The decoder is called both by the whole model and, where only states are wanted, by itself
    hooks = [
        model.base_model.register_forward_pre_hook(note, with_kwargs=True),
        layers[layer].register_forward_hook(replace),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def refuse_compiled(model: nn.Module) -> None:
    """Raise UserError for a compiled model: hooks that come after compilation are silently ignored."""
    compiled = any(
        hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
        for module in model.modules()
    )
    if compiled:
        raise UserError("the model is compiled and would ignore a clamp: load it without torch.compile")


def _positions(args: tuple[Any, ...], kwargs: dict[str, Any], special_N: Tensor) -> Positions:
    input_ids_BT = kwargs.get("input_ids", args[0] if args else None)
    if input_ids_BT is None:
        raise UserError("the model was called with embeddings: a clamp needs input_ids, to leave special tokens alone")
    kept_BT = ~torch.isin(input_ids_BT, special_N.to(input_ids_BT.device))
    mask = kwargs.get("attention_mask")
    if isinstance(mask, Tensor) and mask.ndim == 2:
        kept_BT &= mask[:, -input_ids_BT.shape[1] :].bool()  # with a cache the mask covers its tokens, too
    cache = kwargs.get("past_key_values")
    return Positions(input_ids_BT, kept_BT, 0 if cache is None else int(cache.get_seq_length()))
