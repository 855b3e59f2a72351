"""Which year a model takes it to be, on models with a planted answer."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from toy import bigram, byte_tokenizer, llama
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from menard_unlearn.evaluation.dating import KEYS, PROMPT_KEYS, DatingConfig, measure_dating, plan_dating, quantile
from menard_unlearn.models.scores import score

YEARS = range(1930, 1950)
CONFIG = DatingConfig(prompts=("now is", "today it was", "here she sees"), first=1930, last=1949, min_mass=0.05)


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, and a year is a word."""
    words = ["<pad>", "<bos>", "<unk>", *" ".join(CONFIG.prompts).split(), *map(str, YEARS)]
    # Words that follow no prompt, so that chance is not the whole mass.
    words += [f"w{number}" for number in range(300)]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", unk_token="<unk>")


def knowing(answers: dict[str, dict[int, float]]) -> PreTrainedModel:
    """A model that puts these probabilities on years after these words, and the rest on one other word."""
    tokenizer = word_tokenizer()
    ids = tokenizer.get_vocab()
    logits_VV = torch.zeros(len(tokenizer), len(tokenizer), dtype=torch.float64)
    for word, share in answers.items():
        row_V = torch.full((len(tokenizer),), 1e-30, dtype=torch.float64)
        row_V[ids["w0"]] = max(1e-30, 1 - sum(share.values()))
        for year, p in share.items():
            row_V[ids[str(year)]] = p
        logits_VV[ids[word]] = row_V.log()
    return bigram(logits_VV)


def always(share: dict[int, float]) -> dict[str, dict[int, float]]:
    """The same answer after every prompt."""
    return {prompt.split()[-1]: share for prompt in CONFIG.prompts}


def date(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: DatingConfig, cutoff_year: int = 1939
) -> dict:
    plan = plan_dating(tokenizer, config)
    return measure_dating(
        plan, score(model, plan.items, batch_size=4, chunk=64, padding=0), config, cutoff_year=cutoff_year
    )


def test_a_planted_distribution_gives_its_own_median_and_span() -> None:
    shares = {1931: 0.02, 1935: 0.2, 1939: 0.1, 1942: 0.2, 1948: 0.03}
    found = date(knowing(always(shares)), word_tokenizer(), CONFIG)
    assert (found["status"], found["n_prompts_used"]) == ("parsed", 3)
    assert (found["low"], found["median"], found["high"], found["mode"]) == (1935, 1939, 1948, 1935)
    assert found["mass"] == pytest.approx(0.55, rel=1e-6)
    assert found["after"] == pytest.approx(0.23 / 0.55, rel=1e-6)
    expected = -sum(p / 0.55 * math.log2(p / 0.55) for p in shares.values())
    assert found["entropy"] == pytest.approx(expected, rel=1e-6)
    assert found["median_spread"] == 0


def test_an_exact_half_belongs_to_the_earlier_year() -> None:
    found = date(knowing(always({1935: 0.4, 1945: 0.4})), word_tokenizer(), CONFIG)
    assert found["median"] == 1935 and found["after"] == pytest.approx(0.5, rel=1e-9)
    share_Y = np.array([0.05, 0.25, 0.15, 0.05, 0.5])
    assert share_Y.cumsum()[3] < 0.5 and quantile(share_Y, np.arange(5.0), 0.5) == 3


def test_prompts_weigh_alike_however_much_they_put_on_years() -> None:
    answers = {"is": {1935: 0.9}, "was": {1945: 0.2}, "sees": {1945: 0.15}}
    found = date(knowing(answers), word_tokenizer(), CONFIG)
    assert found["after"] == pytest.approx(2 / 3, rel=1e-6)
    assert (found["median"], found["median_spread"]) == (1945, 10)
    assert [row["median"] for row in found["prompts"]] == [1935, 1945, 1945]


def test_a_prompt_without_years_is_not_used_and_still_counts_in_the_mass() -> None:
    answers = {"is": {1935: 0.6}, "was": {1945: 1e-6}, "sees": {1945: 0.049}}
    found = date(knowing(answers), word_tokenizer(), CONFIG)
    assert [row["used"] for row in found["prompts"]] == [True, False, False]
    assert (found["n_prompts_used"], found["median"], found["high"]) == (1, 1935, 1935)
    assert found["mass"] == pytest.approx((0.6 + 0.049) / 3, rel=1e-4)
    assert found["prompts"][1]["median"] is None and found["prompts"][1]["mass"] == pytest.approx(1e-6, rel=1e-3)


