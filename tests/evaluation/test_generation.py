"""Free text: no word of it depends on what is written beside it, and it follows the model's own distribution."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import bigram, byte_tokenizer, llama
from transformers import LlamaForCausalLM

from menard_unlearn.errors import UserError
from menard_unlearn.evaluation import generation
from menard_unlearn.evaluation.fluency import KEYS, fluency
from menard_unlearn.evaluation.generation import GenerationConfig, Written, write

CONFIG = GenerationConfig(
    prompts=("a", "Once upon a time there was", "In the", "The mill by the river", "b"),
    samples=3,
    max_new_tokens=12,
    temperature=1.0,
    min_words=1,
    seed=0,
)
EOS = 2


def by_hand(model: LlamaForCausalLM, config: GenerationConfig, prompt: int, sample: int) -> tuple[list[int], bool]:
    """One text, one token at a time, without a cache."""
    tokenizer = byte_tokenizer()
    ids = [1, *tokenizer.encode(config.prompts[prompt], add_special_tokens=False)]
    uniform_T = np.random.default_rng([config.seed, prompt, sample]).random(config.max_new_tokens)
    new: list[int] = []
    for uniform in uniform_T:
        with torch.no_grad():
            logits_V = model(torch.tensor([ids + new])).logits[0, -1].double()
        logits_V[[0, 1]] = -math.inf
        if config.temperature == 0:
            token = int(logits_V.argmax())
        else:
            sums_V = (logits_V / config.temperature).softmax(0).cumsum(0)
            token = int((sums_V <= uniform * sums_V[-1]).sum())
        if token == EOS:
            return new, True
        new.append(token)
    return new, False


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_texts_in_batches_are_those_written_one_by_one(temperature: float) -> None:
    model, config = llama(), replace(CONFIG, temperature=temperature)
    found = write(model, byte_tokenizer(), config, batch_size=64)
    assert len(found) == len(config.prompts) * (config.samples if temperature else 1)
    for one in found:
        assert (list(one.ids), one.ended) == by_hand(model, config, one.prompt, one.sample)
        assert one.text == byte_tokenizer().decode(list(one.ids))
    assert len({one.ids for one in found}) > len(config.prompts) - 1


def test_neither_batch_size_nor_other_openings_change_a_text() -> None:
    model, tokenizer = llama(), byte_tokenizer()
    whole = write(model, tokenizer, CONFIG, batch_size=64)
    for batch_size in (1, 4):
        assert write(model, tokenizer, CONFIG, batch_size=batch_size) == whole
    fewer = replace(CONFIG, prompts=CONFIG.prompts[:2], samples=2)
    assert write(model, tokenizer, fewer, batch_size=3) == [o for o in whole if o.prompt < 2 and o.sample < 2]
    longer = write(model, tokenizer, replace(CONFIG, max_new_tokens=20), batch_size=64)
    assert all(a.ids == b.ids[: len(a.ids)] for a, b in zip(whole, longer, strict=True))
    assert write(model, tokenizer, replace(CONFIG, seed=1), batch_size=64) != whole


def test_a_cache_that_rows_cannot_leave_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = llama(), byte_tokenizer()
    with torch.no_grad():
        model.lm_head.weight[EOS] *= 3  # some end early, some do not
    whole = write(model, tokenizer, CONFIG, batch_size=64)
    assert 0 < sum(one.ended for one in whole) < len(whole)
    monkeypatch.setattr(generation, "_selectable", lambda cache: False)
    assert write(model, tokenizer, CONFIG, batch_size=64) == whole


def test_samples_follow_the_models_own_distribution() -> None:
    logits_VV = torch.full((259, 259), -30.0)
    share = {"x": 0.5, "y": 0.3, "z": 0.2}
    ids = {letter: byte_tokenizer().encode(letter, add_special_tokens=False)[0] for letter in share}
    for letter, p in share.items():
        logits_VV[:, ids[letter]] = math.log(p)
    config = replace(CONFIG, prompts=("a", "bb"), samples=50, max_new_tokens=40)
    counts = Counter(
        token for one in write(bigram(logits_VV), byte_tokenizer(), config, batch_size=64) for token in one.ids
    )
    for letter, p in share.items():
        assert counts[ids[letter]] / 4000 == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 4000))


def test_what_has_no_chance_is_never_drawn() -> None:
    logits_BV = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]], dtype=torch.float64)
    for uniform, token in ((0.0, 1), (0.5, 3), (1 - 2**-53, 3)):
        assert generation._draw(logits_BV, 1.0, [uniform]) == [token]


def test_a_text_ends_where_the_model_ends_it() -> None:
    logits_VV = torch.zeros(259, 259)
    x, y = byte_tokenizer().encode("xy", add_special_tokens=False)
    for token, following in ((x, y), (y, EOS)):
        logits_VV[token, following] = 90.0
    config = replace(CONFIG, prompts=("x", "ay", "axy a x"), samples=1)
    found = write(bigram(logits_VV), byte_tokenizer(), config, batch_size=8)
    assert [(one.text, one.ended) for one in found] == [("y", True), ("", True), ("y", True)]


def test_special_tokens_are_never_written() -> None:
    logits_VV = torch.zeros(259, 259)
    logits_VV[:, 0], logits_VV[:, 1] = 50.0, 50.0
    found = write(bigram(logits_VV), byte_tokenizer(), CONFIG, batch_size=8)
    assert not {0, 1} & {token for one in found for token in one.ids}


def test_the_model_is_left_in_the_mode_that_it_was_in() -> None:
    model = llama().train()
    assert write(model, byte_tokenizer(), CONFIG, batch_size=8) == write(model, byte_tokenizer(), CONFIG, batch_size=8)
    assert model.training


def test_what_does_not_fit_the_context_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"opening 1 has 27 tokens.*512: lower") as caught:
        write(llama(), byte_tokenizer(), replace(CONFIG, max_new_tokens=490), batch_size=8)
    assert "\n" not in str(caught.value) and "Once" not in str(caught.value)


def texts(*given: str) -> list[Written]:
    return [Written(number, 0, (), text, number == 0) for number, text in enumerate(given)]


def test_repetition_counts_what_stood_in_the_same_text_before() -> None:
    found = fluency(texts("a b c d a b c d", "a b c d"))
    # five 4-grams, one of them again; the other text's does not count
    assert found["repetition"] == pytest.approx(1 / 6)
    assert (found["n_texts"], found["n_words"], found["mean_words"], found["ended"]) == (2, 12, 6, 0.5)
    assert found["distinct_1"] == pytest.approx(4 / 12)
    assert found["distinct_2"] == pytest.approx(4 / 10) and found["distinct_3"] == pytest.approx(4 / 8)
    assert fluency(texts("No, no; NO no no no no"))["repetition"] == pytest.approx(3 / 4)
    assert list(found) == list(KEYS)


def test_silence_has_no_figures() -> None:
    assert [key for key, value in fluency([]).items() if value is not None] == ["n_texts", "n_words"]
    found = fluency(texts("", ""))
    assert found["repetition"] is None and found["distinct_1"] is None and found["mean_words"] == 0


def test_settings_that_cannot_be_are_refused() -> None:
    wrong = {"prompts": (), "samples": 0, "max_new_tokens": 0, "min_words": 0, "temperature": -1.0}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=name):
            replace(CONFIG, **{name: value})
