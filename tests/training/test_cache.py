"""What a cached base says is what the base says, and it says it again."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from cached import DOWN, NPO_KL, RMU_7, SIDES, SMALL_BLOCKS, Bare, Run, close, config, equal, near, pair
from omegaconf import OmegaConf
from tiny_training import ENCODER, METHODS, PAD, method_config, tiny_model

from menard_unlearn.config import build, conf_dir
from menard_unlearn.corpus.batches import TokenItem, collate, pack
from menard_unlearn.methods.base import Method, states
from menard_unlearn.methods.kinds import LossWrapper
from menard_unlearn.models.predictions import predict
from menard_unlearn.training.cache import caching
from menard_unlearn.training.frozen import FrozenModel
from menard_unlearn.training.lora import LoraConfig
from menard_unlearn.training.trained import copies, prepare

# Every method


def losses(name: str) -> list[Method]:
    """The losses of a recipe that are seen against the base."""
    recipe, _ = method_config(name)
    return [p.method for p in recipe.phases() if p.method is not None and p.reference == "base"]


@pytest.mark.parametrize("name", METHODS)
def test_a_step_with_caches_is_the_step_without(name: str, tmp_path: Path) -> None:
    """Cold and warm."""
    _, trainer = method_config(name)
    trained = trainer.lora or trainer.trained
    for method in losses(name):
        plain, cached = Run(config(None), trained), Run(config(tmp_path), trained)
        for batch in (pair(1), pair(2), pair(1)):
            assert near(cached.step(method, batch), plain.step(method, batch))


@pytest.mark.parametrize("method", [RMU_7, NPO_KL])
def test_adapters_of_the_last_layers(method: Method, tmp_path: Path) -> None:
    """In float64, because attention in a random model as small as this makes rounding large."""
    lora = LoraConfig(2, 2.0, (r"\.layers\.[567]\.",))
    plain, cached = Run(config(None), lora, wide=True), Run(config(tmp_path), lora, wide=True)
    for batch in (pair(1), pair(2), pair(1)):
        assert near(cached.step(method, batch), plain.step(method, batch))
    assert list(tmp_path.glob("*/*/prefix-L5"))


@pytest.mark.parametrize("method", [RMU_7, NPO_KL])
def test_perturbed_passes_see_no_cache_of_the_perturbed_layer(method: Method, tmp_path: Path) -> None:
    wrapper = build(OmegaConf.load(conf_dir() / "wrapper" / "lat.yaml").wrapper, LossWrapper)
    wrapper = dataclasses.replace(wrapper, layer=3, steps=2)  # pyright: ignore[reportCallIssue, reportArgumentType]
    plain, cached = Run(config(None)), Run(config(tmp_path))
    for batch in (pair(1), pair(2)):
        assert near(cached.step(method, batch, wrapper), plain.step(method, batch, wrapper))


# The prefix


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("trained", [DOWN, (r"\.layers\.[56]\.mlp\.up_proj",), (r"\.layers\.6\.mlp\.",)])
def test_a_prefix_changes_no_bit(trained: Sequence[str], packing: bool) -> None:
    """Wherever in its layer the first trained matrix lies."""
    run, bare, batch = Run(config(None), trained), Run(config(None), trained), pair(1, packing=packing)
    assert isinstance(bare.frozen, FrozenModel)
    bare.frozen = Bare(bare.model, bare.frozen._originals, bare.frozen._sample, ENCODER)
    prefix = run.frozen.prefix(batch.forget)
    assert prefix is not None and prefix.answers
    for method in (RMU_7, NPO_KL):
        assert equal(run.step(method, batch), bare.step(method, batch))


def test_a_model_that_is_not_trained_has_no_prefix() -> None:
    """Its weights are others than the trained model's."""
    model, batch = tiny_model(seed=9), pair(1).retain
    gold = FrozenModel(model, {}, batch, ENCODER)
    assert gold.prefix(batch) is None
    expected = predict(model, batch, None).logits(slice(None))
    assert torch.equal(gold.predictions(batch).logits(slice(None)), expected.detach())


# What is kept


