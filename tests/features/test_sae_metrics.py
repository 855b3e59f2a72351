"""Measures of an SAE on cases whose answers are known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tiny_sae import BOS, texts, tiny_sae
from toy import llama
from transformers import PreTrainedModel

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.errors import UserError
from menard_unlearn.features.activations import stream
from menard_unlearn.features.hooks import special_ids
from menard_unlearn.features.sae import Sae
from menard_unlearn.features.sae_metrics import KEYS, _Sums, measure_sae, measure_scale
from menard_unlearn.models.scores import score

WIDTH, VOCABULARY, LAST = 32, 259, 1


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return llama(VOCABULARY, layers=2, dtype=torch.float32)


@pytest.fixture(scope="module")
def items(model: PreTrainedModel) -> list[TokenItem]:
    """What the model itself has written, so that it foretells it better whole than ablated."""
    torch.manual_seed(0)
    ids_BT = torch.full((6, 1), BOS)
    with torch.no_grad():
        for _ in range(30):
            logits_BV = model(input_ids=ids_BT).logits[:, -1]
            logits_BV[:, :3] = -torch.inf
            ids_BT = torch.cat([ids_BT, logits_BV.softmax(1).multinomial(1)], 1)
    return [TokenItem(f"written {n}", tuple(ids[: 31 - n]), 2) for n, ids in enumerate(ids_BT.tolist())]


def identity(layer: int) -> Sae:
    """x = relu(x) − relu(−x): 2·D features that leave nothing out."""
    both_FD = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)])
    zeros_F = torch.zeros(2 * WIDTH)
    return Sae(
        "jumprelu", both_FD.T.contiguous(), zeros_F, both_FD, torch.zeros(WIDTH), zeros_F, None, True, layer, "identity"
    )


def silent(layer: int, b_dec_D: torch.Tensor) -> Sae:
    """Never fires: everything is b_dec."""
    sae = identity(layer)
    return replace(sae, threshold_F=torch.full((2 * WIDTH,), 1e9), b_dec_D=b_dec_D, apply_b_dec_to_input=False)


def measured(model: PreTrainedModel, sae: Sae, items: list[TokenItem], batch_size: int = 4) -> dict:
    return measure_sae(model, sae, items, special=special_ids(model), batch_size=batch_size, chunk=16)


@pytest.mark.parametrize("layer", [0, 1])
def test_an_sae_that_leaves_nothing_out_recovers_everything(model: PreTrainedModel, items: list[TokenItem], layer: int):
    found = measured(model, identity(layer), items)
    assert set(found) == set(KEYS)
    assert found["fvu"] == pytest.approx(0, abs=1e-12) and found["explained_variance"] == pytest.approx(1)
    assert found["l0"] == WIDTH and found["dead_share"] == 0
    assert found["ce_sae"] == pytest.approx(found["ce_clean"], abs=1e-5)
    assert found["loss_recovered_zero"] == pytest.approx(1, abs=1e-4)
    assert found["loss_recovered_mean"] == pytest.approx(1, abs=1e-4)
    assert found["left_out"] == []


def test_an_sae_that_says_nothing_recovers_nothing(model: PreTrainedModel, items: list[TokenItem]):
    zero = measured(model, silent(0, torch.zeros(WIDTH)), items)
    assert zero["loss_recovered_zero"] == pytest.approx(0, abs=1e-6)
    assert (zero["l0"], zero["dead_share"]) == (0, 1)
    x_ND = torch.cat(
        list(stream(model, [replace(item, ids=item.ids[:-1]) for item in items], layer=0, special={1, 2}, batch_size=1))
    )
    mean = measured(model, silent(0, x_ND.mean(0)), items)
    assert mean["loss_recovered_mean"] == pytest.approx(0, abs=1e-4)
    assert mean["fvu"] == pytest.approx(1, abs=1e-5)
    assert zero["n_tokens"] == len(x_ND)


def test_zeros_after_the_last_layer_leave_no_knowledge(model: PreTrainedModel, items: list[TokenItem]):
    found = measured(model, identity(LAST), items)
    assert found["ce_zero"] == pytest.approx(math.log(VOCABULARY), abs=1e-5)
    # But BOS keeps what it knows of the first word
    begun = [replace(item, ids=item.ids[:2], n_prompt=1) for item in items]
    scores = score(model, begun, batch_size=9, chunk=9, padding=0)
    first = -sum(scores.of(item).logprob for item in begun)
    others = sum(len(item.ids) - 2 for item in items)
    with_first = measured(model, identity(LAST), [replace(item, n_prompt=1) for item in items])
    expected = (first + others * math.log(VOCABULARY)) / (len(items) + others)
    assert with_first["ce_zero"] == pytest.approx(expected, abs=1e-5)


def test_where_an_ablation_does_no_harm_there_is_nothing_to_recover(model: PreTrainedModel):
    noise = [replace(item, n_prompt=2) for item in texts(6, 30, VOCABULARY)]
    found = measured(model, identity(LAST), noise)
    assert found["ce_zero"] < found["ce_clean"]
    assert found["loss_recovered_zero"] is None
    assert found["left_out"][0].startswith("loss_recovered_zero: this ablation changes the loss by -")


def test_tokens_are_counted_to_the_one_and_not_by_batches(items: list[TokenItem]):
    expected = sum(len(item.ids) - 2 for item in items)  # neither BOS nor the last
    results = [
        measured(llama(VOCABULARY, layers=2, dtype=torch.float32), tiny_sae(layer=0), items, batch_size)
        for batch_size in (1, 6)  # a model that was never run before, each
    ]
    for found in results:
        assert found["n_tokens"] == expected
        assert found["n_scored"] == sum(len(item.ids) - 2 for item in items)
    for key in set(KEYS) - {"left_out"}:
        assert results[0][key] == pytest.approx(results[1][key], abs=1e-4)


def test_special_tokens_are_neither_measured_nor_replaced(model: PreTrainedModel, items: list[TokenItem]):
    """BOS is made a thousand times as long; the norm before attention hides that from the others."""
    sae = tiny_sae(layer=0)
    with torch.no_grad():
        before = measure_sae(model, sae, items, special={BOS}, batch_size=4, chunk=16)
        kept = model.get_input_embeddings().weight[BOS].clone()  # pyright: ignore[reportIndexIssue]
        try:
            model.get_input_embeddings().weight[BOS] *= 30000  # pyright: ignore[reportIndexIssue]
            rows = torch.cat(list(stream(model, items, layer=0, special=(), batch_size=1))).norm(dim=1)
            found = measure_sae(model, sae, items, special={BOS}, batch_size=4, chunk=16)
            with_bos = measure_sae(model, sae, items, special=(), batch_size=4, chunk=16)
        finally:
            model.get_input_embeddings().weight[BOS] = kept  # pyright: ignore[reportIndexIssue]
    assert rows.max() > 1000 * rows.median()
    for key in ("n_tokens", "l0", "fvu", "explained_variance", "dead_share"):
        assert found[key] == pytest.approx(before[key], abs=1e-3)
    assert abs(with_bos["fvu"] - before["fvu"]) > 0.3
    assert with_bos["n_tokens"] == found["n_tokens"] + len(items)


def test_the_variance_is_exact_far_from_zero():
    x_ND = 1e4 + torch.randn(500, WIDTH, generator=torch.Generator().manual_seed(0))
    sums, sae = _Sums(), tiny_sae()
    for some_ND in x_ND.split(77):
        sums.add(sae, some_ND)
    exact = float((x_ND.double() - x_ND.double().mean(0)).square().sum())
    assert sums.variance == pytest.approx(exact, rel=1e-6)
    equal = _Sums()
    equal.add(sae, torch.full((9, WIDTH), 0.1))
    assert equal.variance == 0


@pytest.mark.parametrize("k", [None, 5])
def test_a_scale_is_the_largest_on_tokens_that_count(model: PreTrainedModel, items: list[TokenItem], k: int | None):
    sae = tiny_sae(layer=1, k=k, scale=None)
    found = measure_scale(model, sae, items, special=special_ids(model), batch_size=4)
    x_ND = torch.cat(list(stream(model, items, layer=1, special=special_ids(model), batch_size=1)))
    assert found.max_F is not None
    torch.testing.assert_close(found.max_F, sae.encode(x_ND).amax(0), rtol=1e-4, atol=1e-4)
    (found.max_F * torch.ones((), requires_grad=True)).sum().backward()  # no tensor of inference mode


def test_what_cannot_be_measured_is_refused(model: PreTrainedModel, items: list[TokenItem]):
    cases = [
        (tiny_sae(16), items, "vectors of 16 numbers"),
        (tiny_sae(layer=2), items, "layers 0 to 1"),
        (tiny_sae(), [TokenItem("special", (1, 2, 1), 1)], "no token but special ones"),
        (tiny_sae(), [TokenItem("long", (5,) * 513, 1)], "the model's window 512"),
    ]
    for sae, given, message in cases:
        with pytest.raises(UserError, match=message):
            measured(model, sae, given)
        with pytest.raises(UserError, match=message):
            measure_scale(model, sae, given, special=special_ids(model), batch_size=4)
