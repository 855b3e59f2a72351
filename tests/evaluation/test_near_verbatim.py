"""Free continuations, by models that know a text, half of it, or nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from toy import bigram, byte_tokenizer, llama, successor, target
from transformers import PreTrainedModel

from menard_unlearn.evaluation import overlap
from menard_unlearn.evaluation.near_verbatim import (
    KEYS,
    SUMMARY_KEYS,
    TEXT_KEYS,
    WRITTEN_KEYS,
    NearVerbatimConfig,
    near_verbatim,
)
from menard_unlearn.evaluation.target import Target

CONFIG = NearVerbatimConfig(prefix=4, places=3, tokens=24, samples=2, seed=0)
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def measured(model: PreTrainedModel, text: Target, config: NearVerbatimConfig = CONFIG, batch_size: int = 8) -> dict:
    return near_verbatim(model, byte_tokenizer(), text, config, batch_size=batch_size)


def by_heart(text: str, strength: float = 60.0) -> PreTrainedModel:
    return successor(byte_tokenizer().encode(text, add_special_tokens=False), strength=strength)


def test_a_model_that_knows_the_text_writes_it_from_every_place() -> None:
    (found,) = measured(by_heart("#" + ALPHABET), target(ALPHABET, prompt="#"))["texts"]
    places = [(row["given"], row["from_char"], row["sample"]) for row in found["written"]]
    starts = [("text", 4), ("text", 21), ("text", 38), ("prompt", 0)]
    assert places == [(*start, sample) for start in starts for sample in (None, 0, 1)]
    for row in found["written"]:
        assert row["n_chars"] == row["agree_chars"] == 24
        # All letters are one word, of which only the last continuation writes the end.
        words = int(row["from_char"] == 38)
        assert row["exact"] == {"block_chars": 24, "block_words": words, "share_in_blocks": 1.0, "distance": 0.0}
    assert found["greedy"]["n"] == 4 and found["sampled"]["n"] == 8
    for pooled in (found["greedy"], found["sampled"]):
        assert pooled["exact"] == {"block_chars": 24, "block_words": 1, "share_in_blocks": 1.0, "distance": 0.0}


def test_a_model_that_knows_half_of_it_leaves_it_there() -> None:
    (found,) = measured(by_heart(ALPHABET[:20] + "#"), target(ALPHABET), replace(CONFIG, places=1, samples=0))["texts"]
    (row,) = found["written"]
    assert (row["agree_chars"], row["exact"]["block_chars"], row["exact"]["share_in_blocks"]) == (16, 16, 0)
    assert row["exact"]["distance"] == pytest.approx(8 / 24)
    assert found["sampled"] is None


def test_repeating_what_was_given_is_no_reproduction() -> None:
    ids = byte_tokenizer().encode("abcd", add_special_tokens=False)
    (found,) = measured(successor([*ids, ids[0]], strength=60), target(ALPHABET), replace(CONFIG, places=1))["texts"]
    assert [row["exact"]["block_chars"] for row in found["written"]] == [0, 0, 0]


def test_fewer_tokens_are_written_where_the_text_or_the_context_ends() -> None:
    (found,) = measured(by_heart(ALPHABET), target(ALPHABET[:10]))["texts"]
    assert {(row["from_char"], row["n_chars"]) for row in found["written"]} == {(4, 6)}
    model = llama()
    model.config.max_position_embeddings = 12
    (found,) = measured(model, target(ALPHABET))["texts"]
    assert {row["n_chars"] <= 7 for row in found["written"]} == {True}


def test_samples_depend_on_nothing_beside_them() -> None:
    logits_VV = torch.zeros(259, 259)
    logits_VV[:, 40:44] = 8.0
    model, text = bigram(logits_VV), target(ALPHABET, prompt="#", publish=True)
    alone, together = (measured(model, text, batch_size=size)["texts"][0]["written"] for size in (1, 16))
    assert alone == together
    assert measured(model, text, replace(CONFIG, samples=1))["texts"][0]["written"][1] == alone[1]
    samples = [row["text"] for row in alone if row["sample"] is not None]
    assert len(set(samples)) == len(samples)
    other = measured(model, text, replace(CONFIG, seed=1))["texts"][0]["written"]
    assert other[0] == alone[0] and other[1] != alone[1]


def test_what_cannot_be_written_on_from_is_left_out_by_name() -> None:
    text = replace(
        target("tiny"),
        editions=(replace(target(ALPHABET, prompt="# "), name="full"),),
        controls=(replace(target(ALPHABET), name="one"), replace(target(ALPHABET), name="two")),
    )
    found = measured(llama(), text)
    assert [(own["role"], own["name"], own["greedy"] is None) for own in found["texts"]] == [
        ("target", "toy", True),
        ("edition", "full", False),
        ("control", "one", False),
    ]
    assert found["left_out"] == [
        "B7 of target 'toy': its 4 tokens are not more than the 4 that are given",
        "B7 of target 'toy' from its prompt: it has none",
    ]


def test_words_are_there_only_where_published() -> None:
    words = "Pierre Menard did not want to compose another Quixote"
    for publish in (False, True):
        found = measured(by_heart("Menard, pio"), target(words, publish=publish), replace(CONFIG, prefix=7))
        assert set(found) == set(KEYS)
        (own,) = found["texts"]
        assert set(own) == set(TEXT_KEYS) and set(own["greedy"]) == set(own["sampled"]) == set(SUMMARY_KEYS)
        for row in own["written"]:
            assert set(row) == set(WRITTEN_KEYS) - (set() if publish else {"text"})
            assert set(row["exact"]) == set(row["normalised"]) == set(overlap.KEYS)
        assert not [word for word in words.split() if not publish and len(word) > 3 and word in json.dumps(found)]
    written = json.dumps(found, allow_nan=False, ensure_ascii=False)
    assert '"text"' in written


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"near_verbatim\.tokens=0 must be 1 or more"):
        replace(CONFIG, tokens=0)
    with pytest.raises(ValueError, match=r"near_verbatim\.samples=-1 must be 0 or more"):
        replace(CONFIG, samples=-1)
