"""(n, p)-extraction on models whose window probabilities are known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from toy import bigram, byte_tokenizer, llama, successor, target
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from menard_unlearn.evaluation.extraction import (
    COVERAGE_AT,
    COVERAGE_KEYS,
    KEYS,
    SAMPLING_KEYS,
    TEXT_KEYS,
    measure_extraction,
    samples_needed,
)
from menard_unlearn.evaluation.target import Target
from menard_unlearn.evaluation.windows import ExtractionConfig, ExtractionPlan, plan_extraction, token_spans
from menard_unlearn.models.scores import score

SHORT = ExtractionConfig(prefix=4, suffix=6, stride=3, top_k=5)
USUAL = ExtractionConfig(prefix=50, suffix=50, stride=5, top_k=40)
# Each character once: a model that looks one token back can know it by heart.
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def extract(
    model: PreTrainedModel,
    text: Target,
    config: ExtractionConfig = SHORT,
    tokenizer: PreTrainedTokenizerBase | None = None,
    batch_size: int = 8,
) -> dict:
    plan = plan_extraction(tokenizer or byte_tokenizer(), text, config, 512)
    scores = score(model, plan.items, batch_size=batch_size, chunk=64, padding=0, top_k=config.top_k)
    return measure_extraction(plan, scores, replicates=200, seed=0)


def windows_of(text: str, config: ExtractionConfig, *, bos: bool = True) -> ExtractionPlan:
    return plan_extraction(byte_tokenizer(bos), target(text), config, None)


def test_windows_are_cut_from_the_tokens_of_the_whole_text_and_bos_takes_none() -> None:
    ids = byte_tokenizer().encode(ALPHABET[:21], add_special_tokens=False)
    for bos in (True, False):
        (text,) = windows_of(ALPHABET[:21], SHORT, bos=bos).texts
        lead = 1 if bos else 0
        starts = [0, 3, 6, 9, 11]  # the last one ends with the text
        assert [window.ids[lead:] for window in text.windows] == [tuple(ids[at : at + 10]) for at in starts]
        assert {window.n_prompt for window in text.windows} == {lead + 4}
        assert text.suffix_W == tuple(at + 4 for at in starts)
        assert not bos or {window.ids[0] for window in text.windows} == {1}
    (usual,) = windows_of("x" * 100, USUAL).texts
    assert [(len(window.ids), window.n_prompt) for window in usual.windows] == [(101, 51)]


def test_a_uniform_model_has_v_to_the_minus_50() -> None:
    text = target("".join(ALPHABET[n % 62] for n in range(130)))
    found = extract(bigram(torch.zeros(259, 259)), text, USUAL)["texts"][0]
    for sampling in ("full", "top_k"):  # all tokens tie, so top-k keeps all of them
        log_p = found[sampling]["log_p_best"]
        assert log_p == pytest.approx(-50 * math.log(259), rel=1e-12)
        assert found[sampling]["log_p_median"] == pytest.approx(log_p, rel=1e-12)
        expected = math.log10(math.log(2)) + 50 * math.log10(259)
        assert found[sampling]["log10_n_best"] == pytest.approx(expected, rel=1e-12)
        assert found[sampling]["n_best"] is None
        assert [row["chars"] for row in found[sampling]["coverage"]] == [0, 0, 0, 0]
    assert (found["n_windows"], found["n_independent"], found["n_chars_tested"]) == (7, 1, 80)


@pytest.mark.parametrize(("p", "covered"), [(0.99, 4), (0.986, 3), (0.8710, 1), (0.80, 0)])
def test_a_constant_probability_of_a_token_is_raised_to_the_50th(p: float, covered: int) -> None:
    ids = byte_tokenizer().encode("ab" * 60, add_special_tokens=False)
    others = math.log((1 - p) / p / 258)
    logits_VV = torch.full((259, 259), others, dtype=torch.float64)
    for token, following in pairwise([*ids[:2], ids[0]]):
        logits_VV[token, following] = 0
    found = extract(bigram(logits_VV), target("ab" * 60), USUAL)["texts"][0]["full"]
    assert found["log_p_best"] == pytest.approx(50 * math.log(p), rel=1e-9)
    assert found["n_best"] == math.ceil(math.log(0.5) / math.log1p(-(p**50)))
    expected = [p**50 >= least for least in COVERAGE_AT]
    assert sum(expected) == covered
    assert [row["chars"] for row in found["coverage"]] == [row["windows"] for row in found["coverage"]] == expected


def test_top_k_is_kept_apart_and_shuts_out_what_lies_beyond() -> None:
    logits_VV = torch.zeros(259, 259, dtype=torch.float64)
    ids = byte_tokenizer().encode("ab", add_special_tokens=False)
    logits_VV[ids[0], ids[1]] = logits_VV[ids[1], ids[0]] = 1
    logits_VV[ids[0], 200] = logits_VV[ids[1], 200] = 2
    for top_k, a_token in ((1, -math.inf), (2, 1 - math.log(math.e**2 + math.e))):
        found = extract(bigram(logits_VV), target("ab" * 10), replace(SHORT, top_k=top_k))["texts"][0]
        assert found["full"]["log_p_best"] == pytest.approx(6 * (1 - math.log(math.e**2 + math.e + 257)), rel=1e-9)
        if a_token == -math.inf:
            assert (found["top_k"]["log_p_best"], found["top_k"]["log10_n_best"]) == (None, None)
        else:
            assert found["top_k"]["log_p_best"] == pytest.approx(6 * a_token, rel=1e-9)


def test_without_a_top_k_pass_that_part_is_left_out_by_name() -> None:
    plan = windows_of(ALPHABET, SHORT)
    scores = score(llama(), plan.items, batch_size=8, chunk=64, padding=0)
    found = measure_extraction(plan, scores, replicates=50, seed=0)
    assert found["texts"][0]["top_k"] is None and found["texts"][0]["full"] is not None
    assert found["left_out"] == ["B5 under top-k: needs a pass with top_k=5"]


def test_a_passage_known_by_heart_is_found_where_it_was_planted() -> None:
    tokenizer = byte_tokenizer()
    known = successor(tokenizer.encode(ALPHABET[20:40], add_special_tokens=False), strength=30)
    found = extract(known, target(ALPHABET), replace(SHORT, stride=1))["texts"][0]["full"]
    # A suffix is known from the token after its first known predecessor: characters 21 to 39.
    assert found["best_char"] in range(21, 35)
    # With one unknown token, at either end, a window still has 1/259.
    chars, windows = ([row[key] for row in found["coverage"]] for key in ("chars", "windows"))
    assert chars == pytest.approx([21 / 58, 19 / 58, 19 / 58, 19 / 58])
    assert windows == pytest.approx([16 / 53, 14 / 53, 14 / 53, 14 / 53])
    assert found["log_p_best"] == pytest.approx(0, abs=1e-9) and found["n_best"] == 1
    assert all(row["interval"] == "blocks" and row["low"] < row["chars"] < row["high"] for row in found["coverage"])
    planted = extract(known, target(ALPHABET[:21]), SHORT)["texts"][0]["full"]
    assert planted["coverage"][0]["chars"] == 0


def test_a_coverage_of_nothing_or_everything_still_has_an_interval() -> None:
    tokenizer = byte_tokenizer()
    whole = extract(successor(tokenizer.encode(ALPHABET, add_special_tokens=False), strength=30), target(ALPHABET))
    none = extract(bigram(torch.zeros(259, 259)), target(ALPHABET))
    n = 10  # blocks of the 58 tested tokens
    for found, share in ((whole, 1.0), (none, 0.0)):
        row = found["texts"][0]["full"]["coverage"][-1]
        assert (row["chars"], row["interval"]) == (share, "wilson")
        assert abs(row["high" if share == 0 else "low"] - share) == pytest.approx(1.96**2 / (n + 1.96**2), rel=1e-3)


def test_samples_needed_are_exact_at_both_ends() -> None:
    assert samples_needed(math.log(0.001), 0.5) == (693, pytest.approx(math.log10(692.8), abs=1e-4))
    assert samples_needed(0.0, 0.5) == (1, 0.0)
    assert samples_needed(math.log(0.5), 0.5)[0] == 1
    assert samples_needed(math.log(0.5), 0.9)[0] == 4
    assert samples_needed(-math.inf, 0.5) == (None, None)
    assert samples_needed(-1e-18, 0.5)[0] == 1
    for logprob in (-5000.0, -800.0, -40.0, -39.9, -30.0):
        _, log10_n = samples_needed(logprob, 0.5)
        assert log10_n == pytest.approx(math.log10(math.log(2)) - logprob / math.log(10), rel=1e-12)
    steps = [samples_needed(value, 0.5)[1] or 0.0 for value in np.linspace(-41, -39, 9)]
    assert all(a > b for a, b in pairwise(steps))


def test_short_texts_are_left_out_by_name_and_others_measured() -> None:
    text = replace(
        target(ALPHABET),
        editions=(replace(target("short"), name="brief"),),
        controls=(replace(target(ALPHABET[::-1]), name="backwards"),),
    )
    found = extract(llama(), text)
    assert [(own["role"], own["name"]) for own in found["texts"]] == [
        ("target", "toy"),
        ("edition", "brief"),
        ("control", "backwards"),
    ]
    assert [own["full"] is None for own in found["texts"]] == [False, True, False]
    assert found["left_out"] == ["B5 of edition 'brief': its 5 tokens are fewer than a window's 10"]
    plan = plan_extraction(byte_tokenizer(), text, SHORT, 10)
    assert not plan.items
    assert plan.texts[0].reason == "a window has 11 tokens, the model's context 10"


def test_batches_change_nothing_and_results_hold_no_words() -> None:
    words = "Pierre Menard did not want to compose another Quixote"
    found = [extract(llama(), target(words), batch_size=size) for size in (1, 16)]
    numbers = [own["texts"][0]["full"]["log_p_median"] for own in found]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-9)
    written = json.dumps(found[0], allow_nan=False)
    assert not [word for word in words.split() if len(word) > 3 and word in written]
    assert "Menard" not in repr(windows_of(words, SHORT)) and "TokenItem" not in repr(windows_of(words, SHORT).texts)
    assert set(found[0]) == set(KEYS)
    (own,) = found[0]["texts"]
    assert set(own) == set(TEXT_KEYS)
    for sampling in (own["full"], own["top_k"]):
        assert set(sampling) == set(SAMPLING_KEYS)
        assert [set(row) for row in sampling["coverage"]] == [set(COVERAGE_KEYS)] * 4


def test_a_character_cut_between_tokens_is_the_first_ones() -> None:
    text = "aé€b"
    ids = byte_tokenizer().encode(text, add_special_tokens=False)
    assert token_spans(byte_tokenizer(), text, ids) == [(0, 1), (1, 2), (2, 2), (2, 3), (3, 3), (3, 3), (3, 4)]


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"extraction\.prefix=0 must be 1 or more"):
        replace(SHORT, prefix=0)
    with pytest.raises(ValueError, match=r"stride=7 leaves tokens between suffixes of 6 unscored: give 6 or less"):
        replace(SHORT, stride=7)
