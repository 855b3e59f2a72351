"""Attention without masks: what attention with a mask gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_architectures import tiny
from torch import nn
from torch.nn import functional as F
from toy import llama
from transformers import masking_utils

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.models import attention as attention_module
from menard_unlearn.models.attention import NAME, attention, can_do_without_masks, mask, without_masks
from menard_unlearn.models.long import score_long


@pytest.mark.parametrize("n_new", [2, 5, 12, 13])
@pytest.mark.parametrize("n_groups", [1, 2, 4])
@pytest.mark.parametrize(("wide", "value_wide"), [(8, 8), (8, 4), (4, 8)])
def test_the_last_tokens_see_what_is_before_them(n_new: int, n_groups: int, wide: int, value_wide: int) -> None:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    query, key, value = drawn(2, 4, n_new, wide), drawn(2, n_groups, 13, wide), drawn(2, n_groups, 13, value_wide)
    module = nn.Module()
    module.num_key_value_groups = 4 // n_groups  # pyright: ignore[reportArgumentType]
    copies = [part.repeat_interleave(4 // n_groups, dim=1) for part in (key, value)]
    seen = torch.ones(n_new, 13, dtype=torch.bool).tril(13 - n_new)
    for scaling in (None, 0.3):
        expected = F.scaled_dot_product_attention(query, *copies, attn_mask=seen, scale=scaling)
        found, _ = attention(module, query, key, value, None, scaling=scaling)
        torch.testing.assert_close(found, expected.transpose(1, 2), rtol=1e-12, atol=1e-12)
        bias = drawn(1, 4, n_new, 13)
        biased = F.scaled_dot_product_attention(
            query, *copies, attn_mask=bias.masked_fill(~seen, -torch.inf), scale=scaling
        )
        found, _ = attention(module, query, key, value, None, scaling=scaling, position_bias=bias)
        torch.testing.assert_close(found, biased.transpose(1, 2), rtol=1e-12, atol=1e-12)


def test_scores_of_any_size_are_merged() -> None:
    """The shares of past and piece are those of their sums, though neither exponential can be held."""
    query = torch.tensor([1e3, 1e3], dtype=torch.float64)[None, None, :, None]
    key = torch.tensor([1.0, 2.0, 1.0, 2.0], dtype=torch.float64)[None, None, :, None]
    value = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)[None, None, :, None]
    found, _ = attention(nn.Module(), query, key, value, None, scaling=1.0)
    assert found.flatten().tolist() == [2.0, 3.0]


def test_only_what_is_not_plainly_causal_gets_a_mask() -> None:
    shape: dict[str, Any] = {"batch_size": 1, "q_length": 4, "kv_length": 10, "q_offset": 6, "kv_offset": 0}
    assert mask(**shape) is None
    assert mask(**shape, attention_mask=torch.ones(1, 10, dtype=torch.bool)) is None
    padded = torch.ones(1, 10, dtype=torch.bool)
    padded[0, 3] = False
    made = mask(**shape, attention_mask=padded)
    assert made is not None and made.shape[-2:] == (4, 10) and not made[..., 3].any()
    window = masking_utils.sliding_window_causal_mask_function(3)
    made = mask(**shape, mask_function=window, local_size=3)
    assert made is not None and made[0, 0].sum(1).tolist() == [3, 3, 3, 3]


def test_no_mask_is_made_for_a_long_text(monkeypatch: pytest.MonkeyPatch) -> None:
    model, item = llama(), TokenItem("x", tuple(range(1, 60)), 1)
    expected = score_long(model, item, piece=100, chunk=100).logprob_T
    monkeypatch.setattr(attention_module, "sdpa_mask", None)  # calling it would fail
    found = score_long(model, item, piece=9, chunk=100).logprob_T
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-9)


def test_a_model_gets_its_own_attention_back() -> None:
    model = tiny("kimi_k25")
    config = model.config.get_text_config(decoder=True)
    before = config._attn_implementation
    assert can_do_without_masks(model) and before == "sdpa"
    with pytest.raises(ZeroDivisionError), without_masks(model):
        assert config._attn_implementation == NAME
        raise ZeroDivisionError
    assert config._attn_implementation == before
    eager = llama()
    eager.set_attn_implementation("eager")
    assert not can_do_without_masks(eager)