@pytest.mark.parametrize("method", [RMU_7, NPO_KL])
def test_another_run_finds_everything_and_reads_the_same_bits(method: Method, tmp_path: Path) -> None:
    """As a resumed run does, whatever its batches were before it was interrupted."""
    first, batches = Run(config(tmp_path, kl_top_k=8)), [pair(seed) for seed in range(8)]
    expected = [first.step(method, batch) for batch in batches]
    assert first.filled > 0
    again = Run(config(tmp_path, kl_top_k=8))
    assert all(equal(again.step(method, b), e) for b, e in zip(batches[::-1], expected[::-1], strict=True))
    other_seed = Run(config(tmp_path, kl_top_k=8), seed=1)
    other_seed.step(method, pair(99))
    assert again.filled == other_seed.filled == 0
    shutil.rmtree(tmp_path)
    other_order = Run(config(tmp_path, kl_top_k=8))
    assert equal([other_order.step(method, b) for b in batches[::-1]][-1], expected[0])


def test_the_order_in_which_blocks_are_asked_for_changes_no_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*SMALL_BLOCKS)
    one, other, batches = Run(config(tmp_path / "1")), Run(config(tmp_path / "2")), [pair(seed, 2) for seed in range(4)]
    forward = [one.step(RMU_7, batch) for batch in batches]
    backward = [other.step(RMU_7, batch) for batch in batches[::-1]][::-1]
    assert all(equal(a, b) for a, b in zip(forward, backward, strict=True))
    assert 0 < one.filled < 3 * 9  # blocks of several items, and of several blocks not all


def test_padded_or_packed_or_twice_in_a_batch(tmp_path: Path) -> None:
    run = Run(config(tmp_path))
    some = SIDES["retain"][:3]
    padded, packed = (lay([*some, some[0]], "retain", PAD) for lay in (collate, pack))
    plain = Run(config(None)).frozen
    for batch in (padded, packed):
        (found_ND,), (expected_ND,) = run.frozen.states(batch, [6]), plain.states(batch, [6])
        assert close(found_ND, expected_ND)
        assert torch.allclose(run.frozen.sequence_logprob(batch), plain.sequence_logprob(batch), rtol=1e-5)
        (own_ND,) = states(run.model, batch, [6], run.frozen)
        (bare_ND,) = states(run.model, batch, [6], Bare(run.model, {}, batch, ENCODER))
        assert close(own_ND, bare_ND)


def test_items_that_a_method_has_changed_are_not_looked_up(tmp_path: Path) -> None:
    run, plain, batch = Run(config(tmp_path)), Run(config(None)), pair(1).forget
    run.frozen.sequence_logprob(batch)
    scored_BT = batch.loss_mask_BT.clone()
    scored_BT[0, int(scored_BT[0].nonzero()[0])] = False
    others = [
        dataclasses.replace(batch, loss_mask_BT=scored_BT),
        dataclasses.replace(batch, input_ids_BT=batch.input_ids_BT.flip(1)),
        dataclasses.replace(batch, name="elsewhere"),
        collate([TokenItem("unheard", (1, 5, 6), 1)], "forget", PAD),
    ]
    for other in others:
        assert torch.equal(run.frozen.sequence_logprob(other), plain.frozen.sequence_logprob(other))
    found, expected = (r.frozen.conditioned(batch, "ab").logprob() for r in (run, plain))
    assert torch.equal(found, expected)


def test_half_precision_is_kept_as_such(tmp_path: Path) -> None:
    model, batch = tiny_model().bfloat16(), pair(1)
    make = caching(config(tmp_path), "base", "bfloat16", SIDES)
    frozen = make(model, copies(prepare(model, DOWN)), batch.retain, ENCODER)
    (found_ND,) = frozen.states(batch.retain, [7])
    again = make(model, copies(prepare(model, DOWN)), batch.retain, ENCODER)
    assert torch.equal(found_ND, again.states(batch.retain, [7])[0])
    assert torch.equal(found_ND, found_ND.bfloat16().float()) and found_ND.dtype == torch.float32
    (path,) = tmp_path.glob("*/*/states-L7/rows.bin")
    rows = sum(len(item.ids) - item.n_prompt for item in SIDES["retain"])
    assert rows * 16 * 2 <= path.stat().st_size < rows * 16 * 2 + 64