def test_a_model_that_does_not_date_itself_gets_no_year() -> None:
    found = date(knowing(always({1935: 1e-6})), word_tokenizer(), CONFIG)
    assert found["status"] == "unparseable" and found["mass"] < 1e-5
    nothing = ("median", "low", "high", "mode", "after", "entropy", "median_spread")
    assert all(found[key] is None for key in nothing)


def test_a_uniform_model_does_not_date_itself_by_chance() -> None:
    tokenizer = word_tokenizer()
    model = bigram(torch.zeros(len(tokenizer), len(tokenizer), dtype=torch.float64))
    found = date(model, tokenizer, CONFIG)
    assert found["mass"] == pytest.approx(found["chance_mass"], rel=1e-9)
    assert found["mass"] > CONFIG.min_mass and found["status"] == "unparseable"


def test_a_model_of_late_texts_peaks_late() -> None:
    late = {year: 0.5 ** (1949 - year) / 2 for year in YEARS}
    found = date(knowing(always(late)), word_tokenizer(), CONFIG)
    assert found["median"] >= 1948 and found["mode"] == 1949 and found["after"] > 0.99
    early = {year: 0.5 ** (year - 1930) / 2 for year in YEARS}
    found = date(knowing(always(early)), word_tokenizer(), CONFIG)
    assert found["mode"] == 1930 and found["after"] < 0.01


def test_a_year_of_several_tokens_is_the_product_of_these() -> None:
    tokenizer, model = byte_tokenizer(), llama()
    found = plan_dating(tokenizer, CONFIG)
    scores = score(model, found.items, batch_size=4, chunk=64, padding=0)
    ids = [1, *tokenizer.encode("now is 1944", add_special_tokens=False)]
    with torch.no_grad():
        log_TV = torch.log_softmax(model(torch.tensor([ids])).logits[0], dim=-1)
    expected = sum(float(log_TV[t - 1, ids[t]]) for t in range(len(ids) - 5, len(ids)))
    assert scores.of(found.items_PY[0][14]).logprob == pytest.approx(expected, rel=1e-9)
    assert found.chance == pytest.approx(20 * 259.0**-5, rel=1e-12)


def test_years_of_one_token_cost_one_row_a_prompt() -> None:
    plan = plan_dating(word_tokenizer(), CONFIG)
    tokenizer = word_tokenizer()
    model = bigram(torch.zeros(len(tokenizer), len(tokenizer), dtype=torch.float64))
    assert score(model, plan.items, batch_size=4, chunk=64, padding=0).n_rows == len(CONFIG.prompts)


def test_all_years_answer_the_same_question_where_some_merge_with_the_prompt() -> None:
    letters = {letter: number for number, letter in enumerate(dict.fromkeys("now is0123456789"))}
    vocabulary = letters | {" 1": 90, "s ": 91}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(vocab=vocabulary, merges=[(" ", "1"), ("s", " ")]))
    )
    plan = plan_dating(tokenizer, replace(CONFIG, prompts=("now is",), first=1998, last=2001))
    assert {item.ids[: item.n_prompt] for item in plan.items} == {tuple(letters[letter] for letter in "now i")}
    assert [len(item.ids) - item.n_prompt for item in plan.items] == [5, 5, 5, 5]


def test_all_years_of_all_four_digits_are_a_probability() -> None:
    config = replace(CONFIG, prompts=("now is",), first=1000, last=9999)
    plan = plan_dating(byte_tokenizer(), config)
    scores = score(bigram(torch.randn(259, 259)), plan.items, batch_size=64, chunk=512, padding=0)
    found = measure_dating(plan, scores, config, 1939)
    assert 0 < found["mass"] < 1


def test_keys_are_those_that_are_documented_and_no_prompt_is_shown() -> None:
    found = date(llama(), byte_tokenizer(), replace(CONFIG, min_mass=1e-30))
    assert list(found) == list(KEYS) and all(list(row) == list(PROMPT_KEYS) for row in found["prompts"])
    assert not [word for word in " ".join(CONFIG.prompts).split() if len(word) > 3 and word in json.dumps(found)]
    json.dumps(found, allow_nan=False)


def test_settings_that_cannot_be_are_refused() -> None:
    wrong = {"prompts": ((), (" ",)), "first": (1950, 99), "last": (10_000,), "min_mass": (0.0, 1.0)}
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(ValueError, match=name):
                replace(CONFIG, **{name: value})
