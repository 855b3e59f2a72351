"""Token by token: what a no-op, a piece and a random control mean for the columns."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from steered import LAYER, TOKENIZER, items_of, model_of, sae_of
from toy import target
from transformers import LlamaForCausalLM

from menard_unlearn.errors import UserError
from menard_unlearn.features.sae import Sae
from menard_unlearn.features.steering import Intervention, applied, of_feature, of_features
from menard_unlearn.features.token_scores import COLUMN_KEYS, KEYS, TOKEN_KEYS, score_tokens

SPECIAL = frozenset({0, 1, 2})
TEXT = "The clerk wrote the ledger twice, and believed the second."


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return model_of()


@pytest.fixture(scope="module")
def sae(model: LlamaForCausalLM) -> Sae:
    return sae_of(model, items_of(TEXT))


def scored(model: LlamaForCausalLM, *interventions: Intervention, piece: int = 512, publish: bool = False) -> dict:
    return score_tokens(
        model,
        TOKENIZER,
        target(TEXT, publish=publish, prompt="Title: "),
        interventions,
        LAYER,
        SPECIAL,
        piece=piece,
        chunk=16,
        stride=None,
    )


def columns(found: dict, key: str) -> np.ndarray:
    return np.array([token[key] for token in found["tokens"]]).T


def random_ones(sae: Sae, n: int, k: float) -> list[Intervention]:
    return [of_feature(sae, feature, k, "random_feature") for feature in range(10, 10 + n)]


def test_the_keys_are_those_that_are_explained(model: LlamaForCausalLM, sae: Sae) -> None:
    found = scored(model, of_feature(sae, 3, 1.0), *random_ones(sae, 2, 1.0), publish=True)
    assert list(found) == list(KEYS)
    assert all(list(column) == list(COLUMN_KEYS) for column in [*found["columns"], *found["controls"]])
    assert all(set(token) == set(TOKEN_KEYS) for token in found["tokens"])


def test_no_clamp_is_the_unclamped_column_to_the_bit(model: LlamaForCausalLM, sae: Sae) -> None:
    found = scored(model, of_features(sae, {}, name="no-op"), of_feature(sae, 3, 2.0))
    for key in ("logprob", "rank_best", "rank_worst"):
        plain_T, noop_T, clamped_T = columns(found, key)
        assert (plain_T == noop_T).all()
        assert (plain_T != clamped_T).any()
    assert [column["nats_saved"] == 0 for column in found["columns"]] == [True, True, False]


def test_columns_are_those_of_one_plain_forward(model: LlamaForCausalLM, sae: Sae) -> None:
    found = scored(model, of_feature(sae, 3, 2.0))
    (item,) = items_of("Title: " + TEXT)
    first = len(items_of("Title: ")[0].ids)
    with torch.inference_mode(), applied(model, LAYER, of_feature(sae, 3, 2.0), SPECIAL):
        logprob_TV = model(input_ids=torch.tensor([item.ids])).logits[0, :-1].double().log_softmax(-1)
    expected_T = logprob_TV.gather(1, torch.tensor(item.ids[1:])[:, None])[first - 1 :, 0]
    assert found["n_tokens"] == len(TEXT.encode())
    assert columns(found, "logprob")[1] == pytest.approx(expected_T.numpy(), abs=1e-5)
    assert found["columns"][1]["nats"] == pytest.approx(-float(expected_T.sum()), abs=1e-4)


@pytest.mark.parametrize("piece", [1, 7])
def test_pieces_do_not_matter(model: LlamaForCausalLM, sae: Sae, piece: int) -> None:
    interventions = [of_feature(sae, 3, 2.0), *random_ones(sae, 2, 1.0)]
    whole, pieces = scored(model, *interventions), scored(model, *interventions, piece=piece)
    assert columns(pieces, "logprob") == pytest.approx(columns(whole, "logprob"), abs=2e-5)
    assert columns(pieces, "random_mean") == pytest.approx(columns(whole, "random_mean"), abs=2e-5)


def test_a_token_is_helped_where_no_random_control_raises_it_as_much(model: LlamaForCausalLM, sae: Sae) -> None:
    controls = random_ones(sae, 3, 1.0)
    found = scored(model, of_feature(sae, 3, 1.0), *controls)
    alone = [columns(scored(model, of_feature(sae, feature, 1.0)), "logprob") for feature in (10, 11, 12)]
    random_RT = np.array([own_T - plain_T for plain_T, own_T in alone])
    plain_T, own_T = columns(found, "logprob")
    helped_T = (own_T > plain_T) & (own_T - plain_T > random_RT.max(0))
    assert 0 < helped_T.sum() < len(helped_T)
    assert columns(found, "helped").tolist() == [[None] * len(helped_T), helped_T.tolist()]
    assert columns(found, "random_mean") == pytest.approx(random_RT.mean(0), abs=1e-9)
    assert columns(found, "random_max") == pytest.approx(random_RT.max(0), abs=1e-9)
    assert found["columns"][1]["share_helped"] == pytest.approx(helped_T.mean())
    assert found["chance"] == 1 / 4
    assert [column["kind"] for column in found["controls"]] == ["random_feature"] * 3
    assert all(column["share_helped"] is None for column in [found["columns"][0], *found["controls"]])


def test_without_controls_nothing_is_called_helped(model: LlamaForCausalLM, sae: Sae) -> None:
    found = scored(model, of_feature(sae, 3, 1.0))
    assert found["chance"] is found["tokens"][0]["random_max"] is found["columns"][1]["share_helped"] is None
    assert "no random control was given" in found["left_out"][0]


def test_the_words_are_told_only_where_the_target_is_published(model: LlamaForCausalLM, sae: Sae) -> None:
    hidden, shown = (scored(model, of_feature(sae, 3, 1.0), publish=publish) for publish in (False, True))
    assert "text" not in hidden["tokens"][0]
    assert not any(word in json.dumps(hidden) for word in ("clerk", "ledger"))
    assert "".join(token["text"] for token in shown["tokens"]) == TEXT


def test_two_of_a_name_and_a_text_beyond_the_context_are_refused(model: LlamaForCausalLM, sae: Sae) -> None:
    with pytest.raises(UserError, match="two interventions are called 'feature_3'"):
        scored(model, of_feature(sae, 3, 1.0), of_feature(sae, 3, 2.0))
    with pytest.raises(UserError, match="context"):
        score_tokens(model, TOKENIZER, target(TEXT * 20), [], LAYER, SPECIAL, piece=512, chunk=512, stride=None)
