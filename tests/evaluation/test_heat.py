"""The heat map by character: where it is hot, and that other tokenizers find the same characters."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from toy import SPECIAL, bigram, byte_tokenizer, llama, successor, target
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from menard_unlearn.evaluation.heat import KEYS, TEXT_KEYS, measure_heat, plan_heat
from menard_unlearn.evaluation.target import Target
from menard_unlearn.evaluation.windows import ExtractionConfig, plan_extraction
from menard_unlearn.models.scores import score

CONFIG = ExtractionConfig(prefix=4, suffix=6, stride=1, top_k=5)
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def heat(
    model: PreTrainedModel,
    text: Target,
    tokenizer: PreTrainedTokenizerBase | None = None,
    context: int | None = 512,
    config: ExtractionConfig = CONFIG,
) -> dict:
    tokenizer = tokenizer or byte_tokenizer()
    plan = plan_heat(tokenizer, plan_extraction(tokenizer, text, config, context), context)
    return measure_heat(plan, score(model, plan.items, batch_size=8, chunk=64, padding=0))


def by_character(spans: list[list[float]], n: int) -> list[float | None]:
    values: list[float | None] = [None] * n
    for start, end, value in spans:
        values[int(start) : int(end)] = [value] * int(end - start)
    return values


def pairs_tokenizer(text: str) -> PreTrainedTokenizerFast:
    """Two characters a token, where they stand so in the text."""
    pairs = [text[at : at + 2] for at in range(0, len(text), 2)]
    letters = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    names = {token: number for number, token in enumerate([*letters, *pairs])}
    tokenizer = Tokenizer(models.BPE(vocab=names, merges=[(pair[0], pair[1]) for pair in pairs]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>")


def test_a_planted_passage_is_hot_and_the_rest_is_not() -> None:
    known = successor(byte_tokenizer().encode(ALPHABET[20:40], add_special_tokens=False), strength=30)
    (found,) = heat(known, target(ALPHABET))["texts"]
    values = by_character(found["windows"], len(ALPHABET))
    assert values[:4] == [None] * 4
    assert [place for place, value in enumerate(values) if value is not None and value > -1] == list(range(21, 40))
    # Outside, a window as near as can be has but one unknown token, so heat falls off by ln 259 a character.
    assert values[40] == pytest.approx(-math.log(259), abs=1e-3)
    assert values[42] == pytest.approx(-3 * math.log(259), abs=1e-3)
    tokens = by_character(found["tokens"], len(ALPHABET))
    assert [place for place, value in enumerate(tokens) if value is not None and value > -1] == list(range(21, 40))
    assert (found["windows_over_median"], found["windows_over_max"]) == (6, 6)


def test_neighbours_that_are_alike_are_one_run() -> None:
    (found,) = heat(bigram(torch.zeros(259, 259)), target(ALPHABET))["texts"]
    assert found["windows"] == [[4, 62, pytest.approx(-6 * math.log(259), abs=1e-3)]]
    assert len(found["tokens"]) == len(ALPHABET)


def test_the_number_of_windows_over_a_character_is_stated() -> None:
    (found,) = heat(llama(), target(ALPHABET), config=replace(CONFIG, stride=3))["texts"]
    assert (found["windows_over_median"], found["windows_over_max"]) == (2, 3)


def test_a_tokenizer_of_pairs_lies_over_the_same_characters() -> None:
    tokenizer = pairs_tokenizer(ALPHABET)
    ids = tokenizer.encode(ALPHABET, add_special_tokens=False)
    assert len(ids) == 31
    (found,) = heat(successor(ids[10:20], vocabulary=300, strength=30), target(ALPHABET), tokenizer)["texts"]
    values = by_character(found["windows"], len(ALPHABET))
    assert [place for place, value in enumerate(values) if value is not None and value > -1] == list(range(22, 40))
    assert found["tokens"][0][:2] == [0, 2] and found["tokens"][-1][:2] == [60, 62]
    assert found["n_chars"] == 62


def test_the_tokens_of_a_cut_character_are_summed_on_it() -> None:
    (found,) = heat(bigram(torch.zeros(259, 259)), target("aé€b" * 4))["texts"]
    one = pytest.approx(-math.log(259), abs=1e-3)
    assert found["tokens"][:4] == [
        [0, 1, one],
        [1, 2, pytest.approx(-2 * math.log(259), abs=1e-3)],
        [2, 3, pytest.approx(-3 * math.log(259), abs=1e-3)],
        [3, 4, one],
    ]


@torch.no_grad()
def test_tokens_are_read_after_the_prompt_and_beyond_the_context_in_windows() -> None:
    model = llama()
    (found,) = heat(model, target(ALPHABET, prompt="Quixote "))["texts"]
    sequence = [1, *byte_tokenizer().encode("Quixote " + ALPHABET, add_special_tokens=False)]
    log_TV = torch.log_softmax(model(torch.tensor([sequence])).logits[0], dim=-1)
    expected = [float(log_TV[t - 1, sequence[t]]) for t in range(9, len(sequence))]
    assert [row[2] for row in found["tokens"]] == pytest.approx(expected, abs=1e-3)
    assert found["token_context"] is None
    (cut,) = heat(model, target(ALPHABET, prompt="Quixote "), context=30)["texts"]
    sequence = [1, *byte_tokenizer().encode(ALPHABET[29:58], add_special_tokens=False)]
    log_TV = torch.log_softmax(model(torch.tensor([sequence])).logits[0], dim=-1)
    assert cut["tokens"][29] == [29, 30, pytest.approx(float(log_TV[0, sequence[1]]), abs=1e-3)]
    assert cut["token_context"] == 30 and len(cut["tokens"]) == 62
    (bare,) = heat(model, target(ALPHABET[:33]), byte_tokenizer(bos=False), context=16)["texts"]
    assert [row[0] for row in bare["tokens"]] == [*range(1, 16), *range(17, 32)]


def test_words_are_there_only_where_published_and_the_first_control_stands_beside() -> None:
    words = "Pierre Menard did not want to compose another Quixote"
    for publish in (False, True):
        text = replace(
            target(words, publish=publish),
            controls=(replace(target(ALPHABET), name="one"), replace(target(ALPHABET), name="two")),
            editions=(replace(target("né"), name="short"),),
        )
        found = heat(llama(), text)
        assert set(found) == set(KEYS)
        assert [own["name"] for own in found["texts"]] == ["toy", "short", "one"]
        assert ("Menard" in json.dumps(found, allow_nan=False)) == publish
        keys = [set(own) for own in found["texts"]]
        assert keys == [set(TEXT_KEYS) - (set() if publish and not n else {"text"}) for n in range(3)]
        assert found["left_out"] == ["B6 windows of edition 'short': its 3 tokens are fewer than a window's 10"]
        assert found["texts"][1]["windows"] is None and found["texts"][1]["tokens"] is not None


def test_a_text_with_nothing_to_score_is_left_out() -> None:
    found = heat(llama(), target("x"), byte_tokenizer(bos=False))
    assert found["texts"][0]["tokens"] is None
    assert "B6 tokens of target 'toy': it has no token to score" in found["left_out"]
