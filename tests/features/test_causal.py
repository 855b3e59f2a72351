"""What a clamp does decides, random features are beaten on pieces that chose nothing, and a doubt is said aloud."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from authored import CONFIG as FEW
from authored import DECOY, PLANTED, SPECIAL, TOKENIZER, cut, model, sae
from transformers import LlamaForCausalLM

from menard_unlearn.errors import UserError
from menard_unlearn.features.causal import EFFECT_KEYS, HELDOUT_KEYS, KEYS, RANDOM_KEYS, rerank
from menard_unlearn.features.clamp import clamp
from menard_unlearn.features.hooks import Positions
from menard_unlearn.features.pieces import Pieces
from menard_unlearn.features.pooling import PooledActivations, pooled
from menard_unlearn.features.ranking import FeatureRow, RankingConfig, rank
from menard_unlearn.features.sae import Sae
from menard_unlearn.features.steering import Intervention, kept_states, of_feature
from menard_unlearn.files import write_json
from menard_unlearn.stages.features.chosen import Chosen, controls

CONFIG = dataclasses.replace(FEW, n_random=20)
"""Of 19 or more can p be 0.05."""


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    return model()


@pytest.fixture(scope="module")
def activations(llama: LlamaForCausalLM) -> PooledActivations:
    return pooled(llama, sae(), cut(), SPECIAL, batch_size=8)


def tried(
    llama: LlamaForCausalLM,
    activations: PooledActivations,
    *,
    parts: Pieces | None = None,
    config: RankingConfig = CONFIG,
    reader: Sae | None = None,
    rows: list[FeatureRow] | None = None,
    batch_size: int = 8,
) -> dict[str, Any]:
    parts = parts or cut()
    rows = rank(activations, parts, config) if rows is None else rows
    reader = reader or sae()
    return rerank(llama, reader, rows, activations, parts, config, special=SPECIAL, batch_size=batch_size, chunk=64)


@pytest.fixture(scope="module")
def result(llama: LlamaForCausalLM, activations: PooledActivations) -> dict[str, Any]:
    return tried(llama, activations)


def test_the_feature_that_acts_is_chosen_and_not_the_one_that_merely_tells(result: dict[str, Any]) -> None:
    assert (result["status"], result["chosen"]) == ("found", PLANTED)
    by_feature = {row["feature"]: row for row in result["rows"]}
    assert result["rows"][0]["feature"] == DECOY and by_feature[DECOY]["causal"] == 0
    planted = by_feature[PLANTED]
    assert planted["causal"] > 0.2 and planted["causal_low"] > 0.1 and planted["random_at_least"] == 0
    assert planted["gain_own"] > 0 > planted["gain_others"]
    assert result["heldout"]["causal"] > 0.2 and result["heldout"]["p"] == 1 / 21
    assert result["left_out"] == []


def test_every_number_is_named_and_none_is_nan(result: dict[str, Any], tmp_path: Path) -> None:
    fields = [field.name for field in dataclasses.fields(FeatureRow)]
    assert list(result) == list(KEYS)
    assert all(list(row) == [*fields, *EFFECT_KEYS] for row in result["rows"])
    assert list(result["heldout"]) == list(HELDOUT_KEYS)
    assert all(list(entry) == list(RANDOM_KEYS) for entry in result["random"])
    write_json(tmp_path / "features.json", result)


def test_effects_by_hand(llama: LlamaForCausalLM, result: dict[str, Any]) -> None:
    """One piece at a time through the whole model, clamped and not."""
    sums = {True: [0.0, 0], False: [0.0, 0]}
    for piece in cut().some("train", CONFIG.causal_per_work).every:
        ids_1T = torch.tensor([piece.item.ids])

        def logprob(ids_1T: torch.Tensor = ids_1T) -> float:
            with torch.no_grad():
                logits_TV = llama(ids_1T).logits[0, :-1].double()
            return float(logits_TV.log_softmax(1).gather(1, ids_1T[0, 1:, None]).sum())

        plain = logprob()
        with clamp(llama, sae(), {PLANTED: CONFIG.k}, special=SPECIAL):
            sums[piece.own][0] += logprob() - plain
        sums[piece.own][1] += len(piece.item.ids) - 1
    row = next(row for row in result["rows"] if row["feature"] == PLANTED)
    gains = [total / n for total, n in sums.values()]
    assert [row["gain_own"], row["gain_others"]] == pytest.approx(gains, abs=1e-5)
    assert row["causal"] == pytest.approx(gains[0] - gains[1], abs=1e-5)


def test_random_features_are_live_others_and_counted_fairly(result: dict[str, Any]) -> None:
    candidates = {row["feature"] for row in result["rows"]}
    drawn = {entry["feature"] for entry in result["random"]}
    assert len(drawn) == len(result["random"]) == CONFIG.n_random and not drawn & candidates
    for row in result["rows"]:
        assert row["random_at_least"] == np.mean([entry["causal"] >= row["causal"] for entry in result["random"]])
    assert result["chosen"] == max(result["rows"], key=lambda row: row["causal"])["feature"]


def test_batches_change_nothing(activations: PooledActivations) -> None:
    exact = model(torch.float64)
    one, many = (tried(exact, activations, batch_size=size) for size in (1, 100))
    for key in ("rows", "random"):
        for a, b in zip(one[key], many[key], strict=True):
            assert {k: v for k, v in a.items() if v is not None} == pytest.approx(
                {k: v for k, v in b.items() if v is not None}, abs=1e-6
            )


def test_held_out_pieces_choose_nothing(
    llama: LlamaForCausalLM, activations: PooledActivations, result: dict[str, Any]
) -> None:
    """With the held-out side's labels turned round, choice and training side are the same and the verdict is not."""
    parts = cut()
    turned = [dataclasses.replace(p, own=not p.own) if p.side == "heldout" else p for p in parts.every]
    rows = rank(activations, parts, CONFIG)
    other = tried(llama, activations, parts=dataclasses.replace(parts, every=tuple(turned)), rows=rows)
    assert (other["chosen"], other["rows"]) == (result["chosen"], result["rows"])
    assert other["heldout"]["causal"] < 0 and other["status"] == "not_better_than_random"


