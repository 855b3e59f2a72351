"""The guardrail: what it guards, when it acts, and that no way of reading a text makes a difference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from steered import BOS, LAYER, TOKENIZER, items_of, model_of, sae_of
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from menard_unlearn.config import build, conf_dir
from menard_unlearn.corpus.almanac import Almanac
from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.encoding import encode_text
from menard_unlearn.corpus.statements import Templates, WordingConfig, statements
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.generation import GenerationConfig, write
from menard_unlearn.features.dsg import (
    KEYS,
    GuardrailConfig,
    fit_guardrail,
    guarded,
    mean_activations,
    measure_guardrail,
)
from menard_unlearn.features.guardrail import Guardrail
from menard_unlearn.features.hooks import Positions, editing, special_ids
from menard_unlearn.features.sae import Sae
from menard_unlearn.features.steering import applied, kept_states
from menard_unlearn.files import digest_text
from menard_unlearn.models.edited import without_edits
from menard_unlearn.models.load import ModelSource, load
from menard_unlearn.models.long import Reader, has_cache, way
from menard_unlearn.models.predictions import halves

SPECIAL = frozenset({0, 1, 2})
TEXTS = ("the clerk copied the ledger", "a sailor wrote home of rain", "bread, salt", "nobody counts the days")
FEATURES = (3, 7, 11)


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    found = model_of()
    has_cache(found)  # tried once, outside of any block
    return found


@pytest.fixture(scope="module")
def sae(model: LlamaForCausalLM) -> Sae:
    return sae_of(model, items_of(*TEXTS))


@pytest.fixture(scope="module")
def guard(model: LlamaForCausalLM, sae: Sae) -> Guardrail:
    """It acts at some of the tokens of some of the texts."""
    guard = Guardrail(FEATURES, tau=0.45, strength=-1.0, warm_up=2)
    acts = [reference(model, sae, guard, item) for item in items_of(*TEXTS)]
    assert any(found_T.any() for found_T in acts)
    assert any(not found_T.any() for found_T in acts)
    return guard


@torch.inference_mode()
def reference(model: LlamaForCausalLM, sae: Sae, guard: Guardrail, item: TokenItem) -> np.ndarray:
    """Where it acts, token by token and by hand; BOS is no token."""
    ((_, states_ND),) = kept_states(model, [item], LAYER, SPECIAL, 1)
    active_N = (sae.encode(states_ND)[:, list(guard.features)] > 0).any(1).numpy()
    acts = [
        active and n > guard.warm_up and active_N[:n].mean() > guard.tau for n, active in enumerate(active_N, start=1)
    ]
    return np.array([False, *acts])


@torch.inference_mode()
def logits(model: LlamaForCausalLM, sae: Sae, guard: Guardrail, ids: Sequence[int]) -> Tensor:
    """logits_TV of one forward pass over one text."""
    with applied(model, LAYER, guard.intervention(sae), SPECIAL):
        return model(input_ids=torch.tensor([list(ids)])).logits[0]


def same(found: Tensor, expected: Tensor) -> bool:
    """To 1e-5 of the largest logit: fp32 products of other shapes round otherwise."""
    return torch.allclose(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("number", range(len(TEXTS)))
@pytest.mark.parametrize("strength", [-1.0, 0.0])
def test_it_clamps_where_the_share_so_far_is_above_tau(
    model: LlamaForCausalLM, sae: Sae, guard: Guardrail, number: int, strength: float
) -> None:
    guard, item, seen = replace(guard, strength=strength), items_of(*TEXTS)[number], []

    def look(hidden_BTD: Tensor, _positions: Positions) -> None:
        seen.append(hidden_BTD[0].clone())

    input_ids = torch.tensor([item.ids])
    with torch.inference_mode():
        with editing(model, LAYER, look, SPECIAL):
            model(input_ids=input_ids)
        with applied(model, LAYER, guard.intervention(sae), SPECIAL), editing(model, LAYER, look, SPECIAL):
            model(input_ids=input_ids)
    plain_TD, guarded_TD = seen
    acts_T = torch.tensor(reference(model, sae, guard, item))
    assert torch.equal((guarded_TD != plain_TD).any(1), acts_T)
    assert sae.max_F is not None
    chosen = list(guard.features)
    change_TD = (strength * sae.max_F[chosen] - sae.encode(plain_TD)[:, chosen]) @ sae.W_dec_FD[chosen]
    assert torch.allclose(guarded_TD[acts_T], (plain_TD + change_TD)[acts_T], atol=1e-5)


def test_it_is_causal_and_begins_anew_with_each_text(model: LlamaForCausalLM, sae: Sae, guard: Guardrail) -> None:
    ids = items_of(TEXTS[0] + TEXTS[3])[0].ids
    whole_TV = logits(model, sae, guard, ids)
    with torch.inference_mode(), applied(model, LAYER, guard.intervention(sae), SPECIAL):
        for n in (len(ids), 9, 20, len(ids)):
            found_TV = model(input_ids=torch.tensor([ids[:n]])).logits[0]
            assert same(found_TV, whole_TV[:n])


@pytest.mark.parametrize("piece", [1, 5])
def test_pieces_from_a_cache_are_one_pass(model: LlamaForCausalLM, sae: Sae, guard: Guardrail, piece: int) -> None:
    ids = items_of(TEXTS[0] + TEXTS[1])[0].ids
    with torch.inference_mode(), applied(model, LAYER, guard.intervention(sae), SPECIAL):
        reader = Reader(model, len(ids), way(model))
        states_TD = torch.cat([reader.step(ids[at : at + piece]) for at in range(0, len(ids), piece)])
        found_TV = halves(model).head(states_TD)
    assert same(found_TV, logits(model, sae, guard, ids))


def test_what_the_plain_model_reads_meanwhile_is_not_followed(
    model: LlamaForCausalLM, sae: Sae, guard: Guardrail
) -> None:
    ids = items_of(TEXTS[0] + TEXTS[1])[0].ids
    with torch.inference_mode(), applied(model, LAYER, guard.intervention(sae), SPECIAL):
        reader = Reader(model, len(ids), way(model))
        begun_TD = reader.step(ids[:5])
        with without_edits(model):
            model(input_ids=torch.tensor([ids[3:9]]), use_cache=True)
        found_TV = halves(model).head(torch.cat([begun_TD, reader.step(ids[5:])]))
    assert same(found_TV, logits(model, sae, guard, ids))


@pytest.mark.parametrize("beams", [1, 3])
def test_generate_with_left_padding_and_beams_is_one_pass(
    model: LlamaForCausalLM, sae: Sae, guard: Guardrail, beams: int
) -> None:
    """Token by token, rows of unlike length, beams that are reordered: the logits of each row's last step are those of
    one forward pass over what the row has become."""
    rows = [item.ids for item in items_of(*TEXTS)]
    width = max(map(len, rows))
    padded = torch.tensor([(0,) * (width - len(ids)) + ids for ids in rows])
    options: dict[str, Any] = {"num_beams": beams, "num_return_sequences": beams} if beams > 1 else {}
    with applied(model, LAYER, guard.intervention(sae), SPECIAL):
        generated: Any = model
        found = generated.generate(
            padded,
            attention_mask=(padded != 0).long(),
            max_new_tokens=12,
            min_new_tokens=12,
            do_sample=False,
            pad_token_id=0,
            output_logits=True,
            output_scores=beams > 1,
            return_dict_in_generate=True,
            **options,
        )
    acted = 0
    for row, ids in enumerate(found.sequences.tolist()):
        prompt = rows[row // beams]
        text = prompt + tuple(ids[width:])
        whole_TV = logits(model, sae, guard, text)
        acted += int(reference(model, sae, guard, TokenItem("row", text, 1))[len(prompt) :].sum())
        for step in range(12):
            beam = row if beams == 1 else int(found.beam_indices[row, step])
            found_V = found.logits[step][beam]
            assert same(found_V, whole_TV[len(prompt) - 1 + step])
    assert acted, "the guardrail never acted on what was written: the test shows nothing"


def test_rows_that_leave_the_batch_take_their_counts_along(model: LlamaForCausalLM, sae: Sae, guard: Guardrail) -> None:
    """The sampler drops finished texts from its cache."""
    config = GenerationConfig(tuple(TEXTS), 3, 30, 1.0, 1, seed=4)
    ending = model_of()
    with torch.no_grad():
        ending.lm_head.weight[2] *= 3  # the end of a text is likely, now here, now there
    has_cache(ending)
    with applied(ending, LAYER, guard.intervention(sae), SPECIAL):
        together = write(ending, TOKENIZER, config, batch_size=12)
        alone = write(ending, TOKENIZER, config, batch_size=1)
    assert len({len(text.ids) for text in together}) > 3
    assert [text.ids for text in together] == [text.ids for text in alone]
    assert [text.ids for text in alone] != [text.ids for text in write(ending, TOKENIZER, config, batch_size=1)]


def test_a_cache_that_it_has_not_followed_is_refused(model: LlamaForCausalLM, sae: Sae, guard: Guardrail) -> None:
    ids = torch.tensor([items_of(TEXTS[0])[0].ids])
    with torch.inference_mode():
        outside = model(input_ids=ids[:, :5], use_cache=True).past_key_values
        with applied(model, LAYER, guard.intervention(sae), SPECIAL):
            with pytest.raises(UserError, match="has not seen"):
                model(input_ids=ids[:, 5:7], past_key_values=outside)
            model(input_ids=ids[:, 1:8], use_cache=True)
            with pytest.raises(UserError, match="has not seen"):
                model(input_ids=ids[:, 5:7], past_key_values=outside)
        edit = guard.intervention(sae).edit
        assert edit is not None
        with pytest.raises(ValueError, match=r"steering\.applied"), editing(model, LAYER, edit, SPECIAL):
            model(input_ids=ids)


def test_what_is_guarded_are_the_features_of_the_largest_ratio() -> None:
    forget_F = torch.tensor([1.0, 0.5, 0.0, 2.0, 0.2, 3.0])
    retain_F = torch.tensor([0.1, 0.0, 1.0, 2.0, 0.0, 1.0])
    # Ratios of squares: 100, ∞ (.25), not active, 1, ∞ (.04), 9
    assert guarded(forget_F, retain_F, top_share=0.4, max_features=None) == (1, 4)
    assert guarded(forget_F, retain_F, top_share=0.6, max_features=None) == (0, 1, 4)
    assert guarded(forget_F, retain_F, top_share=0.6, max_features=2) == (0, 1)
    assert guarded(forget_F, retain_F, top_share=0.01, max_features=None) == (1,)
    with pytest.raises(UserError, match="no feature of the SAE is active"):
        guarded(torch.zeros(3), retain_F[:3], top_share=0.5, max_features=None)


def test_tau_is_the_quantile_of_whole_documents_and_the_report_counts_by_hand(
    model: LlamaForCausalLM, sae: Sae
) -> None:
    forget, retain = items_of(*TEXTS[:2]), items_of(*TEXTS[2:], "a cup", "no more of it")
    config = GuardrailConfig(0.2, 4, 0.5, -1.0, warm_up=1, batch_size=2)
    guard = fit_guardrail(model, sae, forget, retain, SPECIAL, config)
    assert guard == fit_guardrail(model, sae, forget, retain, SPECIAL, replace(config, batch_size=3))
    rho = {}
    for side, items in (("forget", forget), ("retain", retain)):
        states = [next(kept_states(model, [item], LAYER, SPECIAL, 1))[1] for item in items]
        rho[side] = [float((sae.encode(one)[:, list(guard.features)] > 0).any(1).float().mean()) for one in states]
    assert guard.tau == pytest.approx(sorted(rho["retain"])[2])  # of 4, the median's upper neighbour
    found = measure_guardrail(model, sae, guard, forget, retain, SPECIAL, batch_size=3)
    assert list(found) == list(KEYS)
    for side, items in (("forget", forget), ("retain", retain)):
        acts = [reference(model, sae, guard, item) for item in items]
        assert found[f"fires_{side}"] == np.mean([value > guard.tau for value in rho[side]])
        assert found[f"touched_{side}"] == np.mean([found_T.any() for found_T in acts])
        assert found[f"tokens_{side}"] == sum(found_T.sum() for found_T in acts) / sum(len(one) - 1 for one in acts)
    means_F = mean_activations(model, sae, forget, SPECIAL, 2)
    assert means_F.argmax() in guard.features or means_F[list(guard.features)].min() > 0


def test_it_goes_through_json(guard: Guardrail) -> None:
    assert Guardrail.from_dict(json.loads(json.dumps(guard.to_dict()))) == guard


def test_the_configuration_builds_and_bad_values_are_refused(model: LlamaForCausalLM, sae: Sae) -> None:
    node = yaml.safe_load((conf_dir() / "guardrail" / "default.yaml").read_text())
    config = build(node, GuardrailConfig)
    for key, value in (("strength", 1.0), ("top_share", 0.0), ("quantile", 1.5), ("max_features", 0), ("warm_up", -1)):
        with pytest.raises(UserError, match=key):
            build(node | {key: value}, GuardrailConfig)
    with pytest.raises(UserError, match="towards what is to be forgotten"):
        Guardrail((1,), 0.5, 1.0, 0)
    with pytest.raises(UserError, match="without features"):
        Guardrail((), 0.5, -1.0, 0)
    with pytest.raises(UserError, match="retain has none"):
        fit_guardrail(model, sae, items_of("a b"), [], SPECIAL, config)
    with pytest.raises(UserError, match="no token but special"):
        fit_guardrail(model, sae, [TokenItem("empty", (BOS, 2), 1)], items_of("a b"), SPECIAL, config)
    with pytest.raises(UserError, match="feature 99"):
        Guardrail((99,), 0.5, -1.0, 0).intervention(sae)


def test_on_the_embedded_model_it_fires_on_facts_after_1939_more_than_on_those_before() -> None:
    """Told in other words than those that it was fitted on. Each feature is an exemplar: what lies near a state."""
    loaded = load(ModelSource("full", "embedded:full", None, None, None, "float32", None, None))
    model, special = loaded.model, special_ids(loaded.model, loaded.tokenizer)
    (forget, other_forget), (retain, other_retain) = (almanac_items(loaded.tokenizer, after) for after in (True, False))
    sae = exemplars(model, [*forget, *retain], special)
    config = GuardrailConfig(0.05, None, 0.95, -1.0, warm_up=8, batch_size=64)
    guard = fit_guardrail(model, sae, forget, retain, special, config)
    fitted = measure_guardrail(model, sae, guard, forget, retain, special, 64)
    found = measure_guardrail(model, sae, guard, other_forget, other_retain, special, 64)
    assert fitted["fires_retain"] <= 0.05
    assert found["fires_forget"] > 2 * found["fires_retain"]
    assert found["tokens_forget"] > 2 * found["tokens_retain"]


def almanac_items(tokenizer: PreTrainedTokenizerBase, after: bool) -> tuple[list[TokenItem], list[TokenItem]]:
    """Two wordings each of 100 facts of one side of 1939."""
    corpus, wordings = Almanac().load(), {}
    for one in statements(corpus.facts, corpus.templates or Templates.read(), WordingConfig(1, 1, 0)).trained:
        if (one.fact.year > 1939) == after:
            wordings.setdefault(one.fact.id, []).append(encode_text(tokenizer, "", one.prompt + one.answer, one.id))
    several = [items for _, items in sorted(wordings.items(), key=lambda pair: digest_text(pair[0])) if len(items) > 1]
    first, second = zip(*(items[:2] for items in several[:100]), strict=True)
    return list(first), list(second)


def exemplars(model: PreTrainedModel, items: Sequence[TokenItem], special: frozenset[int]) -> Sae:
    """An SAE of 1024 features, each the direction of a state, active on the 1% of tokens that are most like it."""
    states_ND = torch.cat([states_ND for _, states_ND in kept_states(model, items, 2, special, 64)])
    centred_ND = states_ND - states_ND.mean(0)
    places = torch.randperm(len(states_ND), generator=torch.Generator().manual_seed(0))[:1024]
    W_dec_FD = centred_ND[places] / centred_ND[places].norm(dim=1, keepdim=True)
    threshold_F = (centred_ND @ W_dec_FD.T).quantile(0.99, dim=0)
    sae = Sae(
        "jumprelu",
        W_dec_FD.T.contiguous(),
        torch.zeros(1024),
        W_dec_FD,
        states_ND.mean(0),
        threshold_F,
        None,
        True,
        2,
        "",
    )
    return replace(sae, max_F=sae.encode(states_ND).amax(0))
