"""Attention of a text's next piece to all that was read before, without a mask.

A mask of piece × tokens so far is what keeps attention in pieces from being as fast, and as small, as attention to the
whole. None is needed: what was read before the piece is seen by all of it, and inside the piece each token sees those
before it, which every kernel can do by itself. Both parts are softmaxes over some of the keys, and of their results,
with logsumexp a and b of the scores, the whole is the mean with weights eᵃ and eᵇ (as in arXiv 2205.14135).

Legend: B rows, H query heads, G key-value heads, P tokens of the piece, T tokens so far with it, E width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import causal_mask_function, sdpa_mask

from menard_unlearn.models.stump import text_config

NAME = "menard_pieces"
"""What transformers calls it."""


def can_do_without_masks(model: PreTrainedModel) -> bool:
    """Whether it is to be tried: on a CPU, where torch tells the logsumexp, for models that call attention by name."""
    by_name: Callable[[], bool] | None = getattr(model, "_can_set_attn_implementation", None)
    on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
    return on_cpu and text_config(model)._attn_implementation == "sdpa" and by_name is not None and by_name()


@contextmanager
def without_masks(model: PreTrainedModel) -> Iterator[None]:
    """The model with this attention, and afterwards with its own."""
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, mask)
    config = text_config(model)
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def mask(
    *,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] = causal_mask_function,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    allow_is_causal_skip: bool = True,
    **others: Any,
) -> Tensor | None:
    """None where each token sees all before it; else, as for a sliding window, transformers' own mask."""
    plain = allow_is_causal_skip and mask_function is causal_mask_function and local_size is None
    unpadded = attention_mask is None or bool(attention_mask.all())
    if plain and unpadded and kv_offset == 0 and q_offset + q_length == kv_length:
        return None
    return sdpa_mask(
        q_length=q_length,
        kv_length=kv_length,
        q_offset=q_offset,
        kv_offset=kv_offset,
        mask_function=mask_function,
        attention_mask=attention_mask,
        local_size=local_size,
        allow_is_causal_skip=allow_is_causal_skip,
        **others,
    )


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What `sdpa` would give with the mask that it was not given: (B, P, H, E)."""
    n_new, n_all = query.shape[2], key.shape[2]
    biased = kwargs.get("position_bias") is not None
    if attention_mask is None and biased and 1 < n_new < n_all:
        attention_mask = torch.ones(n_new, n_all, dtype=torch.bool, device=query.device).tril(n_all - n_new)[None, None]
    if attention_mask is not None or n_new in (1, n_all):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if torch.is_autocast_enabled("cpu"):  # which does not know this operation
        query, key, value = (part.to(torch.get_autocast_dtype("cpu")) for part in (query, key, value))
    result_BHPE = _to_the_past_and_itself(query, key, value, query.shape[-1] ** -0.5 if scaling is None else scaling)
    return result_BHPE.transpose(1, 2).contiguous(), None


def _to_the_past_and_itself(query_BHPE: Tensor, key_BGTE: Tensor, value_BGTE: Tensor, scale: float) -> Tensor:
    n_heads, n_new = query_BHPE.shape[1:3]
    n_groups, n_past = key_BGTE.shape[1], key_BGTE.shape[2] - n_new
    # All query heads of a key-value head are further queries to it: its keys need not be copied for each.
    folded = query_BHPE.reshape(len(query_BHPE), n_groups, -1, query_BHPE.shape[3])
    past, past_sum = _attend(folded, key_BGTE[:, :, :n_past], value_BGTE[:, :, :n_past], scale, causal=False)
    past_BHPE, past_BHP = past.reshape(len(past), n_heads, n_new, -1), past_sum.reshape(len(past), n_heads, n_new)
    copies = n_heads // n_groups
    own_BHPE, own_BHP = _attend(
        query_BHPE,
        repeat_kv(key_BGTE[:, :, n_past:], copies),
        repeat_kv(value_BGTE[:, :, n_past:], copies),
        scale,
        causal=True,
    )
    share_BHP1 = torch.sigmoid(own_BHP - past_BHP)[..., None].to(own_BHPE.dtype)
    return torch.lerp(past_BHPE, own_BHPE, share_BHP1)


def _attend(query: Tensor, key: Tensor, value: Tensor, scale: float, *, causal: bool) -> tuple[Tensor, Tensor]:
    """Attention, and the logsumexp of the scores. The kernel wants values as wide as keys: some families' are not."""
    wide, n_values = max(key.shape[-1], value.shape[-1]), value.shape[-1]
    query, key, value = (
        part if part.shape[-1] == wide else F.pad(part, (0, wide - part.shape[-1])) for part in (query, key, value)
    )
    result, logsumexp = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, causal, scale=scale
    )
    return result[..., :n_values], logsumexp
