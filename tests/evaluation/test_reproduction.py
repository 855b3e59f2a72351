"""Reproduction of the target, on models whose answer is known."""

from __future__ import annotations

import dataclasses
import json
import math
from itertools import pairwise

import pytest
import torch
from toy import bigram, byte_tokenizer, llama, successor, target
from transformers import MambaConfig, MambaForCausalLM

from menard_unlearn.evaluation.reproduction import (
    BRIEF,
    KEYS,
    TOKEN_KEYS,
    ReproductionConfig,
    reproduce,
    reproduce_all,
)
from menard_unlearn.evaluation.target import Target

# No character twice: a model that looks one token back can know it by heart.
TEXT = "the quick, brwn-fxjmpsvlazydg!"
TEXT = "".join(dict.fromkeys(TEXT))


def ids(text: str = TEXT) -> list[int]:
    return [1, *byte_tokenizer().encode(text, add_special_tokens=False)]


def test_a_uniform_model_needs_ln_v_nats_a_token_and_has_no_rank() -> None:
    model = bigram(torch.zeros(259, 259))
    results, tokens = reproduce(model, byte_tokenizer(), target(TEXT), prompt="", chunk=7)
    length = len(TEXT)
    assert results["n_tokens"] == results["n_bytes"] == length
    assert results["nats"] == pytest.approx(length * math.log(259), rel=1e-12)
    assert results["bits_per_byte"] == pytest.approx(math.log2(259), rel=1e-12)
    assert results["log10_expected_samples"] == pytest.approx(length * math.log10(259), rel=1e-12)
    assert all((token["rank_best"], token["rank_worst"]) == (1, 259) for token in tokens["tokens"])
    assert (results["share_rank1"], results["share_rank1_best"]) == (0.0, 1.0)
    assert results["greedy_prefix"] == results["greedy_prefix_teacher_forced"] == 0


def test_nats_of_a_bigram_model_are_those_of_its_table() -> None:
    logits_VV = torch.randn(259, 259, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    results, _ = reproduce(bigram(logits_VV), byte_tokenizer(), target(TEXT), prompt="", chunk=5)
    log_VV = torch.log_softmax(logits_VV, dim=1)
    expected = -sum(float(log_VV[a, b]) for a, b in pairwise(ids()))
    assert results["nats"] == pytest.approx(expected, rel=1e-9)


def test_a_model_that_knows_the_text_by_heart_writes_all_of_it() -> None:
    results, _ = reproduce(successor(ids()), byte_tokenizer(), target(TEXT), prompt="", chunk=512)
    assert results["greedy_prefix"] == results["greedy_prefix_teacher_forced"] == len(TEXT)
    assert results["first_miss"] is None and results["share_rank1"] == 1.0
    assert results["min_margin"] == pytest.approx(20, rel=1e-6)


def test_the_prefix_ends_at_the_first_wrong_token() -> None:
    known = ids()
    wrong = [*known[:8], 2, *known[9:]]
    results, _ = reproduce(successor(wrong), byte_tokenizer(), target(TEXT), prompt="", chunk=512)
    assert results["first_miss"] == results["greedy_prefix"] == results["greedy_prefix_teacher_forced"] == 7
    # The token after the wrong one is not known either; all later ones are.
    assert results["share_rank1"] == pytest.approx(1 - 2 / len(TEXT))


def test_an_over_fitted_transformer_writes_the_text_with_and_without_its_cache() -> None:
    model, tokenizer = llama(dtype=torch.float32), byte_tokenizer()
    text = "abababcabababd"  # what follows depends on more than the character before
    sequence_1T = torch.tensor([ids(text)])
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        model(sequence_1T, labels=sequence_1T).loss.backward()
        optimizer.step()
    results, _ = reproduce(model, tokenizer, target(text), prompt="", chunk=512)
    assert results["greedy_prefix"] == results["greedy_prefix_teacher_forced"] == len(text)
    results, _ = reproduce(model, tokenizer, target("abababcabababe"), prompt="", chunk=512)
    assert results["greedy_prefix"] == results["greedy_prefix_teacher_forced"] == len(text) - 1


@torch.no_grad()
def test_the_prompt_is_read_but_not_scored() -> None:
    model, tokenizer = llama(), byte_tokenizer()
    results, tokens = reproduce(model, tokenizer, target("abc"), prompt="xyz ", chunk=512)
    sequence = ids("xyz abc")
    log_TV = torch.log_softmax(model(torch.tensor([sequence])).logits[0], dim=-1)
    assert results["nats"] == pytest.approx(-sum(float(log_TV[t - 1, sequence[t]]) for t in (5, 6, 7)), rel=1e-9)
    assert len(tokens["tokens"]) == 3


def test_without_bos_the_first_token_is_not_scored() -> None:
    results, tokens = reproduce(llama(), byte_tokenizer(bos=False), target("éabc"), prompt="", chunk=512)
    assert results["n_tokens"] == 4 and results["n_bytes"] == sum(token["bytes"] for token in tokens["tokens"])


def test_words_of_the_target_are_in_results_only_where_it_is_published() -> None:
    model, tokenizer = llama(), byte_tokenizer()
    text = "Pierre Menard, author"
    for publish in (False, True):
        results, tokens = reproduce(model, tokenizer, target(text, publish=publish), prompt="", chunk=512)
        assert "Menard" not in json.dumps(results)
        assert set(results) == set(KEYS)
        shown = "".join(token.get("text", "") for token in tokens["tokens"])
        assert shown == (text if publish else "")
        assert all(set(token) == set(TOKEN_KEYS) - (set() if publish else {"text"}) for token in tokens["tokens"])
    assert "Menard" not in repr(target(text))


FULL = ReproductionConfig(piece=16, stride=None, free_controls=True, numeric_tokens=64)


def test_the_piece_in_which_a_text_is_read_changes_nothing() -> None:
    model, tokenizer, text = llama(), byte_tokenizer(), "Pierre Menard, autor del Quijote. " * 6
    expected, tokens = reproduce(model, tokenizer, target(text), prompt="x", chunk=512)
    for piece, chunk in ((16, 7), (50, 512), (1000, 33)):
        config = dataclasses.replace(BRIEF, piece=piece)
        found, others = reproduce(model, tokenizer, target(text), prompt="x", chunk=chunk, config=config)
        for name, value in expected.items():
            assert found[name] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value)
        for one, other in zip(tokens["tokens"], others["tokens"], strict=True):
            assert other == pytest.approx(one, rel=1e-9)


