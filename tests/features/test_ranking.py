"""The planted feature is found, held-out pieces choose nothing, and chance looks like chance on them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import yaml
from authored import BOS, CONFIG, CUT, DEAD, DECOY, FEATURES, PLANTED, SPECIAL, TOKENIZER, authors, cut, model, sae
from numpy.typing import NDArray
from transformers import LlamaForCausalLM

from menard_unlearn.config import build, conf_dir
from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.errors import UserError
from menard_unlearn.features.pieces import Pieces, pieces
from menard_unlearn.features.pooling import PooledActivations, pooled
from menard_unlearn.features.ranking import RankingConfig, live_features, rank


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    return model()


@pytest.fixture(scope="module")
def found(llama: LlamaForCausalLM) -> PooledActivations:
    return pooled(llama, sae(), cut(), SPECIAL, batch_size=8)


def ragged() -> Pieces:
    """Pieces of different lengths, with a token in the middle that is special and loud."""
    whole = cut()
    every = []
    for number, piece in enumerate(whole.every):
        ids = piece.item.ids[: 12 + number % 7 * 4]
        every.append(dataclasses.replace(piece, item=TokenItem(piece.id, (*ids[:6], BOS, *ids[6:]), 1)))
    return dataclasses.replace(whole, every=tuple(every))


def test_pooled_values_are_those_of_each_piece_alone(llama: LlamaForCausalLM) -> None:
    """Against transformers' own hidden states, one piece at a time and without padding."""
    reader, parts = sae(layer=0), ragged()
    found = pooled(llama, reader, parts, SPECIAL, batch_size=5)
    for place, piece in enumerate(parts.every):
        ids_1T = torch.tensor([piece.item.ids])
        with torch.no_grad():
            hidden_TD = llama(ids_1T, output_hidden_states=True).hidden_states[1][0]
        kept_T = torch.tensor([token not in SPECIAL for token in piece.item.ids])
        a_NF = reader.encode(hidden_TD[kept_T])
        np.testing.assert_allclose(found.mean_PF[place], a_NF.mean(0), atol=1e-4)
        np.testing.assert_allclose(found.active_PF[place], (a_NF > 0).float().mean(0), atol=1e-6)
        assert found.tokens_P[place] == len(piece.item.ids) - 2


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_neither_batches_nor_order_change_a_value(batch_size: int) -> None:
    exact, parts = model(torch.float64), ragged()
    special = SPECIAL - {0}  # what fills the rows is an ordinary token: it is left out by the mask alone
    plain = pooled(exact, sae(), parts, special, batch_size=7)
    turned = dataclasses.replace(parts, every=parts.every[::-1])
    for other, step in ((parts, 1), (turned, -1)):
        found = pooled(exact, sae(), other, special, batch_size=batch_size)
        np.testing.assert_allclose(found.mean_PF[::step], plain.mean_PF, atol=1e-5)
        np.testing.assert_array_equal(found.active_PF[::step], plain.active_PF)


def test_special_tokens_would_have_been_heard(llama: LlamaForCausalLM, found: PooledActivations) -> None:
    """BOS is ten times as loud as anything: where it counts, every piece has the feature."""
    others_P = ~cut().own_P
    assert not found.mean_PF[others_P][:, PLANTED].any()
    assert (pooled(llama, sae(), cut(), {0, 2}, batch_size=8).mean_PF[others_P][:, PLANTED] > 10).all()


def test_no_later_layer_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    own = model()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a layer after the autoencoder's ran")

    monkeypatch.setattr(own.model.layers[1], "forward", refuse)
    own.train()
    pooled(own, sae(layer=0), cut(), SPECIAL, batch_size=8)
    assert own.training
    with pytest.raises(AssertionError, match="after the autoencoder's"):
        pooled(own, sae(layer=1), cut(), SPECIAL, batch_size=8)


def test_what_does_not_fit_is_refused(llama: LlamaForCausalLM) -> None:
    reader = sae()
    with pytest.raises(UserError, match="the SAE reads layer 2, the model .* has layers 0 to 1"):
        pooled(llama, dataclasses.replace(reader, layer=2), cut(), SPECIAL, batch_size=8)
    narrow = dataclasses.replace(
        reader, W_enc_DF=torch.ones(16, FEATURES), W_dec_FD=torch.ones(FEATURES, 16), b_dec_D=torch.zeros(16)
    )
    with pytest.raises(UserError, match="vectors of 16 numbers, the model .* has 32"):
        pooled(llama, narrow, cut(), SPECIAL, batch_size=8)
    bare = cut()
    special = dataclasses.replace(bare.every[0], item=TokenItem("x", (BOS, BOS, 2), 1))
    with pytest.raises(UserError, match="has special tokens alone"):
        pooled(llama, reader, dataclasses.replace(bare, every=(special, *bare.every[1:])), SPECIAL, batch_size=8)
    long = dataclasses.replace(bare.every[0], item=TokenItem("x", (BOS,) * 600, 1))
    with pytest.raises(UserError, match="up to 600 tokens, the model's window holds 512"):
        pooled(llama, reader, dataclasses.replace(bare, every=(long, *bare.every[1:])), SPECIAL, batch_size=8)


