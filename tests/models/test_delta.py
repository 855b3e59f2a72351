from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_training import tiny_batch, tiny_model

from menard_unlearn.errors import UserError
from menard_unlearn.models.delta import apply_delta, load_delta, save_delta, swapped

NAME = "model.layers.1.mlp.down_proj.weight"


def test_comes_back_as_it_went(tmp_path: Path) -> None:
    tensors = {NAME: torch.randn(16, 32), "lm_head.weight": torch.randn(64, 16)}
    save_delta(tmp_path / "delta.safetensors", tensors, identity="base-1", dtype=torch.float32)
    read = load_delta(tmp_path / "delta.safetensors")
    assert read.identity == "base-1" and read.tensors.keys() == tensors.keys()
    assert all(torch.equal(read.tensors[name], tensor) for name, tensor in tensors.items())
    assert [path.name for path in tmp_path.iterdir()] == ["delta.safetensors"]


def test_stores_in_the_dtype_asked_for(tmp_path: Path) -> None:
    save_delta(tmp_path / "d", {"lm_head.weight": torch.randn(64, 16)}, identity="b", dtype=torch.bfloat16)
    assert load_delta(tmp_path / "d").tensors["lm_head.weight"].dtype == torch.bfloat16


def test_stores_a_view_by_its_own_size_and_tied_tensors_twice(tmp_path: Path) -> None:
    large = torch.randn(1000, 16)
    save_delta(tmp_path / "d", {"a": large[:2], "b": large[:2]}, identity="b", dtype=torch.float32)
    assert (tmp_path / "d").stat().st_size < 1000 and torch.equal(load_delta(tmp_path / "d").tensors["b"], large[:2])


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_delta(tmp_path / "d", {"a": torch.ones(2)}, identity="old", dtype=torch.float32)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("menard_unlearn.models.delta.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_delta(tmp_path / "d", {"a": torch.zeros(2)}, identity="new", dtype=torch.float32)
    assert load_delta(tmp_path / "d").identity == "old" and len(list(tmp_path.iterdir())) == 1


def test_what_is_no_delta_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no delta at"):
        load_delta(tmp_path / "none")
    save_file({"a": torch.ones(1)}, tmp_path / "plain")
    with pytest.raises(UserError, match="holds no delta"):
        load_delta(tmp_path / "plain")
    (tmp_path / "torn").write_bytes((tmp_path / "plain").read_bytes()[:20])
    with pytest.raises(UserError, match="cannot be read"):
        load_delta(tmp_path / "torn")


def test_another_models_delta_is_refused() -> None:
    with pytest.raises(UserError, match="belongs to another model"):
        apply_delta(tiny_model(), {"transformer.h.0": torch.ones(1)})
    with pytest.raises(UserError, match=r"\(1,\) in the delta and \(16, 32\)"):
        apply_delta(tiny_model(), {NAME: torch.ones(1)})


def test_apply_makes_the_other_model() -> None:
    one, other, batch = tiny_model(0), tiny_model(1), tiny_batch().forget
    apply_delta(one, dict(other.named_parameters()))
    assert torch.equal(one(batch.input_ids_BT).logits, other(batch.input_ids_BT).logits)


def test_swapped_exchanges_and_restores_even_after_an_exception() -> None:
    model, other, batch = tiny_model(0), tiny_model(1), tiny_batch().forget
    own = model(batch.input_ids_BT).logits
    with torch.no_grad(), pytest.raises(KeyError), swapped(model, dict(other.named_parameters())):
        assert torch.equal(model(batch.input_ids_BT).logits, other(batch.input_ids_BT).logits)
        raise KeyError
    assert torch.equal(model(batch.input_ids_BT).logits, own)


def test_a_graph_recorded_before_a_swap_differentiates_after_it() -> None:
    """Methods run the model, then the base, then differentiate: the gradient must be that of the model's weights."""
    model, other, batch = tiny_model(0), tiny_model(1), tiny_batch().forget
    (expected,) = torch.autograd.grad(model(batch.input_ids_BT).logits.logsumexp(-1).sum(), [model.lm_head.weight])
    loss = model(batch.input_ids_BT).logits.logsumexp(-1).sum()
    with torch.no_grad(), swapped(model, dict(other.named_parameters())):
        model(batch.input_ids_BT)
    (found,) = torch.autograd.grad(loss, [model.lm_head.weight])
    assert torch.equal(found, expected)


def test_equal_deltas_are_equal_files(tmp_path: Path) -> None:
    tensors = {name: torch.ones(3) for name in ("a", "b", "c")}
    files = set()
    for number in range(8):
        save_delta(tmp_path / f"{number}.safetensors", tensors, "some model", torch.float32)
        files.add((tmp_path / f"{number}.safetensors").read_bytes())
    assert len(files) == 1
