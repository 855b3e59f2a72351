"""What we write sae-lens reads, and what it writes we read, to the bit. Needs the extra `sae`: `make test-sae`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_sae import tiny_sae
from torch import Tensor

from menard_unlearn.errors import UserError
from menard_unlearn.features.interchange import load_sae, save_sae
from menard_unlearn.features.sae import Sae
from menard_unlearn.features.sae_lens import download

lens: Any = pytest.importorskip("sae_lens", reason="needs the extra: pip install 'menard-unlearn[sae]'")

WIDTH, FEATURES = 32, 24
X_ND = 3 * torch.randn(200, WIDTH, generator=torch.Generator().manual_seed(3))


def tensors(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "sae_weights.safetensors")


def assert_reads_alike(theirs: Any, ours: Sae, *, exactly: bool = True) -> None:
    with torch.no_grad():
        a_NF, x_ND = theirs.encode(X_ND), theirs.decode(theirs.encode(X_ND))
    assert 0 < int((a_NF > 0).sum()) < a_NF.numel()
    for found, expected in ((ours.encode(X_ND), a_NF), (ours.decode(ours.encode(X_ND)), x_ND)):
        if exactly:
            assert torch.equal(found, expected)
        else:
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def made(architecture: str, **changes: Any) -> Any:
    """An SAE of theirs with random weights."""
    metadata = lens.saes.sae.SAEMetadata(model_name="toy", hook_name="blocks.2.hook_resid_post")
    classes = {
        "standard": (lens.StandardSAE, lens.StandardSAEConfig),
        "jumprelu": (lens.JumpReLUSAE, lens.JumpReLUSAEConfig),
        "topk": (lens.TopKSAE, lens.TopKSAEConfig),
        "batchtopk": (lens.BatchTopKTrainingSAE, lens.BatchTopKTrainingSAEConfig),
    }
    kind, config = classes[architecture]
    sae = kind(config(d_in=WIDTH, d_sae=FEATURES, metadata=metadata, **changes))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator) * (0.3 if name.startswith("W") else 0.1)
            parameter.copy_(drawn.abs() if name == "threshold" else drawn)
        if architecture == "batchtopk":
            sae.topk_threshold.fill_(0.4)
    return sae


@pytest.mark.parametrize("k", [None, 5])
def test_ours_is_read_and_comes_back_to_the_byte(tmp_path: Path, k: int | None):
    sae = tiny_sae(k=k, layer=2)
    save_sae(sae, tmp_path / "ours")
    theirs = lens.SAE.load_from_disk(tmp_path / "ours")
    assert theirs.cfg.metadata.hook_name == "blocks.2.hook_resid_post" and theirs.cfg.metadata.model_name == "tiny"
    assert_reads_alike(theirs, sae)
    theirs.save_model(tmp_path / "theirs")
    ours_again = load_sae(tmp_path / "theirs")
    weights = "sae_weights.safetensors"
    save_sae(ours_again, tmp_path / "again")
    assert (tmp_path / "again" / weights).read_bytes() == (tmp_path / "ours" / weights).read_bytes()
    assert (tmp_path / "again/cfg.json").read_bytes() == (tmp_path / "ours/cfg.json").read_bytes()
    for name, tensor in tensors(tmp_path / "ours").items():
        assert torch.equal(tensors(tmp_path / "theirs")[name], tensor)


@pytest.mark.parametrize("apply", [True, False])
@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "topk"])
def test_theirs_is_read_and_comes_back_to_the_bit(tmp_path: Path, architecture: str, apply: bool):
    theirs = made(architecture, apply_b_dec_to_input=apply, **({"k": 5} if architecture == "topk" else {}))
    theirs.save_model(tmp_path / "theirs")
    ours = load_sae(tmp_path / "theirs")
    assert (ours.layer, ours.model_name, ours.max_F) == (2, "toy", None)
    assert_reads_alike(theirs, ours)
    save_sae(ours, tmp_path / "ours")
    assert_reads_alike(lens.SAE.load_from_disk(tmp_path / "ours"), ours)
    for name, tensor in tensors(tmp_path / "theirs").items():
        assert torch.equal(tensors(tmp_path / "ours")[name], tensor)


def test_their_batch_topk_is_read_as_jumprelu(tmp_path: Path):
    theirs = made("batchtopk", k=5, rescale_acts_by_decoder_norm=True)
    theirs.save_inference_model(tmp_path)
    ours = load_sae(tmp_path)
    assert ours.architecture == "jumprelu" and ours.threshold_F is not None
    assert ours.threshold_F.tolist() == pytest.approx([0.4] * FEATURES)
    assert_reads_alike(lens.SAE.load_from_disk(tmp_path), ours)


def test_rescaling_by_decoder_norms_is_theirs(tmp_path: Path):
    theirs = made("topk", k=5, rescale_acts_by_decoder_norm=True)
    theirs.save_model(tmp_path)
    assert_reads_alike(theirs, load_sae(tmp_path), exactly=False)


def test_a_stated_factor_is_folded_as_theirs(tmp_path: Path):
    theirs, factor = made("jumprelu", normalize_activations="expected_average_only_in"), 1.7
    theirs.save_model(tmp_path)
    (tmp_path / "activation_scaler.json").write_text(json.dumps({"scaling_factor": factor, "has_whitening": False}))
    ours = load_sae(tmp_path)
    theirs.fold_activation_norm_scaling_factor(factor)
    with torch.no_grad():
        a_NF = theirs.encode(X_ND)
        torch.testing.assert_close(ours.decode(ours.encode(X_ND)), theirs.decode(a_NF), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.encode(X_ND), a_NF / factor, rtol=1e-4, atol=1e-5)


def test_a_published_one_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def published(release: str, sae_id: str) -> Any:
        asked.append((release, sae_id))
        return made("jumprelu")

    monkeypatch.setattr(lens.SAE, "from_pretrained", published)
    for _ in range(2):
        assert download("release", "layer_2", tmp_path) == tmp_path
    assert asked == [("release", "layer_2")]
    assert_reads_alike(made("jumprelu"), load_sae(tmp_path))
    with pytest.raises(UserError, match="another published SAE"):
        download("release", "layer_3", tmp_path)


def test_an_unknown_name_is_refused_in_one_line(tmp_path: Path):
    with pytest.raises(UserError, match="'no-such-release'.*cannot be had") as refusal:
        download("no-such-release", "layer_2", tmp_path / "to")
    assert "\n" not in str(refusal.value) and not (tmp_path / "to").exists()
