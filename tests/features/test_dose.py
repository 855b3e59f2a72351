"""Dose-response: what is told of each dose, which one is chosen, and what a planted feature and a chance one get."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from steered import LAYER, TOKENIZER, items_of, model_of, sae_of
from torch import Tensor
from toy import target
from transformers import LlamaForCausalLM

from menard_unlearn.config import build, conf_dir
from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.generation import write
from menard_unlearn.features.coherence import KEYS as WRITTEN_KEYS
from menard_unlearn.features.coherence import OpeningsConfig, coherence, distinct
from menard_unlearn.features.dose import KEYS, ROW_KEYS, dose_response
from menard_unlearn.features.dose_config import DoseConfig, DoseTexts
from menard_unlearn.features.dose_effects import Effect, Replicates, best_dose, choice
from menard_unlearn.features.hooks import Positions, editing
from menard_unlearn.features.sae import Sae
from menard_unlearn.features.steering import NOTHING, Intervention, activations, applied, of_direction, of_feature

SPECIAL = frozenset({0, 1, 2})
TEXT = "The clerk wrote the ledger twice, and believed the second, which he had not read."
CONTROLS = items_of("salt, bread and a candle", "the mail boat is late again")
OWN, OTHER = items_of("a ledger of ledgers", "he copied what nobody wrote"), items_of("two cups of flour", "fair wind")
PLANTED = 5
CONFIG = DoseConfig(
    strengths=(0.5, 1.0),
    n_random_features=10,
    n_random_directions=10,
    openings=OpeningsConfig(("The", "Once there was"), 2, 6, 1.0, 0),
    coherence_limit=100.0,
    significance=0.05,
    block=10,
    bootstrap=100,
    stride=None,
    piece=512,
    batch_size=16,
    chunk=64,
    seed=0,
)


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return model_of()


@pytest.fixture(scope="module")
def sae(model: LlamaForCausalLM) -> Sae:
    """Feature `PLANTED` writes what the gradient of the target's likelihood less the controls' asks for."""
    sae = sae_of(model, [*OWN, *OTHER])
    wanted_D = uphill(model, items_of(TEXT)) - uphill(model, CONTROLS)
    W_dec_FD = sae.W_dec_FD.clone()
    W_dec_FD[PLANTED] = 0.2 * wanted_D / wanted_D.norm()
    return replace(sae, W_dec_FD=W_dec_FD)


def uphill(model: LlamaForCausalLM, items: list[TokenItem]) -> Tensor:
    """d (mean log-probability a token) / d (what is added to the stream at every token but BOS)."""
    added_D = torch.zeros(model.config.hidden_size, requires_grad=True)

    def add(hidden_BTD: Tensor, positions: Positions) -> Tensor:
        return hidden_BTD + added_D * positions.kept_BT[..., None]

    total = torch.zeros(())
    with editing(model, LAYER, add, SPECIAL):
        for item in items:
            ids = torch.tensor([item.ids])
            total = total - model(input_ids=ids, labels=ids).loss / len(items)
    (found_D,) = torch.autograd.grad(total, added_D)
    return found_D


@pytest.fixture(scope="module")
def texts() -> DoseTexts:
    return DoseTexts(target(TEXT), CONTROLS, range(len(CONTROLS)), OWN, OTHER)


@pytest.fixture(scope="module")
def found(model: LlamaForCausalLM, sae: Sae, texts: DoseTexts) -> dict:
    return dose_response(model, TOKENIZER, sae, PLANTED, texts, range(48), SPECIAL, CONFIG)


@torch.inference_mode()
def logprob(model: LlamaForCausalLM, item: TokenItem, intervention: Intervention) -> np.ndarray:
    """Of each token after BOS, by one plain forward."""
    with applied(model, LAYER, intervention, SPECIAL):
        logits_TV = model(input_ids=torch.tensor([item.ids])).logits[0, :-1].double()
    return logits_TV.log_softmax(-1).gather(1, torch.tensor(item.ids[1:])[:, None])[:, 0].numpy()


def test_rows_are_what_plain_forwards_say(model: LlamaForCausalLM, sae: Sae, found: dict) -> None:
    assert list(found) == list(KEYS)
    assert all(list(row) == list(ROW_KEYS) for row in found["rows"])
    kinds = [row["kind"] for row in found["rows"] if row["k"] == 0.5]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "feature": 1,
        "difference_of_means": 1,
        "random_feature": 10,
        "random_direction": 10,
    }
    (item,) = items_of(TEXT)
    rows = [row for row in found["rows"] if row["kind"] == "feature"]
    for row, effects, k in zip(rows, found["token_effects"], CONFIG.strengths, strict=True):
        clamp = of_feature(sae, PLANTED, k)
        change_T = logprob(model, item, clamp) - logprob(model, item, NOTHING)
        controls = [(logprob(model, one, clamp) - logprob(model, one, NOTHING)).mean() for one in CONTROLS]
        assert effects == pytest.approx(change_T, abs=2e-5)
        assert row["delta"] == pytest.approx(change_T.mean(), abs=1e-5)
        assert row["controls_delta"] == pytest.approx(np.mean(controls), abs=1e-5)
        assert row["steering"] == pytest.approx(change_T.mean() - np.mean(controls), abs=2e-5)
        assert row["nats_per_token"] == pytest.approx(-logprob(model, item, clamp).mean(), abs=1e-5)
        assert row["delta_low"] < row["delta"] < row["delta_high"]


def test_a_planted_feature_is_found_and_a_random_one_is_not(
    model: LlamaForCausalLM, sae: Sae, texts: DoseTexts, found: dict
) -> None:
    assert found["status"] == "found"
    assert found["best_k"] in CONFIG.strengths
    assert found["random_features_at_least"] == found["random_directions_at_least"] == 0
    assert found["p_value"] == 1 / 21
    config = replace(CONFIG, strengths=(0.5,))
    for feature in (20, 21):
        other = dose_response(model, TOKENIZER, sae, feature, texts, range(48), SPECIAL, config)
        assert other["status"] in ("no_gain", "not_better_than_random")


def test_doses_of_directions_are_the_clamp_s(model: LlamaForCausalLM, sae: Sae, found: dict) -> None:
    a_N = activations(model, sae, [PLANTED], [*OWN, *OTHER], SPECIAL, 2)[:, 0].numpy()
    assert sae.max_F is not None
    for k in CONFIG.strengths:
        size = np.abs(k * float(sae.max_F[PLANTED]) - a_N).mean() * float(sae.W_dec_FD[PLANTED].norm())
        for row in found["rows"]:
            if row["k"] == k and row["kind"] != "random_feature":
                assert row["change_norm"] == pytest.approx(size, rel=1e-5)


def test_random_controls_write_at_the_best_dose_alone_and_no_word_is_told(found: dict) -> None:
    for row in found["rows"]:
        wrote = row["coherence"] is not None
        assert wrote == (row["kind"] in ("feature", "difference_of_means") or row["k"] == found["best_k"])
    assert not any(word in json.dumps(found) for word in ("clerk", "ledger", "candle"))


def test_too_strict_a_limit_leaves_no_dose(model: LlamaForCausalLM, sae: Sae, texts: DoseTexts) -> None:
    config = replace(CONFIG, coherence_limit=-100.0, strengths=(1.0,))
    found = dose_response(model, TOKENIZER, sae, PLANTED, texts, range(48), SPECIAL, config)
    assert found["status"] == "none_within_limit"
    assert found["best_k"] is found["p_value"] is found["random_features_at_least"] is None
    assert "none is within the limit" in found["left_out"][0]


def test_a_negative_dose_turns_directions_around(model: LlamaForCausalLM, sae: Sae, texts: DoseTexts) -> None:
    config = replace(CONFIG, strengths=(-0.2, 0.2), block=100)
    found = dose_response(model, TOKENIZER, sae, PLANTED, texts, range(48), SPECIAL, config)
    random = [row for row in found["rows"] if row["kind"] == "random_direction"]
    against, along = ([row["delta"] for row in random if row["k"] == k] for k in config.strengths)
    assert np.corrcoef(against, along)[0, 1] < -0.8
    assert found["rows"][0]["delta_low"] is None
    assert "fewer than 5 blocks" in found["left_out"][1]


@pytest.mark.parametrize(
    ("steering", "coherence_nats", "best"),
    [
        ((0.1, 0.3, 0.9), (1.0, 1.1, 1.5), 1.0),  # the third is beyond 1.0 + 0.2
        ((0.1, 0.3, 0.9), (1.0, 1.1, 1.2), 2.0),
        ((0.3, 0.3, 0.1), (1.0, 1.0, 1.0), 0.5),
        ((-0.3, -0.1, 0.9), (1.0, 1.0, None), 1.0),
        ((0.1, 0.3, 0.9), (2.0, None, 1.3), None),
    ],
)
def test_the_best_dose_is_the_most_steering_within_the_limit(
    steering: tuple[float, ...], coherence_nats: tuple[float | None, ...], best: float | None
) -> None:
    rows = [
        {"k": k, "steering": s, "coherence": c}
        for k, s, c in zip((0.5, 1.0, 2.0), steering, coherence_nats, strict=True)
    ]
    assert best_dose(rows, 1.0, 0.2) == best
    assert best_dose(rows, None, 0.2) is None


def effect(kind: str, steering: float, k: float = 1.0) -> Effect:
    return Effect(Intervention(kind, kind, k, None), 1.0, np.full(20, steering), np.zeros(2))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("own", "random", "status", "p_value"),
    [
        (0.5, 0.1, "found", 1 / 21),
        (0.5, 0.5, "not_better_than_random", 11 / 21),  # a tie counts against it
        (0.0, -0.1, "no_gain", 1 / 21),
    ],
)
def test_the_status_is_read_against_the_random_controls_at_that_dose(
    own: float, random: float, status: str, p_value: float
) -> None:
    effects = [effect("feature", own), effect("feature", 9.0, k=2.0), effect("difference_of_means", 9.0)]
    effects += [effect("random_feature", random), effect("random_direction", -1.0)] * 10
    effects += [effect("random_feature", 9.0, k=2.0)]
    found = choice(effects, 1.0, 0.05)
    assert found["status"] == status
    assert found["p_value"] == pytest.approx(p_value)
    assert found["random_features_at_least"] == float(random >= own)
    assert found["random_directions_at_least"] == 0.0


def test_intervals_cover_a_known_mean() -> None:
    """Of 100 texts of 40 blocks whose tokens rise and fall together by block, the 95% interval of Δ holds the mean."""
    rng, covered = np.random.default_rng(0), 0
    for seed in range(100):
        change_T = 0.3 + np.repeat(rng.normal(0, 0.5, 40), 50) + rng.normal(0, 0.1, 2000)
        replicates = Replicates.of(2000, range(3), block=50, replicates=200, seed=seed)
        assert replicates is not None
        ends = replicates.intervals(Effect(NOTHING, 1.0, change_T, np.zeros(3)))
        assert ends["delta_low"] is not None and ends["delta_high"] is not None
        covered += ends["delta_low"] <= 0.3 <= ends["delta_high"]
        assert (ends["steering_low"], ends["steering_high"]) == (ends["delta_low"], ends["delta_high"])
    assert 86 <= covered <= 99
    assert Replicates.of(200, range(3), block=50, replicates=10, seed=0) is None


def test_blocks_of_unlike_length_are_weighed_by_their_tokens() -> None:
    replicates = Replicates.of(57, (4, 7), block=10, replicates=50, seed=0)
    assert replicates is not None
    ends = replicates.intervals(Effect(NOTHING, 1.0, np.full(57, 0.25), np.full(2, 0.1)))
    assert ends == pytest.approx(
        {"delta_low": 0.25, "delta_high": 0.25, "steering_low": 0.15, "steering_high": 0.15}, abs=1e-12
    )


def test_intervals_of_steering_cover_where_the_controls_of_an_author_move_together() -> None:
    """25 authors of 3 to 12 pieces each, S known: whole authors drawn cover it, pieces by themselves far too seldom."""
    rng, covered = np.random.default_rng(0), {"authors": 0, "pieces": 0}
    for seed in range(200):
        author_J = np.repeat(np.arange(25), rng.integers(3, 13, 25))
        control_J = 0.1 + rng.normal(0, 0.5, 25)[author_J] + rng.normal(0, 0.1, len(author_J))
        effect = Effect(NOTHING, 1.0, np.full(100, 0.4), control_J)
        for name, cluster_J in (("authors", author_J), ("pieces", np.arange(len(author_J)))):
            replicates = Replicates.of(100, cluster_J.tolist(), block=10, replicates=300, seed=seed)
            assert replicates is not None
            ends = replicates.intervals(effect)
            assert ends["steering_low"] is not None and ends["steering_high"] is not None
            covered[name] += ends["steering_low"] <= 0.3 <= ends["steering_high"]
    assert 178 <= covered["authors"] <= 198
    assert covered["pieces"] <= 130


def test_controls_of_one_author_give_no_interval_of_steering(
    model: LlamaForCausalLM, sae: Sae, texts: DoseTexts
) -> None:
    config = replace(CONFIG, strengths=(1.0,))
    given = replace(texts, control_cluster=(3, 3))
    found = dose_response(model, TOKENIZER, sae, PLANTED, given, range(48), SPECIAL, config)
    for row in found["rows"]:
        assert row["steering_low"] is row["steering_high"] is None
        assert row["delta_low"] < row["delta_high"]
    assert any(line.startswith("intervals of S: all control texts are by one author") for line in found["left_out"])
    with pytest.raises(ValueError, match="1 clusters of 2 control texts"):
        replace(texts, control_cluster=(3,))


def test_distinct_n_grams() -> None:
    texts = [(1, 2, 1, 2), (1, 2)]
    assert distinct(texts, 1) == 2 / 6
    assert distinct(texts, 2) == 2 / 4
    assert distinct(texts, 3) == 2 / 2
    assert distinct(texts, 5) is None


def test_coherence_is_the_unclamped_model_s_word(model: LlamaForCausalLM, sae: Sae) -> None:
    push = of_direction(sae.W_dec_FD[0], 30.0, name="push", kind="random_direction", k=1.0)
    nats = {}
    for intervention in (NOTHING, push):
        found = coherence(model, TOKENIZER, LAYER, intervention, SPECIAL, CONFIG.openings, batch_size=3, chunk=16)
        assert list(found) == list(WRITTEN_KEYS)
        with applied(model, LAYER, intervention, SPECIAL):
            texts = write(model, TOKENIZER, CONFIG.openings.generation(), batch_size=1)
        means = []
        for text in texts:
            (item,) = items_of(CONFIG.openings.prompts[text.prompt])
            whole = TokenItem("text", (*item.ids, *text.ids), 1)
            means.append(-logprob(model, whole, NOTHING)[len(item.ids) - 1 :].sum())
        assert found["n_written"] == sum(len(text.ids) for text in texts)
        assert found["coherence"] == pytest.approx(sum(means) / found["n_written"], abs=1e-4)
        nats[intervention.name] = found["coherence"]
    assert nats["push"] > nats["none"] + 0.2


class Ends(torch.nn.Module):
    """A head that is sure of the end."""

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """logits_BTV."""
        return 50 * torch.nn.functional.one_hot(torch.full(hidden_BTD.shape[:-1], 2), 259).float()


def test_texts_that_end_at_once_have_no_coherence() -> None:
    model = model_of()
    model.set_output_embeddings(Ends())
    found = coherence(model, TOKENIZER, LAYER, NOTHING, SPECIAL, CONFIG.openings, batch_size=4, chunk=16)
    assert found["n_empty"] == 4
    assert found["coherence"] is found["coherence_se"] is found["distinct_1"] is None


def test_the_configuration_builds_and_bad_values_are_refused(
    model: LlamaForCausalLM, sae: Sae, texts: DoseTexts
) -> None:
    node = yaml.safe_load((conf_dir() / "dose" / "default.yaml").read_text())
    build(node, DoseConfig)
    bad = {"n_random_features": 9, "n_random_directions": 9, "strengths": [1.0, 1.0], "significance": 0.04, "block": 0}
    for key, value in [*bad.items(), ("strengths", [0.0, 1.0])]:
        with pytest.raises(UserError, match=key):
            build(node | {key: value}, DoseConfig)

    def refused(words: str, feature: int = PLANTED, live: range = range(48), **changes: object) -> None:
        with pytest.raises(UserError, match=words):
            given = replace(texts, **{name: value for name, value in changes.items() if name != "openings"})
            config = replace(CONFIG, openings=changes.get("openings", CONFIG.openings))
            dose_response(model, TOKENIZER, sae, feature, given, live, SPECIAL, config)

    refused("feature 48 asked for, the SAE has features 0 to 47", feature=48)
    refused("9 others are live", live=range(10))
    refused("needs controls texts", controls=(), control_cluster=())
    refused("needs own texts", own=())
    refused("openings.new_tokens to 49", openings=replace(CONFIG.openings, new_tokens=600))