def test_the_planted_feature_is_found(found: PooledActivations) -> None:
    rows = rank(found, cut(), CONFIG)
    # The decoy says the same, twice as loudly: only a clamp can tell them apart
    assert [row.feature for row in rows[:2]] == [DECOY, PLANTED]
    for row in rows[:2]:
        assert row.auroc == row.auroc_heldout == row.auroc_heldout_low == row.auroc_heldout_high == 1
        assert row.frequency_own == pytest.approx(0.5) and row.frequency_others == 0
        assert row.difference_heldout_low is not None and row.difference_heldout_low > 0
    assert rows[1].max_activation == 100 and rows[0].difference == pytest.approx(2 * rows[1].difference)
    assert DEAD not in live_features(found, cut(), CONFIG) and PLANTED in live_features(found, cut(), CONFIG)


def test_rows_by_hand(found: PooledActivations) -> None:
    parts = cut()
    row = rank(found, parts, CONFIG)[1]
    side_P, own_P, column_P = parts.on("train"), parts.own_P, found.mean_PF[:, PLANTED].astype(float)
    own, others = column_P[side_P & own_P], column_P[side_P & ~own_P]
    assert row.difference == pytest.approx(own.mean() - others.mean())
    spread = np.sqrt(own.var(ddof=1) / len(own) + others.var(ddof=1) / len(others))
    assert row.welch_t == pytest.approx((own.mean() - others.mean()) / spread)
    assert row.difference_heldout == pytest.approx(column_P[~side_P & own_P].mean() - column_P[~side_P & ~own_P].mean())


def made(mean_PF: NDArray[np.floating], pieces: Pieces) -> PooledActivations:
    """Activations of nowhere."""
    active_PF = np.full(mean_PF.shape, 0.5, np.float32)
    return PooledActivations(mean_PF.astype(np.float32), active_PF, np.full(len(pieces.every), 40), None)


def test_held_out_pieces_choose_nothing(found: PooledActivations) -> None:
    """A feature that gives the held-out pieces away, and a candidate that fails on them, change neither choice nor
    order."""
    parts, leak = cut(), 20
    held_P = parts.on("heldout")
    mean_PF = found.mean_PF.copy()
    mean_PF[held_P, leak] = 1e6 * parts.own_P[held_P]
    mean_PF[held_P, PLANTED] = 1e6 * ~parts.own_P[held_P]
    before, after = rank(found, parts, CONFIG), rank(dataclasses.replace(found, mean_PF=mean_PF), parts, CONFIG)
    kept = ("feature", "auroc", "difference", "welch_t", "frequency_own", "frequency_others")
    assert [[getattr(row, k) for k in kept] for row in before] == [[getattr(row, k) for k in kept] for row in after]
    assert after[1].auroc_heldout == 0 and before[1].auroc_heldout == 1


def test_a_chance_feature_is_chance_on_held_out_pieces() -> None:
    """The best of many random features shine on the side that chose them; on the other they do not."""
    parts = pieces(authors(8, 6), TOKENIZER, CUT)
    chosen, held = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rows = rank(made(np.abs(rng.normal(size=(len(parts.every), 300))), parts), parts, CONFIG)
        chosen += [row.auroc for row in rows]
        held += [row.auroc_heldout for row in rows]
    assert np.mean(chosen) > 0.7
    assert np.mean(held) == pytest.approx(0.5, abs=0.05)


def test_a_nearly_dead_feature_is_no_candidate(found: PooledActivations) -> None:
    parts = cut()
    active_PF = found.active_PF.copy()
    active_PF[:, DECOY] = 0.009
    rows = rank(dataclasses.replace(found, active_PF=active_PF), parts, CONFIG)
    assert rows[0].feature == PLANTED and DECOY not in [row.feature for row in rows]


def test_fewer_candidates_than_asked_for_where_no_more_lean_to_the_author() -> None:
    parts = cut()
    leaning_PF = np.stack([parts.own_P * 1.0, ~parts.own_P * 1.0, np.ones(len(parts.every))], axis=1)
    rows = rank(made(leaning_PF, parts), parts, CONFIG)
    assert [row.feature for row in rows] == [0]
    assert rows[0].welch_t is None and rows[0].max_activation is None
    assert rank(made(leaning_PF[:, 1:], parts), parts, CONFIG) == []


def test_intervals_need_two_works_and_two_authors() -> None:
    parts = cut(own=2, others=2)
    (row,) = rank(made(parts.own_P[:, None] * 1.0, parts), parts, CONFIG)
    assert row.auroc_heldout == 1
    assert row.auroc_heldout_low is row.auroc_heldout_high is row.difference_heldout_low is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_candidates": 0}, "ranking.n_candidates 0 is not allowed: give 1 or more"),
        ({"n_random": 9}, "ranking.n_random 9 is not allowed: give 10 or more"),
        ({"causal_per_work": 0}, "ranking.causal_per_work 0"),
        ({"replicates": 0}, "ranking.replicates 0"),
        ({"min_frequency": 0.0}, "ranking.min_frequency 0.0 is not between 0 and 1"),
        ({"k": 0.0}, "ranking.k 0.0 would not turn a feature up"),
    ],
)
def test_bad_values_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(CONFIG, **changes)  # pyright: ignore[reportArgumentType]


def test_the_committed_values_build() -> None:
    config = build(yaml.safe_load((conf_dir() / "ranking/default.yaml").read_text(encoding="utf-8")), RankingConfig)
    assert config.n_candidates == 20 and config.n_random >= 10