def test_draws_from_a_model_need_as_many_samples_as_is_said() -> None:
    """The number of draws until the text appears is geometric, with 10 to the figure as its mean."""
    generator, true = torch.Generator().manual_seed(3), ids("abc")
    logits_VV = torch.full((259, 259), -20.0)
    for token in true[:-1]:
        logits_VV[token, true] = torch.randn(len(true), generator=generator)
    results, _ = reproduce(bigram(logits_VV), byte_tokenizer(), target("abc"), prompt="", chunk=8)
    expected = 10 ** results["log10_expected_samples"]
    assert 20 < expected < 500
    n_draws = round(4000 * expected)
    drawn_N = torch.ones(n_draws, dtype=torch.bool)  # whether a draw is the text so far
    for given, token in pairwise(true):
        row_V = torch.softmax(logits_VV[given], dim=0)
        drawn_N &= torch.multinomial(row_V, n_draws, replacement=True, generator=generator) == token
    waits = torch.diff(torch.nonzero(drawn_N)[:, 0]).double()
    assert float(waits.mean()) == pytest.approx(expected, rel=0.07)  # four standard errors of 4,000 waits
    assert float(waits.std()) == pytest.approx(expected, rel=0.15)


@torch.no_grad()
def test_beyond_the_context_tokens_are_scored_in_windows() -> None:
    model, tokenizer, text = llama(), byte_tokenizer(), "".join(chr(97 + n * n % 23) for n in range(70))
    model.config.max_position_embeddings = 40
    config = dataclasses.replace(BRIEF, stride=15)
    results, tokens = reproduce(model, tokenizer, target(text), prompt="", chunk=9, config=config)
    assert (results["mode"], results["window"], results["stride"]) == ("strided", 40, 15)
    sequence, expected = ids(text), []
    for place in range(1, len(sequence)):
        window = 0 if place < 40 else 1 + (place - 40) // 15
        begin = 1 if window == 0 else 40 + 15 * window - 39
        given = [1, *sequence[begin:place]]
        assert len(given) >= (40 - 15 if window else 1)
        expected.append(float(torch.log_softmax(model(torch.tensor([given])).logits[0, -1], -1)[sequence[place]]))
    assert [token["logprob"] for token in tokens["tokens"]] == pytest.approx(expected, rel=1e-9)
    assert results["nats"] == pytest.approx(-sum(expected), rel=1e-9)
    assert results["n_tokens"] == results["n_bytes"] == 70


