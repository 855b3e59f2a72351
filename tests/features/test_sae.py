"""What an SAE computes, by hand, and the names under which the layers it reads are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_sae import FEATURES, tiny_sae

from menard_unlearn.errors import UserError
from menard_unlearn.features.sae import layer_of

X_ND = torch.randn(10, 32, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("apply", [True, False])
def test_jumprelu_by_hand(apply: bool):
    sae = replace(tiny_sae(), apply_b_dec_to_input=apply)
    assert sae.threshold_F is not None
    a_NF = sae.encode(X_ND)
    for n in range(len(X_ND)):
        x_D = X_ND[n] - sae.b_dec_D if apply else X_ND[n]
        for f in range(FEATURES):
            z = float(x_D @ sae.W_enc_DF[:, f] + sae.b_enc_F[f])
            assert float(a_NF[n, f]) == pytest.approx(z if z > float(sae.threshold_F[f]) else 0.0, abs=1e-5)
    torch.testing.assert_close(sae.decode(a_NF), a_NF @ sae.W_dec_FD + sae.b_dec_D)


def test_topk_keeps_the_k_largest_that_are_positive():
    sae = tiny_sae(k=5)
    pre_NF = (X_ND - sae.b_dec_D) @ sae.W_enc_DF + sae.b_enc_F
    a_NF = sae.encode(X_ND)
    for n in range(len(X_ND)):
        largest = pre_NF[n].argsort(descending=True)[:5].tolist()
        assert set(a_NF[n].nonzero()[:, 0].tolist()) == {f for f in largest if pre_NF[n, f] > 0}
    low = replace(sae, b_enc_F=torch.full((FEATURES,), -100.0))
    assert not low.encode(X_ND).any()  # a negative one is none of them


@pytest.mark.parametrize("k", [None, 5])
def test_some_features_are_those_columns(k: int | None):
    sae = tiny_sae(k=k)
    some = [7, 0, 11]
    torch.testing.assert_close(sae.encode_some(X_ND, some), sae.encode(X_ND)[:, some], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("apply", [True, False])
def test_leading_axes_are_kept_and_the_arithmetic_is_fp32(apply: bool):
    sae = replace(tiny_sae(), apply_b_dec_to_input=apply)
    a_NF = sae.encode(X_ND.bfloat16())
    assert a_NF.dtype == torch.float32
    assert torch.equal(sae.encode(X_ND.bfloat16().view(2, 5, 32)).view(10, FEATURES), a_NF)


def test_pieces_that_do_not_fit_are_refused():
    sae = tiny_sae()
    for changes in (
        {"b_enc_F": torch.zeros(3)},
        {"W_dec_FD": torch.zeros(32, FEATURES)},
        {"max_F": torch.zeros(2)},
        {"threshold_F": None},
        {"k": 3},
        {"architecture": "topk"},
    ):
        with pytest.raises(UserError):
            replace(sae, **changes)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("model.layers.3", 3),
        ("transformer.h.11", 11),
        ("blocks.0.hook_resid_post", 0),
        ("blocks.4.hook_resid_pre", 3),
    ],
)
def test_a_place_is_known_by_several_names(name: str, layer: int):
    assert layer_of(name) == layer


@pytest.mark.parametrize(
    "name", ["blocks.0.hook_resid_pre", "blocks.3.hook_mlp_out", "blocks.3.attn.hook_z", "model.layers.3.mlp", "None"]
)
def test_other_places_are_refused(name: str):
    with pytest.raises(UserError, match="residual stream"):
        layer_of(name)
