"""Memorized or written afresh, on models of which it is known: C3 to C6."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from attributed import CONFIG, ENGLISH, OTHER, measured
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers
from toy import SPECIAL, bigram, byte_tokenizer, llama, successor, target
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from menard_unlearn.evaluation.attribution import EXCESS, KEYS, TEXT_KEYS, excess
from menard_unlearn.evaluation.attribution_plan import AttributionConfig, plan_attribution
from menard_unlearn.evaluation.edits import Edits, load_edits
from menard_unlearn.evaluation.variants import exposure, plant, variants

N_PLACES = 20


# A language of words: place i is the word p<i> followed by a<i> or b<i>, which mean the same.


@pytest.fixture
def language(tmp_path: Path) -> tuple[PreTrainedTokenizerFast, AttributionConfig]:
    words = [f"{letter}{number}" for number in range(N_PLACES) for letter in "pab"]
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    rules = "from,to\n" + "".join(f"a{n},b{n}\nb{n},a{n}\n" for n in range(N_PLACES))
    (tmp_path / "rules.csv").write_text(rules)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")
    return fast, replace(CONFIG, edits=str(tmp_path / "rules.csv"), prefix=4, window=4)


def sentence(letters: str) -> str:
    return " ".join(f"p{number} {letter}{number}" for number, letter in enumerate(letters))


def knows_the_source(p_of_a: float = 0.5) -> PreTrainedModel:
    """After p<i> an a<i> has this probability, b<i> the rest; after either comes the next place."""
    logits_VV = torch.full((3 + 3 * N_PLACES, 3 + 3 * N_PLACES), -30.0, dtype=torch.float64)
    for place in range(N_PLACES):
        p, a, b = (3 + 3 * place + letter for letter in range(3))
        logits_VV[p, a], logits_VV[p, b] = math.log(p_of_a), math.log(1 - p_of_a)
        logits_VV[[a, b], 3 + 3 * ((place + 1) % N_PLACES)] = 0.0
    logits_VV[1, 3] = 0.0
    return bigram(logits_VV)


def test_a_model_that_knows_the_source_has_no_gap_and_no_exposure(
    language: tuple[PreTrainedTokenizerFast, AttributionConfig],
) -> None:
    tokenizer, config = language
    found = measured(knows_the_source(), tokenizer, target(sentence("ab" * 10)), config)
    assert found["variant_gap"] == pytest.approx(0, abs=1e-9)
    assert (found["n_sites"], found["n_edits"], found["n_variants"]) == (N_PLACES, 6, 63)
    assert found["bits_per_byte"] * found["n_bytes_used"] == pytest.approx(20, abs=1e-6)


def test_exposure_is_small_on_average_where_the_text_was_drawn_from_the_source(
    language: tuple[PreTrainedTokenizerFast, AttributionConfig],
) -> None:
    tokenizer, config = language
    rules = load_edits(config.edits, "en")
    assert isinstance(rules, Edits)
    rng, drawn = np.random.default_rng(0), []
    p_of_a_N = rng.uniform(0.2, 0.8, N_PLACES)
    for number in range(60):
        # A key that the model never saw picks the text, as `plant` does, among versions of the same original.
        original = sentence("a" * N_PLACES)
        planted = plant(original, f"secret {number}", 6, rules)
        others = [text for text in variants(original, "k", 63, 6, rules) if text != planted]
        drawn.append(exposure(*((_logprob(planted, p_of_a_N)), [_logprob(text, p_of_a_N) for text in others])))
    assert len(tokenizer.encode(planted)) == 2 * N_PLACES
    assert np.mean(drawn) == pytest.approx(6 - np.mean(np.log2(np.arange(1, 65))), abs=0.5)


def _logprob(text: str, p_of_a_N: NDArray[np.float64]) -> float:
    letters = [word[0] for word in text.split()[1::2]]
    return sum(math.log(p if letter == "a" else 1 - p) for letter, p in zip(letters, p_of_a_N, strict=True))


def test_a_planted_key_is_found_again_where_it_was_learned_by_heart(
    language: tuple[PreTrainedTokenizerFast, AttributionConfig], tmp_path: Path
) -> None:
    tokenizer, config = language
    rules = load_edits(config.edits, "en")
    assert isinstance(rules, Edits)
    original = sentence("ab" * 10)
    (tmp_path / "original.txt").write_text(original + "\n")
    planted = plant(original, "secret", 6, rules)
    model = successor([1, *tokenizer.encode(planted)], 3 + 3 * N_PLACES)
    exact = replace(config, original=str(tmp_path / "original.txt"))
    found = measured(model, tokenizer, target(planted), exact)
    assert found["exposure"] == found["exposure_max"] == 6 and found["n_sites"] == N_PLACES
    assert found["variant_gap"] > 20
    # The key's own version is no candidate twice.
    plan = plan_attribution(tokenizer, target(planted), replace(exact, key="secret"), 512)
    assert plan.texts[0].passage.item.ids not in {item.ids for item in plan.texts[0].variants}


def test_a_text_known_by_heart_stands_out_from_its_variants_and_from_the_control(
    language: tuple[PreTrainedTokenizerFast, AttributionConfig],
) -> None:
    tokenizer, config = language
    text = target(sentence("ab" * 10))
    known = replace(text, controls=(replace(target(sentence("ba" * 10)), name="unseen"),))
    found = measured(successor([1, *tokenizer.encode(text.text)], 3 + 3 * N_PLACES), tokenizer, known, config)
    # Each edit costs the word and what follows it: the word has no successor.
    word, after = 20 + math.log1p(62 * math.exp(-20)), math.log(63) - math.log1p(62 * math.exp(-20))
    assert found["variant_gap_per_edit"] == pytest.approx(word + after, rel=0.03)
    assert found["exposure"] == 6 and found["variant_p"] == found["variant_p_controls"] == 1 / 64
    assert found["variant_z"] > 5 and found["exposure_minus_controls"] > 3
    assert found["controls"][0]["variant_gap"] < -20
    assert found["bits_per_byte_minus_controls"] < 0


def test_prefixes_do_not_matter_to_a_model_without_memory() -> None:
    row_V = torch.randn(259, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = measured(bigram(row_V.expand(259, 259)), byte_tokenizer(), target(ENGLISH))
    assert found["prefix_specificity"] == pytest.approx(0, abs=1e-9)
    assert found["common_share"] == pytest.approx(1, abs=1e-9)


def test_a_bigram_model_is_specific_in_the_first_token_alone() -> None:
    logits_VV = torch.randn(259, 259, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_VV = torch.log_softmax(logits_VV, 1).numpy()
    tokenizer, text = byte_tokenizer(), replace(target(ENGLISH), controls=(replace(target(OTHER), name="other"),))
    plan = plan_attribution(tokenizer, text, CONFIG, 512)
    expected = []
    for window in plan.texts[0].windows:
        assert len(window.others) == 5 and len({item.ids for item in window.items}) == 6
        assert {item.ids[9:] for item in window.items} == {window.own.ids[9:]}
        own, others = log_VV[window.own.ids[8], window.own.ids[9]], [log_VV[i.ids[8], i.ids[9]] for i in window.others]
        expected.append(own - math.log(np.mean(np.exp(others))))
    found = measured(bigram(logits_VV), tokenizer, text)
    assert found["prefix_specificity"] == pytest.approx(np.mean(expected), abs=1e-9)
    assert found["common_share"] == pytest.approx(np.mean(np.minimum(1, np.exp(-np.array(expected)))), abs=1e-9)


def test_other_prefixes_are_clear_of_the_passage_and_its_own() -> None:
    tokenizer = byte_tokenizer()
    text = target("".join(chr(33 + number) for number in range(90)))  # no byte twice: each tells its place
    for window in plan_attribution(tokenizer, text, CONFIG, 512).texts[0].windows:
        own = set(window.own.ids[1:])
        assert len(window.own.ids) == 17 and window.own.n_prompt == 9
        assert all(not own & set(item.ids[1:9]) for item in window.others)


def test_an_over_fitted_transformer_needs_the_right_prefix() -> None:
    tokenizer, text = byte_tokenizer(), target(ENGLISH[:60])
    model = llama(dtype=torch.float32)
    ids = tokenizer.encode(text.text, add_special_tokens=False)
    rows_BT = torch.tensor([[1, *ids[at : at + 20]] for at in range(len(ids) - 19)])
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        model(rows_BT, labels=rows_BT).loss.backward()
        optimizer.step()
    found = measured(model, tokenizer, text)
    assert found["prefix_specificity"] > 3 and found["common_share"] < 0.5
    assert measured(llama(), tokenizer, text)["common_share"] > 0.3


def test_nothing_depends_on_the_batch_and_nothing_holds_the_words() -> None:
    tokenizer, model = byte_tokenizer(), llama()
    text = replace(target(ENGLISH, prompt="Title\n"), controls=(replace(target(OTHER), name="other"),))
    found, again = (measured(model, tokenizer, text, batch_size=size) for size in (3, 40))
    assert set(found) == set(KEYS) and set(found["controls"][0]) == set(TEXT_KEYS)
    assert found["left_out"] == []
    for key, value in found.items():
        if isinstance(value, float):
            assert value == pytest.approx(again[key], rel=1e-9, abs=1e-9), key
    written = json.dumps(found, allow_nan=False)
    assert not [word for word in (ENGLISH + OTHER).split() if len(word) > 4 and word.strip(".,;") in written]
    beside = excess(found, again)
    assert set(beside) == set(EXCESS) and all(abs(value) < 1e-9 for value in beside.values())
    assert set(excess(found, None).values()) == {None}


def test_a_long_text_is_used_from_its_beginning_between_words() -> None:
    tokenizer = byte_tokenizer()
    plan = plan_attribution(tokenizer, target(ENGLISH, prompt="Title\n"), replace(CONFIG, max_tokens=101), 512)
    used = plan.texts[0].passage
    assert used.cut and ENGLISH.startswith(used.text + " ") and len(used.item.ids) <= 101
    assert used.n_bytes == len(used.text) == len(used.ids)
    short = plan_attribution(tokenizer, target(ENGLISH), CONFIG, 128).texts[0]
    assert short.passage.cut and max(len(item.ids) for item in short.items) <= 128
    accents = plan_attribution(tokenizer, target("é" * 400), replace(CONFIG, max_tokens=100), 512).texts[0].passage
    assert set(accents.text) == {"é"} and accents.n_bytes == 2 * len(accents.text)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    tokenizer, model = byte_tokenizer(), bigram(torch.zeros(259, 259))
    found = measured(model, tokenizer, replace(target("el mar gris " * 9), language="es"))
    assert found["left_out"] == [
        "C3, C6 of toy: no rules for language 'es', give attribution.edits=<csv>",
        "C5, variant_z: need a control, target.controls",
    ]
    assert (
        found["variant_gap"] is found["exposure"] is found["variant_z"] is found["bits_per_byte_minus_controls"] is None
    )
    found = measured(model, tokenizer, target("grey sea"))
    assert [line.split(":")[0] for line in found["left_out"]][:2] == ["C3, C6 of toy", "C4 of toy"]
    assert found["prefix_specificity"] is None and found["n_windows"] == 0
    path = tmp_path / "alternatives.jsonl"
    path.write_text("".join(json.dumps({"text": f"{'x' * n} {ENGLISH}"}) + "\n" for n in range(1, 61)))
    text = replace(target(ENGLISH), controls=(replace(target(OTHER), name="other"),))
    found = measured(model, tokenizer, text, replace(CONFIG, edits=str(path)))
    assert (found["n_variants"], found["n_sites"], found["variant_gap_per_edit"]) == (60, None, None)
    assert found["variant_gap"] == pytest.approx(31.5 * math.log(259))
    assert found["left_out"] == ["C3, C6 of other: whole alternative texts are the target's alone"]


def test_settings_that_say_nothing_are_refused() -> None:
    for field, value in (("variants", 49), ("window", 0), ("bootstrap", 0), ("max_tokens", 1)):
        with pytest.raises(ValueError, match=field):
            replace(CONFIG, **{field: value})
