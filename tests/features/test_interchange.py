"""An SAE comes back from the disk to the bit; what would be read otherwise than it was meant is refused."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_sae import FEATURES, tiny_sae
from torch import Tensor

from menard_unlearn.errors import UserError
from menard_unlearn.features import interchange
from menard_unlearn.features.interchange import load_sae, save_sae
from menard_unlearn.features.sae import Sae

X_ND = torch.randn(40, 32, generator=torch.Generator().manual_seed(3))


def assert_same(one: Sae, other: Sae) -> None:
    for field in fields(Sae):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a == b, field.name


def changed(folder: Path, **changes: Any) -> Path:
    """The folder, its cfg.json with other values; None takes a key out."""
    path = folder / "cfg.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return folder


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_sae(tiny_sae(scale=None), tmp_path)
    return tmp_path


@pytest.mark.parametrize("apply", [True, False])
@pytest.mark.parametrize("scale", [None, 2.5])
@pytest.mark.parametrize("k", [None, 5])
def test_a_round_trip_is_exact(tmp_path: Path, k: int | None, scale: float | None, apply: bool):
    sae = replace(tiny_sae(k=k, scale=scale, layer=3), apply_b_dec_to_input=apply)
    save_sae(sae, tmp_path)
    assert_same(load_sae(tmp_path), sae)


def test_the_files_are_those_of_the_format(tmp_path: Path):
    save_sae(tiny_sae(layer=3), tmp_path / "jumprelu")
    save_sae(tiny_sae(k=5), tmp_path / "topk")
    weights = {name: tuple(t.shape) for name, t in load_file(tmp_path / "jumprelu/sae_weights.safetensors").items()}
    n = FEATURES
    assert weights == {"W_enc": (32, n), "b_enc": (n,), "W_dec": (n, 32), "b_dec": (32,), "threshold": (n,)}
    config = json.loads((tmp_path / "jumprelu/cfg.json").read_text())
    plain = {"normalize_activations": "none", "reshape_activations": "none", "apply_b_dec_to_input": True}
    assert config.items() >= {"architecture": "jumprelu", "d_in": 32, "d_sae": n, "dtype": "float32", **plain}.items()
    assert config["metadata"]["hook_name"] == "blocks.3.hook_resid_post"
    config = json.loads((tmp_path / "topk/cfg.json").read_text())
    assert config.items() >= {"architecture": "topk", "k": 5, "rescale_acts_by_decoder_norm": False}.items()
    assert "threshold" not in load_file(tmp_path / "topk/sae_weights.safetensors")


def test_a_plain_relu_has_thresholds_of_0(saved: Path):
    tensors = load_file(saved / "sae_weights.safetensors")
    del tensors["threshold"]
    save_file(tensors, saved / "sae_weights.safetensors")
    sae = load_sae(changed(saved, architecture="standard"))
    assert sae.architecture == "jumprelu" and sae.threshold_F is not None and not sae.threshold_F.any()
    pre_NF = (X_ND - sae.b_dec_D) @ sae.W_enc_DF + sae.b_enc_F
    assert torch.equal(sae.encode(X_ND), pre_NF.relu())


def test_weights_of_another_dtype_are_read_to_fp32(saved: Path):
    halved = {name: t.bfloat16() for name, t in load_file(saved / "sae_weights.safetensors").items()}
    save_file(halved, saved / "sae_weights.safetensors")
    sae = load_sae(changed(saved, dtype="bfloat16"))
    assert sae.W_enc_DF.dtype == torch.float32 and torch.equal(sae.W_enc_DF, halved["W_enc"].float())


@pytest.mark.parametrize("k", [None, 5])
@pytest.mark.parametrize("apply", [True, False])
def test_a_stated_factor_is_folded_into_weights_and_thresholds(tmp_path: Path, k: int | None, apply: bool):
    plain, factor = replace(tiny_sae(k=k, scale=None), apply_b_dec_to_input=apply), 3.7
    save_sae(plain, tmp_path)
    (tmp_path / "activation_scaler.json").write_text(json.dumps({"scaling_factor": factor, "has_whitening": False}))
    sae = load_sae(changed(tmp_path, normalize_activations="expected_average_only_in"))
    a_NF = plain.encode(factor * X_ND)
    torch.testing.assert_close(sae.encode(X_ND), a_NF / factor, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sae.decode(sae.encode(X_ND)), plain.decode(a_NF) / factor, rtol=1e-4, atol=1e-5)


def test_rescaling_by_the_decoders_norm_is_folded(tmp_path: Path):
    norm_F = torch.linspace(0.2, 4, FEATURES)
    plain = tiny_sae(k=5, scale=None)
    plain = replace(plain, W_dec_FD=plain.W_dec_FD * norm_F[:, None])
    save_sae(plain, tmp_path)
    sae = load_sae(changed(tmp_path, rescale_acts_by_decoder_norm=True))
    pre_NF = ((X_ND - plain.b_dec_D) @ plain.W_enc_DF + plain.b_enc_F) * norm_F
    values, places = pre_NF.topk(5, dim=1)
    a_NF = torch.zeros_like(pre_NF).scatter(1, places, values.relu())
    torch.testing.assert_close(sae.encode(X_ND), a_NF, rtol=1e-4, atol=1e-5)
    expected_ND = (a_NF / norm_F) @ plain.W_dec_FD + plain.b_dec_D
    torch.testing.assert_close(sae.decode(a_NF), expected_ND, rtol=1e-4, atol=1e-5)


METADATA = {"model_name": "m", "hook_name": "blocks.1.hook_resid_post"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalize_activations": "layer_norm"}, "normalize_activations 'layer_norm' is not supported"),
        ({"normalize_activations": "constant_norm_rescale"}, "'constant_norm_rescale' is not supported"),
        ({"normalize_activations": "covariance_whitening"}, "'covariance_whitening' is not supported"),
        ({"normalize_activations": "expected_average_only_in"}, "without a factor in activation_scaler.json"),
        ({"reshape_activations": "hook_z"}, "reshape_activations 'hook_z'"),
        ({"architecture": "gated"}, "architecture 'gated' is not supported; allowed: jumprelu, topk, standard"),
        ({"architecture": "topk"}, "needs threshold"),
        ({"metadata": None}, "before SAELens 6"),
        ({"metadata": METADATA | {"hook_name": "blocks.1.hook_mlp_out"}}, "'blocks.1.hook_mlp_out'"),
        ({"metadata": {"model_name": "m"}}, "reads 'None'"),
        (
            {"metadata": METADATA | {"model_from_pretrained_kwargs": {"center_writing_weights": True}}},
            "center_writing_weights",
        ),
    ],
)
def test_what_is_not_supported_is_refused(saved: Path, changes: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        load_sae(changed(saved, **changes))


def test_numbers_that_are_none_and_a_configuration_of_other_weights_are_refused(saved: Path):
    with pytest.raises(UserError, match="says d_in 96"):
        load_sae(changed(saved, d_in=96))
    changed(saved, d_in=load_file(saved / "sae_weights.safetensors")["W_enc"].shape[0])
    tensors = load_file(saved / "sae_weights.safetensors")
    tensors["b_enc"][0] = torch.nan
    save_file(tensors, saved / "sae_weights.safetensors")
    with pytest.raises(UserError, match="b_enc holds NaN"):
        load_sae(saved)


@pytest.mark.parametrize("stated", [{"scaling_factor": None}, {"scaling_factor": 2.0, "has_whitening": True}])
def test_a_factor_that_is_none_is_refused(saved: Path, stated: dict[str, Any]):
    (saved / "activation_scaler.json").write_text(json.dumps(stated))
    with pytest.raises(UserError, match="without a factor"):
        load_sae(changed(saved, normalize_activations="expected_average_only_in"))


def test_other_layouts_and_damaged_files_are_refused(saved: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no SAE"):
        load_sae(tmp_path / "empty")
    save_file({"encoder.weight": torch.zeros(2, 2)}, tmp_path / "empty/sae.safetensors")
    with pytest.raises(UserError, match="layout of sparsify"):
        load_sae(tmp_path / "empty")
    weights = saved / "sae_weights.safetensors"
    tensors = load_file(weights)
    save_file({name: tensor for name, tensor in tensors.items() if name != "b_dec"}, weights)
    with pytest.raises(UserError, match="lacks b_dec"):
        load_sae(saved)
    save_file(tensors | {"b_enc": torch.zeros(3)}, weights)
    with pytest.raises(UserError, match="b_enc is"):
        load_sae(saved)
    weights.write_bytes(b"short")
    with pytest.raises(UserError, match="damaged"):
        load_sae(saved)
    (saved / "cfg.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        load_sae(saved)


def test_what_was_not_written_to_the_end_is_no_sae(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Else a run that was killed would go on with an SAE whose scale is missing."""
    save_sae(tiny_sae(scale=2.0), tmp_path)

    def killed(path: Path, data: bytes) -> None:
        if path.name == "menard_scale.safetensors":
            raise KeyboardInterrupt
        path.write_bytes(data)

    monkeypatch.setattr(interchange, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        save_sae(tiny_sae(scale=2.0, seed=1), tmp_path)
    with pytest.raises(UserError, match="holds no SAE"):
        load_sae(tmp_path)


def test_a_scale_belongs_to_its_weights(tmp_path: Path):
    save_sae(tiny_sae(scale=2.0), tmp_path)
    save_sae(tiny_sae(scale=2.0, seed=1), tmp_path / "other")
    (tmp_path / "other/sae_weights.safetensors").replace(tmp_path / "sae_weights.safetensors")
    with pytest.raises(UserError, match="other weights"):
        load_sae(tmp_path)
    save_sae(tiny_sae(scale=None), tmp_path)
    assert load_sae(tmp_path).max_F is None