def test_a_choice_that_random_features_equal_is_called_that(
    llama: LlamaForCausalLM, activations: PooledActivations
) -> None:
    """Nobody's feature acts: the best candidate is still named, with the doubt beside it."""
    reader = sae()
    W_dec_FD = reader.W_dec_FD.clone()
    W_dec_FD[PLANTED] = W_dec_FD[DECOY]
    mute = dataclasses.replace(reader, W_dec_FD=W_dec_FD)
    found = tried(llama, activations, reader=mute, config=dataclasses.replace(CONFIG, n_candidates=2))
    assert found["status"] == "not_better_than_random" and found["chosen"] == DECOY
    assert found["heldout"]["causal"] == 0 and found["heldout"]["p"] > 0.05


def test_no_candidate_is_a_status(llama: LlamaForCausalLM, activations: PooledActivations) -> None:
    found = tried(llama, activations, rows=[])
    assert list(found) == list(KEYS)
    assert (found["status"], found["chosen"], found["heldout"], found["rows"]) == ("no_candidate", None, None, [])
    assert len(found["left_out"]) == 1 and found["left_out"][0].startswith("candidates: no live feature")


def test_too_few_random_features_are_a_status(llama: LlamaForCausalLM, activations: PooledActivations) -> None:
    active_PF = activations.active_PF.copy()
    active_PF[:, [n for n in range(active_PF.shape[1]) if n not in (PLANTED, DECOY, 0, 1, 2)]] = 0
    found = tried(llama, dataclasses.replace(activations, active_PF=active_PF))
    assert (found["status"], found["chosen"]) == ("too_few_random", PLANTED)
    assert found["heldout"]["p"] is None and {row["random_at_least"] for row in found["rows"]} == {None}
    assert (
        "random_at_least, p and status: 2 random features were tried, p can be 0.05 with 19 or more"
        in found["left_out"][0]
    )


@pytest.mark.parametrize(("n_random", "status"), [(18, "too_few_random"), (19, "found")])
def test_found_needs_as_many_random_features_as_its_p(
    llama: LlamaForCausalLM, activations: PooledActivations, n_random: int, status: str
) -> None:
    """None of them does as well, and yet 1 / 19 is no 0.05."""
    found = tried(llama, activations, config=dataclasses.replace(CONFIG, n_random=n_random))
    assert (found["status"], found["heldout"]["random_at_least"]) == (status, 0)
    assert found["heldout"]["p"] == 1 / (n_random + 1)
    assert [line.split(":")[0] for line in found["left_out"]] == ([] if status == "found" else ["status"])


