"""Collected activations are those of the model, fairly sampled, and the same however often the work broke off."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_architectures import SIZE, tiny
from tiny_sae import BOS, texts
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.errors import UserError
from menard_unlearn.features import activations
from menard_unlearn.features.activations import ActivationsConfig, collect, stream
from menard_unlearn.features.hooks import special_ids
from menard_unlearn.features.shards import Shards, opened, write_shard
from menard_unlearn.models.stump import residuals

LAYER = 1
CONFIG = ActivationsConfig(4, 37, 10**9, "float32", 0.2, 0)
ITEMS = [*texts(14, 20, 64, ragged=5), TokenItem("with others inside", (BOS, 5, 0, 6, 2, 7), 1)]
"""Token 0 is the padding, 2 the end: neither counts, wherever it stands."""


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return tiny("llama")


@pytest.fixture
def gathered(model: PreTrainedModel, tmp_path: Path) -> Callable[..., Shards]:
    def gather(**changes: Any) -> Shards:
        given = {"layer": LAYER, "special": special_ids(model), "config": CONFIG, "folder": tmp_path / "a", "key": "m"}
        return collect(**{"model": model, "items": ITEMS, **given, **changes})

    return gather


def stored(shards: Shards) -> Tensor:
    files = sorted(shards.folder.glob("*.safetensors"))
    return torch.cat([load_file(path)["x_ND"] for path in files])


@torch.no_grad()
def by_hand(model: PreTrainedModel, seed: int) -> Tensor:
    rows = []
    for number in np.random.default_rng(seed).permutation(len(ITEMS)):
        ids = ITEMS[number].ids
        (hidden_BTD,) = residuals(model, {"input_ids": torch.tensor([ids])}, [LAYER], None)
        rows += [hidden_BTD[0, t] for t, token in enumerate(ids) if token not in (0, 1, 2)]
    return torch.stack(rows)


@pytest.mark.parametrize(("batch_size", "per_shard", "seed"), [(1, 1000, 0), (4, 37, 0), (15, 10, 3)])
def test_they_are_those_of_each_text_alone(
    model: PreTrainedModel, gathered: Callable[..., Shards], batch_size: int, per_shard: int, seed: int
):
    config = replace(CONFIG, batch_size=batch_size, tokens_per_shard=per_shard, seed=seed)
    shards, expected_ND = gathered(config=config), by_hand(model, seed)
    torch.testing.assert_close(stored(shards), expected_ND, rtol=0, atol=1e-4)
    assert shards.n_tokens == len(expected_ND)
    assert max(shards.sizes) <= per_shard
    torch.testing.assert_close(shards.mean_D, expected_ND.mean(0), rtol=0, atol=1e-4)
    assert shards.mean_norm == pytest.approx(float(expected_ND.norm(dim=1).mean()), rel=1e-5)


def test_a_stream_leaves_padding_out_by_the_mask_alone(model: PreTrainedModel):
    rows = list(stream(model, ITEMS, layer=LAYER, special=(), batch_size=len(ITEMS)))
    assert sum(map(len, rows)) == sum(len(item.ids) for item in ITEMS)
    assert not model.training


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_they_are_stored_rounded_once(gathered: Callable[..., Shards], tmp_path: Path, dtype: str):
    exact_ND = stored(gathered())
    found = gathered(config=replace(CONFIG, dtype=dtype), folder=tmp_path / "b")
    assert torch.equal(stored(found), exact_ND.to(getattr(torch, dtype)))
    assert all(x_ND.dtype == torch.float32 for x_ND in found.trained(100))


def test_a_budget_holds_the_first_of_the_same_order(gathered: Callable[..., Shards], tmp_path: Path):
    all_ND = stored(gathered())
    found = gathered(config=replace(CONFIG, max_bytes=16 * 4 * 50 + 3), folder=tmp_path / "b")
    assert (found.n_tokens, found.sizes) == (50, (37, 13))
    assert torch.equal(stored(found), all_ND[:50])
    other = gathered(config=replace(CONFIG, max_bytes=16 * 4 * 50, seed=1), folder=tmp_path / "c")
    assert not torch.equal(stored(other), all_ND[:50])


@pytest.mark.parametrize("whole", [0, 1, 3, 6])
def test_what_broke_off_goes_on_to_the_same_bytes(
    gathered: Callable[..., Shards], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: int
):
    expected = {path.name: path.read_bytes() for path in gathered().folder.iterdir()}

    def until(folder: Path, number: int, x_ND: Tensor) -> None:
        if number == whole:
            raise KeyboardInterrupt
        write_shard(folder, number, x_ND)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(activations, "write_shard", until)
        gathered(folder=tmp_path / "b")
    assert len(list((tmp_path / "b").glob("*.safetensors"))) == whole
    shards = gathered(folder=tmp_path / "b")
    assert {path.name: path.read_bytes() for path in shards.folder.iterdir()} == expected
    monkeypatch.setattr(activations, "stream", None)
    assert gathered(folder=tmp_path / "b").sizes == shards.sizes  # and what is whole is not computed again


def test_a_folder_of_something_else_is_refused(gathered: Callable[..., Shards], tmp_path: Path):
    gathered()
    for changes, named in (
        ({"key": "another"}, "model"),
        ({"layer": 2}, "layer"),
        ({"items": ITEMS[1:]}, "items"),
        ({"special": ()}, "special"),
        ({"config": replace(CONFIG, batch_size=5)}, "batch_size"),
    ):
        with pytest.raises(UserError, match=f"a holds activations of something else .*{named}"):
            gathered(**changes)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="full holds no activations"):
        gathered(folder=tmp_path / "full")


def test_damaged_shards_are_refused(gathered: Callable[..., Shards]):
    folder = gathered().folder
    write_shard(folder, 0, torch.zeros(3, 16))
    with pytest.raises(UserError, match="delete it"):
        gathered()
    (folder / "shard-00000.safetensors").write_bytes(b"short")
    with pytest.raises(UserError, match="damaged"):
        gathered()


def test_what_cannot_be_collected_is_refused_before_any_file_is_written(
    gathered: Callable[..., Shards], tmp_path: Path
):
    for changes, message in (
        ({"layer": 4}, "layers 0 to 3"),
        ({"items": texts(1, 65, 64)}, "has 65 tokens, the model's window 64"),
        ({"config": replace(CONFIG, max_bytes=63)}, "max_bytes 63"),
        ({"items": [TokenItem("special", (1, 2), 1)]}, "no token but special ones"),
    ):
        with pytest.raises(UserError, match=message):
            gathered(**changes)
    assert not (tmp_path / "a").exists()
    for changes in ({"batch_size": 0}, {"max_bytes": 0}, {"held_out": 1.0}):
        with pytest.raises(UserError, match=f"activations.{next(iter(changes))}"):
            replace(CONFIG, **changes)


def test_a_number_too_large_for_the_dtype_is_refused(gathered: Callable[..., Shards]):
    torch.manual_seed(0)
    large = LlamaForCausalLM(LlamaConfig(**SIZE)).eval()
    with torch.no_grad():
        large.model.embed_tokens.weight.mul_(1e6)
    with pytest.raises(UserError, match="bfloat16"):
        gathered(model=large, config=replace(CONFIG, dtype="float16"))


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """Activation n is the number n; 105 of 130 are for training, the last shard has half of its own."""
    folder = tmp_path_factory.mktemp("numbered")
    sizes = [10] * 13
    for number in range(13):
        write_shard(folder, number, torch.arange(10.0)[:, None] + 10 * number)
    return opened(folder, "key", sizes, 25)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_every_round_visits_every_training_token(numbered: Shards, batch_size: int):
    n_batches = 105 // batch_size
    batches = numbered.batches(batch_size, seed=0)
    rounds = [torch.cat(list(itertools.islice(batches, n_batches)))[:, 0].tolist() for _ in range(2)]
    for visited in rounds:
        assert sorted(visited) == list(range(105))
    assert rounds[0] != rounds[1]
    other = torch.cat(list(itertools.islice(numbered.batches(batch_size, seed=1), n_batches)))[:, 0].tolist()
    assert other != rounds[0]


def test_batches_mix_shards_and_drop_only_what_fills_none(numbered: Shards):
    batches = list(itertools.islice(numbered.batches(8, seed=0), 12))
    visited = torch.cat(batches)[:, 0].tolist()
    assert len(set(visited)) == len(visited) == 96
    assert sum(len({int(n) // 10 for n in batch[:, 0].tolist()}) >= 2 for batch in batches) >= 11


@pytest.mark.parametrize("start", [1, 13, 14, 50])
def test_batches_from_a_number_on_are_those_that_follow(numbered: Shards, start: int):
    expected = list(itertools.islice(numbered.batches(8, seed=0), start, start + 5))
    found = list(itertools.islice(numbered.batches(8, seed=0, start=start), 5))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_held_out_tokens_are_the_others(numbered: Shards):
    trained = torch.cat(list(numbered.trained(7)))[:, 0].tolist()
    held_out = torch.cat(list(numbered.held_out(7)))[:, 0].tolist()
    assert (trained, held_out) == (list(range(105)), list(range(105, 130)))


def test_a_batch_that_no_group_fills_is_refused(numbered: Shards):
    with pytest.raises(UserError, match=r"batch_size 1000 asked of groups of \d+ activations"):
        numbered.batches(1000, seed=0)