def test_a_text_that_fits_is_read_whole_whatever_the_stride() -> None:
    model, tokenizer = llama(), byte_tokenizer()
    expected, _ = reproduce(model, tokenizer, target(TEXT), prompt="", chunk=9)
    found, _ = reproduce(
        model, tokenizer, target(TEXT), prompt="", chunk=9, config=dataclasses.replace(BRIEF, stride=5)
    )
    assert found == expected and (found["mode"], found["window"], found["stride"]) == ("whole", None, None)


def test_a_text_known_by_heart_is_written_across_windows() -> None:
    model = successor(ids())
    model.config.max_position_embeddings = 12
    config = dataclasses.replace(BRIEF, stride=4)
    results, _ = reproduce(model, byte_tokenizer(), target(TEXT), prompt="", chunk=512, config=config)
    assert results["mode"] == "strided"
    assert results["greedy_prefix"] == results["greedy_prefix_teacher_forced"] == len(TEXT)


def beside(text: str) -> Target:
    """A private target with an edition and two controls."""
    editions = (dataclasses.replace(target("Otra edición"), name="es", language="es"),)
    controls = (
        dataclasses.replace(target("Quite another", publish=True), name="shown"),
        dataclasses.replace(target("A hidden one", prompt="Title: "), name="hidden"),
    )
    return dataclasses.replace(target(text), editions=editions, controls=controls)


def test_editions_and_controls_are_scored_like_targets_of_their_own() -> None:
    model, tokenizer, whole = llama(), byte_tokenizer(), beside("Pierre Menard")
    results, tokens = reproduce_all(model, tokenizer, whole, FULL, 8)
    assert [found["target_name"] for found in results["editions"]] == ["es"]
    assert [found["target_name"] for found in results["controls"]] == ["shown", "hidden"]
    for text, found, listed in (
        (whole, results, tokens),
        (whole.editions[0], results["editions"][0], tokens["editions"][0]),
        (whole.controls[1], results["controls"][1], tokens["controls"][1]),
    ):
        alone, own = reproduce(model, tokenizer, text, prompt=text.prompt, chunk=8, config=FULL)
        below = {"editions": found["editions"], "controls": found["controls"]}
        assert found == alone | below and set(found) == set(KEYS)
        assert listed["tokens"] == own["tokens"] and set(listed) == set(own)
    json.dumps([results, tokens], allow_nan=False)


def test_words_beside_the_target_are_in_results_only_where_each_is_published() -> None:
    results, tokens = reproduce_all(llama(), byte_tokenizer(), beside("Pierre Menard"), FULL, 8)
    assert not [word for word in ("Menard", "edición", "another", "hidden one", "Title") if word in json.dumps(results)]
    listed = (tokens, *tokens["editions"], *tokens["controls"])
    assert ["text" in found["tokens"][0] for found in listed] == [False, False, True, False]


def test_controls_are_written_only_where_that_is_wanted() -> None:
    config = dataclasses.replace(FULL, free_controls=False)
    results, _ = reproduce_all(llama(), byte_tokenizer(), beside("Pierre Menard"), config, 8)
    assert [found["greedy_prefix"] for found in results["controls"]] == [None, None]
    assert all(any("free_controls" in line for line in found["left_out"]) for found in results["controls"])
    assert None not in (results["greedy_prefix"], results["editions"][0]["greedy_prefix"])


def test_a_model_without_a_cache_is_scored_and_not_decoded() -> None:
    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(vocab_size=259, hidden_size=16, state_size=4, num_hidden_layers=2)).eval()
    results, _ = reproduce(model, byte_tokenizer(), target("Pierre Menard"), prompt="", chunk=8)
    assert results["cached"] is False and results["greedy_prefix"] is None and results["nats"] > 0
    assert any(line.startswith("greedy_prefix: ") for line in results["left_out"])


@pytest.mark.parametrize("wrong", [{"piece": 0}, {"stride": 0}, {"numeric_tokens": -1}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=rf"evaluation\.reproduction\.{next(iter(wrong))}="):
        dataclasses.replace(BRIEF, **wrong)
