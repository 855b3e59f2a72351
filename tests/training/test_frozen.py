from __future__ import annotations

import pytest
import torch
from tiny_training import PAD, items, tiny_batch, tiny_model

from menard_unlearn.corpus.batches import collate
from menard_unlearn.methods.base import logits, sequence_logprob
from menard_unlearn.models.stump import hidden
from menard_unlearn.training.frozen import FrozenModel
from menard_unlearn.training.trained import copies, mixed_precision, prepare

PATTERN = (r"down_proj",)


def moved(model: torch.nn.Module) -> FrozenModel:
    """The base's quantities, after the trained tensors have gone elsewhere."""
    trained = prepare(model, PATTERN)
    frozen = FrozenModel(model, copies(trained), collate(items(6, "retain"), "retain", PAD))
    with torch.no_grad():
        for parameter in trained.values():
            parameter += 0.1
    return frozen


def test_equals_the_base_model_to_the_bit() -> None:
    model, base, batch = tiny_model(), tiny_model(), tiny_batch().retain
    frozen = moved(model)
    with torch.no_grad():
        assert torch.equal(frozen.logits(batch), logits(base, batch))
        assert torch.equal(frozen.sequence_logprob(batch), sequence_logprob(base, batch))
        ids, mask = batch.input_ids_BT, batch.attention_mask_BT
        assert torch.equal(frozen.hidden(batch, 3), hidden(base, ids, mask, 3))
        assert not torch.equal(logits(model, batch), logits(base, batch))
    assert not frozen.logits(batch).requires_grad


def test_in_mixed_precision_the_base_does_not_see_the_trained_values() -> None:
    """Autocast remembers casts by parameter, so a model that ran just before could lend the base its own."""
    model, base, batch = tiny_model().bfloat16(), tiny_model().bfloat16(), tiny_batch().retain
    frozen = moved(model)
    with mixed_precision(model, "cpu"):
        own = logits(model, batch)
        reference = frozen.logits(batch)
    with mixed_precision(base, "cpu"), torch.no_grad():
        assert torch.equal(reference, logits(base, batch)) and not torch.equal(own, reference)


def test_mean_norm_leaves_out_padding_and_the_first_token() -> None:
    model, base = tiny_model(), tiny_model()
    frozen = moved(model)
    norms = []
    for item in items(6, "retain"):
        side = collate([item], "retain", PAD)
        norms.append(hidden(base, side.input_ids_BT, side.attention_mask_BT, 4)[0, 1:].norm(dim=-1))
    assert frozen.mean_norm(4) == pytest.approx(torch.cat(norms).mean().item(), rel=1e-5)