def test_a_clamp_that_harms_the_author_is_not_found(activations: PooledActivations) -> None:
    """The model is made to write what is in no text; after a Z, half of the author's text, it does so anyway."""
    wild = model()
    with torch.no_grad():
        wild.lm_head.weight[TOKENIZER.encode("!", add_special_tokens=False)[0], 0] += 5.0
    found = tried(wild, activations)
    held = found["heldout"]
    assert found["chosen"] == PLANTED and held["causal"] > 0 and held["p"] <= 0.05
    assert held["gain_others"] < held["gain_own"] < 0
    assert found["status"] == "harms_less"


def test_without_two_works_and_two_authors_an_interval_is_null_with_its_reason(llama: LlamaForCausalLM) -> None:
    parts = dataclasses.replace(cut(own=3, others=3), left_out=("Zeno/Quote: why",))
    activations = pooled(llama, sae(), parts, SPECIAL, batch_size=8)
    found = tried(llama, activations, parts=parts)
    # A third and a bit of three is two: one is left to choose by
    assert found["heldout"]["causal_low"] is not None
    assert {row["causal_low"] for row in found["rows"]} == {None}
    assert found["left_out"][0] == "Zeno/Quote: why"
    assert "training side: need two works" in found["left_out"][1] and "there are 1 and 1" in found["left_out"][1]


def test_what_cannot_be_clamped_is_refused_before_any_work(
    activations: PooledActivations, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle, rows = model(), rank(activations, cut(), CONFIG)
    monkeypatch.setattr(idle, "forward", lambda *_, **__: pytest.fail("the model ran"))
    monkeypatch.setattr(idle.model, "forward", lambda *_, **__: pytest.fail("the model ran"))
    with pytest.raises(UserError, match="largest activations were not measured"):
        tried(idle, activations, reader=dataclasses.replace(sae(), max_F=None), rows=rows)
    with pytest.raises(UserError, match="feature 99 asked for, the SAE has features 0 to 39"):
        tried(idle, activations, rows=[dataclasses.replace(rows[0], feature=99)])


def test_controls_of_several_features_change_as_much_and_clamp_as_many(llama: LlamaForCausalLM) -> None:
    parts, reader, features = cut(), sae(), (PLANTED, 0, 1)
    job: Any = SimpleNamespace(
        activations=SimpleNamespace(batch_size=8), pieces=parts, ranking=CONFIG, dose=SimpleNamespace(seed=0)
    )
    found = Chosen(reader, features, -0.5, SPECIAL)
    made = controls(job, llama, found, n_features=3, n_directions=2)
    assert [one.name for one in made if one.kind == "random_feature"] == [f"random_features_{n}" for n in range(3)]
    items = [piece.item for piece in parts.every if piece.side == "train"]
    states_ND = torch.cat([states_ND for _, states_ND in kept_states(llama, items, reader.layer, SPECIAL, 8)])
    at = Positions(torch.zeros(1, len(states_ND)), torch.ones(1, len(states_ND), dtype=torch.bool), 0)

    def change_ND(intervention: Intervention) -> torch.Tensor:
        assert intervention.edit is not None
        changed_1ND = intervention.edit(states_ND[None], at)
        assert changed_1ND is not None
        return (changed_1ND[0] - states_ND).double()

    size = float(change_ND(found.clamp()).norm(dim=1).mean())
    alone = float(change_ND(of_feature(reader, PLANTED, -0.5)).norm(dim=1).mean())
    assert size > 1.001 * alone
    for one in made:
        if one.kind == "random_feature":
            assert torch.linalg.matrix_rank(change_ND(one), rtol=1e-3) == len(features)
        else:
            assert change_ND(one).norm(dim=1).numpy() == pytest.approx(size, rel=1e-3)
    (single,) = controls(job, llama, Chosen(reader, (0,), 0.5, SPECIAL), n_features=1, n_directions=0)[1:]
    assert single.name.startswith("random_feature_")
