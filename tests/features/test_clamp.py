"""A clamp is exact where it has nothing to do, the same however a text is read, and touches only what it should."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_sae import BOS, FEATURES, texts, tiny_sae
from torch import Tensor
from toy import llama
from transformers import BloomConfig, BloomForCausalLM, PreTrainedModel

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.errors import UserError
from menard_unlearn.features.clamp import clamp, clamping
from menard_unlearn.features.hooks import Positions, editing
from menard_unlearn.features.sae import Sae
from menard_unlearn.models.long import Reader, has_cache, score_long, way
from menard_unlearn.models.scores import score

VOCABULARY = 259
STRENGTHS = {3: 1.5, 7: -0.5}


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return llama(VOCABULARY, layers=3, dtype=torch.float32)


@torch.no_grad()
def logits(model: PreTrainedModel, ids: list[int]) -> Tensor:
    return model(input_ids=torch.tensor([ids])).logits[0]


@torch.no_grad()
def stream_after(model: PreTrainedModel, layer: int, ids: list[int]) -> Tensor:
    seen = []
    with editing(model, layer, lambda hidden_BTD, _: seen.append(hidden_BTD[0].clone()), ()):
        model(input_ids=torch.tensor([ids]))
    return seen[0]


IDS = list(texts(1, 12, VOCABULARY)[0].ids)


def everywhere(n_tokens: int) -> Positions:
    return Positions(torch.ones(1, n_tokens, dtype=torch.long), torch.ones(1, n_tokens, dtype=torch.bool), 0)


EVERYWHERE = everywhere(12)


def test_no_features_change_no_bit(model: PreTrainedModel):
    plain_TV = logits(model, IDS)
    with clamp(model, tiny_sae(), {}):
        assert torch.equal(logits(model, IDS), plain_TV)
    with clamp(model, tiny_sae(scale=None), {}):  # nor is a unit needed for them
        assert torch.equal(logits(model, IDS), plain_TV)


@pytest.mark.parametrize("k", [None, 6])
def test_a_feature_that_stands_at_c_changes_no_bit(model: PreTrainedModel, k: int | None):
    sae = tiny_sae(k=k)
    a_TF = sae.encode(stream_after(model, sae.layer, IDS))
    place = int((a_TF[1:] > 0).sum(1).argmax()) + 1
    standing = a_TF[place].nonzero()[:, 0].tolist()
    silent = (a_TF[place] == 0).nonzero()[:, 0].tolist()
    sae = replace(sae, max_F=a_TF[place].clone())
    plain_TV = logits(model, IDS)

    def there(positions: Positions) -> Tensor:
        return torch.arange(positions.kept_BT.shape[1]).eq(place).expand_as(positions.kept_BT)

    with clamp(model, sae, dict.fromkeys(standing, 1.0) | dict.fromkeys(silent, 0.0), where=there):
        assert torch.equal(logits(model, IDS), plain_TV)
    with clamp(model, sae, {standing[0]: 1.5}, where=there):
        assert not torch.allclose(logits(model, IDS), plain_TV)


@pytest.mark.parametrize("k", [None, 6])
@pytest.mark.parametrize("strengths", [{3: 1.5}, STRENGTHS, {3: 0.0, 7: 0.0, 11: 0.0}])
def test_the_difference_is_that_of_the_reconstructions(k: int | None, strengths: dict[int, float]):
    sae = tiny_sae(k=k)
    x_BTD = torch.randn(1, 12, 32, generator=torch.Generator().manual_seed(1))
    a_BTF = sae.encode(x_BTD)
    clamped_BTF = a_BTF.clone()
    for feature, strength in strengths.items():
        clamped_BTF[..., feature] = strength * 3.0
    expected_BTD = sae.decode(clamped_BTF) + (x_BTD - sae.decode(a_BTF))
    found_BTD = clamping(sae, strengths)(x_BTD, EVERYWHERE)
    assert found_BTD is not None
    torch.testing.assert_close(found_BTD, expected_BTD, rtol=0, atol=1e-5)


def test_several_features_are_several_clamps(model: PreTrainedModel):
    sae = tiny_sae()
    x_BTD = torch.randn(1, 12, 32)
    each = [clamping(sae, {feature: strength})(x_BTD, EVERYWHERE) for feature, strength in STRENGTHS.items()]
    together_BTD = clamping(sae, STRENGTHS)(x_BTD, EVERYWHERE)
    changes = [found_BTD - x_BTD for found_BTD in each if found_BTD is not None]
    assert len(changes) == 2 and together_BTD is not None
    torch.testing.assert_close(together_BTD, x_BTD + sum(changes), rtol=0, atol=1e-5)


def test_special_tokens_and_what_where_leaves_out_stay_to_the_bit(model: PreTrainedModel):
    sae, ids = tiny_sae(), [BOS, 9, 2, 30, 31, 32]
    plain_TD = stream_after(model, sae.layer, ids)
    with clamp(model, sae, STRENGTHS):
        clamped_TD = stream_after(model, sae.layer, ids)
    assert (clamped_TD != plain_TD).any(1).tolist() == [False, True, False, True, True, True]
    with clamp(model, sae, STRENGTHS, where=lambda positions: positions.input_ids_BT == 31):
        clamped_TD = stream_after(model, sae.layer, ids)
    assert (clamped_TD != plain_TD).any(1).tolist() == [False, False, False, False, True, False]
    with clamp(model, sae, STRENGTHS, special={9}):
        clamped_TD = stream_after(model, sae.layer, ids)
    assert (clamped_TD != plain_TD).any(1).tolist() == [True, False, True, True, True, True]


def test_the_sae_is_fp32_under_a_bf16_model():
    sae = tiny_sae()
    x_BTD = (100 * torch.randn(1, 12, 32, generator=torch.Generator().manual_seed(2))).bfloat16()
    found_BTD = clamping(sae, STRENGTHS)(x_BTD, EVERYWHERE)
    exact_BTD = clamping(sae, STRENGTHS)(x_BTD.float(), EVERYWHERE)
    assert found_BTD is not None and exact_BTD is not None
    assert torch.equal(found_BTD, exact_BTD.bfloat16())  # rounded once
    with torch.no_grad():
        model = llama(VOCABULARY, layers=3, dtype=torch.float32).bfloat16()
        plain_TV = logits(model, IDS)
        with clamp(model, sae, STRENGTHS):
            clamped_TV = logits(model, IDS)
    assert clamped_TV.dtype == torch.bfloat16 and not torch.equal(clamped_TV, plain_TV)


def test_layers_that_answer_tuples_are_clamped():
    torch.manual_seed(0)
    bloom = BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=32, n_layer=3, n_head=2)).eval()
    ids = [1, 5, 6, 7]
    plain_TD = stream_after(bloom, 1, ids)
    with clamp(bloom, tiny_sae(), STRENGTHS):
        found_TD = stream_after(bloom, 1, ids)
    expected_BTD = clamping(tiny_sae(), STRENGTHS)(plain_TD[None], everywhere(4))
    assert expected_BTD is not None
    assert torch.equal(found_TD[1:], expected_BTD[0, 1:]) and torch.equal(found_TD[0], plain_TD[0])


def scored(model: PreTrainedModel, sae: Sae, items: list[TokenItem], batch_size: int, padding: int) -> Tensor:
    with clamp(model, sae, STRENGTHS):
        scores = score(model, items, batch_size=batch_size, chunk=7, padding=padding)
    return torch.cat([torch.from_numpy(scores.of(item).logprob_T) for item in items])


@pytest.mark.parametrize("k", [None, 6])
def test_scores_do_not_depend_on_padding_batches_or_pieces(model: PreTrainedModel, k: int | None):
    sae, items = tiny_sae(k=k), texts(5, 20, VOCABULARY, ragged=4)
    alone_N = scored(model, sae, items, 1, 0)
    for batch_size, padding in ((2, 0), (5, 0), (5, 9), (5, BOS)):
        torch.testing.assert_close(scored(model, sae, items, batch_size, padding), alone_N, rtol=0, atol=1e-4)
    assert has_cache(model)
    for piece in (3, 8):
        with clamp(model, sae, STRENGTHS):
            found = [torch.from_numpy(score_long(model, item, piece=piece, chunk=5).logprob_T) for item in items]
        torch.testing.assert_close(torch.cat(found), alone_N, rtol=0, atol=1e-4)
    plain = score(model, items, batch_size=5, chunk=7, padding=0)
    plain_N = torch.cat([torch.from_numpy(plain.of(item).logprob_T) for item in items])
    assert (plain_N - alone_N).abs().max() > 0.1


def test_a_cache_from_before_the_clamp_shifts_what_follows(model: PreTrainedModel):
    sae, states = tiny_sae(layer=0), {}
    for first_clamped in (True, False):
        reader = Reader(model, len(IDS), way(model))
        with torch.no_grad():
            with clamp(model, sae, STRENGTHS if first_clamped else {}):
                reader.step(IDS[:6])
            with clamp(model, sae, STRENGTHS):
                states[first_clamped] = reader.step(IDS[6:])
    with torch.no_grad(), clamp(model, sae, STRENGTHS):
        whole_PD = Reader(model, len(IDS), way(model)).step(IDS)[6:]
    torch.testing.assert_close(states[True], whole_PD, rtol=0, atol=1e-4)
    assert not torch.allclose(states[False], whole_PD, rtol=0, atol=1e-2)


@pytest.mark.parametrize("padded", [0, 3])
def test_generation_follows_what_teacher_forcing_says(model: PreTrainedModel, padded: int):
    sae, prompt = tiny_sae(), IDS[:5]
    ids_BT = torch.tensor([[9] * padded + prompt])
    mask_BT = torch.tensor([[0] * padded + [1] * len(prompt)])
    with clamp(model, sae, STRENGTHS):
        output_BT = model.generate(  # pyright: ignore[reportCallIssue]
            input_ids=ids_BT, attention_mask=mask_BT, max_new_tokens=8, do_sample=False, eos_token_id=-1, pad_token_id=0
        )
        written = output_BT[0, padded:].tolist()
        argmax_T = logits(model, written).argmax(1)
    assert written[5:] == argmax_T[4:-1].tolist()
    assert written[5:] != logits(model, written).argmax(1)[4:-1].tolist()


def test_what_does_not_fit_is_refused(model: PreTrainedModel):
    cases = [
        (tiny_sae(16), {0: 1.0}, "vectors of 16 numbers, the model LlamaForCausalLM has 32"),
        (tiny_sae(layer=3), {0: 1.0}, "layer 3, the model LlamaForCausalLM has layers 0 to 2"),
        (tiny_sae(), {FEATURES: 1.0}, f"feature {FEATURES} asked for, the SAE has features 0 to {FEATURES - 1}"),
        (tiny_sae(), {-1: 1.0}, "feature -1 asked for"),
        (tiny_sae(scale=None), {0: 1.0}, "not measured"),
    ]
    for sae, strengths, message in cases:
        with pytest.raises(UserError, match=message), clamp(model, sae, strengths):
            pass
