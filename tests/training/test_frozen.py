from __future__ import annotations

import pytest
import torch
from tiny_training import ENCODER, PAD, items, tiny_batch, tiny_model

from menard_unlearn.corpus.batches import TokenBatch, TokenItem, collate
from menard_unlearn.methods.base import by_item, read
from menard_unlearn.models.predictions import Predictions, predict
from menard_unlearn.models.stump import hidden, residuals
from menard_unlearn.training.frozen import FrozenModel, beside
from menard_unlearn.training.trained import copies, mixed_precision, prepare

PATTERN = (r"down_proj",)


def moved(model: torch.nn.Module, pattern: tuple[str, ...] = PATTERN) -> FrozenModel:
    """The base's quantities, after the trained tensors have gone elsewhere."""
    trained = prepare(model, pattern)
    frozen = FrozenModel(model, copies(trained), collate(items(6, "retain"), "retain", PAD), ENCODER)
    with torch.no_grad():
        for parameter in trained.values():
            parameter += 0.1
    return frozen


def of_base(batch: TokenBatch) -> Predictions:
    with torch.no_grad():
        return predict(tiny_model(), batch, None)


EVERYTHING = slice(None)


@pytest.mark.parametrize("pattern", [PATTERN, (r"layers\.[56]\.",), (r".*",)])
def test_equals_the_base_model_to_the_bit(pattern: tuple[str, ...]) -> None:
    """Also where the head itself is trained."""
    model, batch = tiny_model(), tiny_batch().retain
    frozen = moved(model, pattern)
    found, base = frozen.predictions(batch), of_base(batch)
    assert torch.equal(found.logits(EVERYTHING), base.logits(EVERYTHING))
    assert torch.equal(frozen.sequence_logprob(batch), by_item(base.logprob(), batch))
    (state_ND,) = frozen.states(batch, [6])
    assert torch.equal(state_ND, read(residuals(tiny_model(), batch.inputs, [6], None)[0], batch))
    assert not torch.equal(predict(model, batch, None).logits(EVERYTHING), base.logits(EVERYTHING))
    assert not found.logits(EVERYTHING).requires_grad


def test_the_prefix_ends_where_training_begins() -> None:
    batch = tiny_batch().forget
    prefix = moved(tiny_model(), (r"layers\.[56]\.",)).prefix(batch)
    assert prefix is not None and prefix.layer == 5
    assert torch.equal(prefix.hidden_BTD, residuals(tiny_model(), batch.inputs, [4], None)[0])
    assert moved(tiny_model(), ("embed_tokens",)).prefix(batch) is None


def test_a_text_before_each_item_is_read_and_not_scored() -> None:
    model, batch = tiny_model(), tiny_batch().forget
    frozen = moved(model)
    found = frozen.conditioned(batch, "ab")
    longer = [TokenItem(i.id, (1, *ENCODER.words("ab"), *i.ids[1:]), i.n_prompt + 2) for i in items(4, "forget")]
    expected = of_base(collate(longer, "forget", PAD))
    assert torch.equal(found.target_N, batch.target_N)
    assert torch.allclose(found.logits(EVERYTHING), expected.logits(EVERYTHING), atol=1e-5)


def test_in_mixed_precision_the_base_does_not_see_the_trained_values() -> None:
    """Autocast remembers casts by parameter, so a model that ran just before could lend the base its own."""
    model, base, batch = tiny_model().bfloat16(), tiny_model().bfloat16(), tiny_batch().retain
    frozen = moved(model)
    with mixed_precision(model, "cpu"):
        own = predict(model, batch, None).logits(EVERYTHING)
        reference = frozen.predictions(batch).logits(EVERYTHING)
    with mixed_precision(base, "cpu"), torch.no_grad():
        expected = predict(base, batch, None).logits(EVERYTHING)
    assert torch.equal(reference, expected) and not torch.equal(own, reference)


def test_mean_norm_leaves_out_padding_and_the_first_token() -> None:
    model, base = tiny_model(), tiny_model()
    frozen = moved(model)
    norms = []
    for item in items(6, "retain"):
        side = collate([item], "retain", PAD)
        norms.append(hidden(base, side.input_ids_BT, side.attention_mask_BT, 4)[0, 1:].norm(dim=-1))
    assert frozen.mean_norm(4) == pytest.approx(torch.cat(norms).mean().item(), rel=1e-5)


def test_first_values_stay_on_the_cpu_where_a_gpu_has_little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"a": torch.ones(1000)}
    assert beside(values, torch.device("cpu")) is values
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5 * 4000, 10**9))
    assert beside(values, torch.device("cuda", 0)) is values
