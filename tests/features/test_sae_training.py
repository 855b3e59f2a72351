"""Training finds a dictionary that was planted, and goes on where it broke off to the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from menard_unlearn.config import build, conf_dir
from menard_unlearn.errors import UserError
from menard_unlearn.features.sae import Sae
from menard_unlearn.features.sae_source import BatchTopK, JumpRelu, SaeSource, TopK, TrainedSae
from menard_unlearn.features.sae_trainable import Trainable, folded
from menard_unlearn.features.sae_training import LOGGED, _update, rate, train_sae
from menard_unlearn.features.shards import Shards, opened, write_shard

WIDTH, TRUE, ACTIVE, N = 16, 32, 3, 8000
COMMON: dict[str, Any] = {
    "expansion": 2.0,
    "k": ACTIVE,
    "steps": 400,
    "batch_size": 256,
    "learning_rate": 3e-3,
    "warm_up": 0.05,
    "decay": 0.2,
    "max_grad_norm": 1.0,
    "dead_after_tokens": 20000,
    "seed": 0,
    "log_every": 100,
    "checkpoint_every": 7,
}
KINDS: dict[str, TrainedSae] = {
    "batch_topk": BatchTopK(**COMMON, aux_weight=1 / 32, threshold_decay=0.95),
    "topk": TopK(**COMMON, aux_weight=1 / 32),
    "jumprelu": JumpRelu(**COMMON, sparsity_weight=0.1, sparsity_warm_up=0.5, bandwidth=0.3, first_threshold=0.5),
}


def planted() -> tuple[Tensor, Tensor]:
    """Directions, and tokens each of which is made of three of them."""
    generator = torch.Generator().manual_seed(0)
    true_FD = torch.randn(TRUE, WIDTH, generator=generator)
    true_FD /= true_FD.norm(dim=1, keepdim=True)
    chosen = torch.rand(N, TRUE, generator=generator).topk(ACTIVE, dim=1).indices
    a_NF = torch.zeros(N, TRUE).scatter(1, chosen, 1 + torch.rand(N, ACTIVE, generator=generator))
    return true_FD, 7 * (a_NF @ true_FD) + 3


def written(folder: Path, x_ND: Tensor) -> Shards:
    for number in range(4):
        write_shard(folder, number, x_ND[number * N // 4 : (number + 1) * N // 4])
    return opened(folder, "planted", [N // 4] * 4, N // 5)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return written(tmp_path_factory.mktemp("planted"), planted()[1])


def trained(shards: Shards, config: TrainedSae, resume: Path | None = None, logged: dict | None = None) -> Sae:
    def note(step: int, values: Any) -> None:
        if logged is not None:
            logged[step] = values

    return train_sae(shards, config, layer=1, model_name="planted", on_log=note, resume=resume)


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_dictionary_is_found(shards: Shards, kind: str):
    logged: dict[int, dict[str, float]] = {}
    sae = trained(shards, KINDS[kind], logged=logged)
    true_FD, _ = planted()
    found = ((sae.W_dec_FD @ true_FD.T).amax(0) > 0.9).double().mean()
    x_ND = torch.cat(list(shards.held_out(1000)))
    a_NF = sae.encode(x_ND)
    l0 = float((a_NF > 0).sum(1).double().mean())
    fvu = float((x_ND - sae.decode(a_NF)).square().sum() / (x_ND - x_ND.mean(0)).square().sum())
    assert found >= 0.9
    assert fvu < 0.2
    assert ACTIVE * 0.8 < l0 < ACTIVE * 1.5
    assert list(logged) == [100, 200, 300, 400]
    for values in logged.values():
        assert set(values) <= set(LOGGED)
    assert "dead_share" in logged[100]
    assert logged[400]["fvu"] < logged[100]["fvu"]
    # Of the last batch, whose features are chosen otherwise than by thresholds
    assert logged[400]["fvu"] == pytest.approx(fvu, abs=0.05)
    torch.testing.assert_close(sae.W_dec_FD.norm(dim=1), torch.ones(TRUE))
    assert sae.max_F is not None
    largest_F = torch.stack([sae.encode(x_ND).amax(0) for x_ND in shards.trained(999)]).amax(0)
    torch.testing.assert_close(sae.max_F, largest_F)


@pytest.mark.parametrize("kind", KINDS)
def test_what_broke_off_goes_on_to_the_same_bits(shards: Shards, kind: str, tmp_path: Path):
    config = replace(KINDS[kind], steps=20, log_every=1)
    expected = trained(shards, config)

    def until(step: int, _values: Any) -> None:
        if step == 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_sae(shards, config, layer=1, model_name="planted", on_log=until, resume=tmp_path)
    logged: dict[int, Any] = {}
    found = trained(shards, config, tmp_path, logged)
    assert list(logged) == list(range(15, 21))  # from the checkpoint of step 14
    for name in ("W_enc_DF", "b_enc_F", "W_dec_FD", "b_dec_D", "max_F", "threshold_F"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one is other is None or torch.equal(one, other)


def test_another_trainings_checkpoint_is_refused(shards: Shards, tmp_path: Path):
    config = replace(KINDS["topk"], steps=8)
    trained(shards, config, tmp_path)
    with pytest.raises(UserError, match="another training"):
        trained(shards, replace(config, seed=1), tmp_path)
    with pytest.raises(UserError, match="another training"):
        trained(replace(shards, key="other"), config, tmp_path)
    (tmp_path / "sae_training.pt").write_bytes(b"short")
    with pytest.raises(UserError, match="damaged"):
        trained(shards, config, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_the_scale_of_activations_does_not_matter(shards: Shards, kind: str, tmp_path: Path):
    config = replace(KINDS[kind], steps=20)
    one = trained(shards, config)
    other = trained(written(tmp_path, 4 * planted()[1]), config)  # a power of two, so that nothing rounds otherwise
    assert torch.equal(one.W_enc_DF, other.W_enc_DF) and torch.equal(one.W_dec_FD, other.W_dec_FD)
    assert torch.equal(4 * one.b_dec_D, other.b_dec_D) and torch.equal(4 * one.b_enc_F, other.b_enc_F)
    if one.threshold_F is not None and other.threshold_F is not None:
        assert torch.equal(4 * one.threshold_F, other.threshold_F)


@pytest.mark.parametrize("kind", KINDS)
def test_the_folded_sae_is_the_trained_one(kind: str):
    x_ND, scale = planted()[1][:500], 0.37
    config = KINDS[kind]
    trainable = Trainable(config, (x_ND * scale).mean(0))
    trainable.step(x_ND * scale, 1.0)  # gives batch_topk a threshold
    plain = trainable.as_used(0, "m")
    fold = folded(plain, scale)
    a_NF = plain.encode(x_ND * scale)
    assert 0 < int((a_NF > 0).sum()) < a_NF.numel()
    torch.testing.assert_close(fold.encode(x_ND), a_NF / scale, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fold.decode(fold.encode(x_ND)), plain.decode(a_NF) / scale, rtol=1e-4, atol=1e-4)


def test_batch_topk_keeps_k_a_token_of_the_batch_and_remembers_the_least():
    trainable = Trainable(replace(KINDS["batch_topk"], k=2), torch.zeros(WIDTH))
    expected = None
    for seed in range(3):
        x_ND = torch.randn(40, WIDTH, generator=torch.Generator().manual_seed(seed))
        a_NF = trainable.step(x_ND, 1.0).a_NF
        pre_NF = x_ND @ trainable.W_enc_DF + trainable.b_enc_F
        least = pre_NF.flatten().sort(descending=True).values[79].item()
        assert int((a_NF > 0).sum()) == 80
        assert torch.equal(a_NF > 0, pre_NF >= least)
        assert len(set((a_NF > 0).sum(1).tolist())) > 1  # not so many in every token
        expected = least if expected is None else 0.95 * expected + 0.05 * least
        assert float(trainable.running_threshold) == pytest.approx(expected, rel=1e-6)


def test_only_dead_features_learn_from_what_is_left():
    config = replace(KINDS["topk"], dead_after_tokens=100)
    trainable = Trainable(config, torch.zeros(WIDTH))
    with torch.no_grad():
        trainable.W_enc_DF[:, :5] *= 0.2  # never among the largest
    x_ND = torch.randn(60, WIDTH, generator=torch.Generator().manual_seed(0))
    assert "aux" not in trainable.step(x_ND, 0.0).terms
    step = trainable.step(x_ND, 0.0)
    dead = (trainable.silent_F >= 100).nonzero()[:, 0]
    assert 0 < len(dead) < TRUE and not (step.a_NF[:, dead] > 0).any()
    assert trainable.dead_share() == len(dead) / TRUE
    step.terms["aux"].backward()
    learning = (trainable.W_dec_FD.grad if trainable.W_dec_FD.grad is not None else torch.zeros(0)).any(1)
    assert set(learning.nonzero()[:, 0].tolist()) == set(dead.tolist())
    # By hand: the dead ones' activations, against the error that the others leave
    pre_NX = (x_ND @ trainable.W_enc_DF + trainable.b_enc_F)[:, dead].relu()
    kept_NX = pre_NX * (pre_NX >= pre_NX.topk(min(8, len(dead)), dim=1).values[:, -1:])
    error = (kept_NX @ trainable.W_dec_FD[dead] - step.error_ND).square().mean().detach()
    assert float(step.terms["aux"].detach()) == pytest.approx(float(error) / 32 * min(1, len(dead) / 8), rel=1e-5)


def test_thresholds_have_the_estimators_gradients():
    config = KINDS["jumprelu"]
    assert isinstance(config, JumpRelu)
    trainable = Trainable(config, torch.zeros(WIDTH))
    x_ND = torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(0))
    step = trainable.step(x_ND, 1.0)
    step.loss.backward()
    pre_NF = (x_ND @ trainable.W_enc_DF).detach()
    theta, width = config.first_threshold, config.bandwidth
    near_NF = ((pre_NF - theta).abs() < width / 2).float()
    l0 = (pre_NF > theta).sum(1).float().mean()
    of_a_NF = -2 * step.error_ND @ trainable.W_dec_FD.detach().T / step.error_ND.numel()
    of_l0 = config.sparsity_weight * 2 * (l0 / config.k - 1) / config.k
    expected_F = -(theta / width) * (near_NF * of_a_NF).sum(0) - of_l0 / width * near_NF.sum(0) / len(x_ND)
    assert near_NF.any()
    torch.testing.assert_close(trainable.threshold_F.grad, expected_F, rtol=1e-4, atol=1e-6)
    earlier = trainable.step(x_ND, 0.25).terms["sparsity"].detach()
    assert float(earlier) == pytest.approx(float(step.terms["sparsity"].detach()) / 2)


def test_the_gradient_keeps_rows_on_the_sphere_and_thresholds_stay_at_0_or_above():
    trainable = Trainable(KINDS["jumprelu"], torch.zeros(WIDTH))
    before_FD = trainable.W_dec_FD.detach().clone()
    _update(trainable, torch.optim.Adam(trainable.parameters()), planted()[1][:100] / 10, 0)
    assert trainable.W_dec_FD.grad is not None and trainable.W_dec_FD.grad.any()
    assert (trainable.W_dec_FD.grad * before_FD).sum(1).abs().max() < 1e-6
    torch.testing.assert_close(trainable.W_dec_FD.norm(dim=1), torch.ones(TRUE))
    with torch.no_grad():
        trainable.threshold_F.fill_(-1)
        trainable.W_dec_FD.mul_(3)
    trainable.settle()
    assert (trainable.threshold_F == 0).all()
    torch.testing.assert_close(trainable.W_dec_FD.norm(dim=1), torch.ones(TRUE))


def test_the_rate_rises_stays_and_falls():
    config = replace(KINDS["topk"], steps=100, warm_up=0.1, decay=0.2, learning_rate=1.0)
    rates = [rate(config, number) for number in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9:81] == [1.0] * 72
    assert rates[-1] == pytest.approx(1 / 20) and rates[10:] == sorted(rates[10:], reverse=True)
    assert {rate(replace(config, warm_up=0.0, decay=0.0), number) for number in range(100)} == {1.0}


def test_bad_values_are_refused(shards: Shards):
    for changes, message in (
        ({"k": 0}, r"sae\.k 0"),
        ({"expansion": -1.0}, r"sae\.expansion"),
        ({"log_every": 0}, r"sae\.log_every"),
        ({"warm_up": 0.9, "decay": 0.2}, r"sae\.warm_up"),
        ({"aux_weight": -1.0}, r"sae\.aux_weight"),
        ({"threshold_decay": 1.0}, r"sae\.threshold_decay"),
    ):
        with pytest.raises(UserError, match=message):
            replace(KINDS["batch_topk"], **changes)
    for changes in ({"bandwidth": 0.0}, {"sparsity_warm_up": 2.0}):
        with pytest.raises(UserError, match=f"sae.{next(iter(changes))}"):
            replace(KINDS["jumprelu"], **changes)
    with pytest.raises(UserError, match=r"sae\.k 32 asked of 32 features"):
        trained(shards, replace(KINDS["topk"], k=32))
    with pytest.raises(UserError, match=r"sae\.batch_size"):
        trained(shards, replace(KINDS["topk"], batch_size=N))
    with pytest.raises(UserError, match="no longer a number"):
        trained(shards, replace(KINDS["topk"], learning_rate=1e30, max_grad_norm=1e30))


@pytest.mark.parametrize("name", sorted(path.stem for path in (conf_dir() / "sae").glob("*.yaml")))
def test_every_choice_is_a_source(name: str):
    values = yaml.safe_load((conf_dir() / f"sae/{name}.yaml").read_text())
    assert isinstance(
        build({key: "x" if value == "???" else value for key, value in values.items()}, SaeSource), SaeSource
    )
