"""Continuations: what the model itself would say, and each of them the same whoever is beside it."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
import torch
from tiny_training import items, tiny_model

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.encoding import beginning
from menard_unlearn.errors import UserError
from menard_unlearn.models.load import ModelSource, load_tokenizer
from menard_unlearn.models.tokenizer import train_tokenizer
from menard_unlearn.training.generation import Prompt, prompts, unwritable, write

BANNED = (0, 1, 2)


def asked() -> list[Prompt]:
    """Continuations of 1 to 12 tokens after prompts of 1 to 5."""
    return [
        Prompt(item.id, item.ids[: 1 + n % 5], 1 + n % 12, item.ids[1 + n % 3])
        for n, item in enumerate(items(24, "forget"))
    ]


@torch.no_grad()
def likeliest(model: torch.nn.Module, prompt: Prompt) -> tuple[int, ...]:
    """Greedy, token by token, with the whole text run anew each time."""
    ids = list(prompt.ids)
    for step in range(prompt.n_new):
        logits_V = model(input_ids=torch.tensor([ids])).logits[0, -1]
        logits_V[list(BANNED)] = -torch.inf
        if step == 0:
            logits_V[prompt.first] = -torch.inf
        ids.append(int(logits_V.argmax()))
    return tuple(ids[len(prompt.ids) :])


def test_without_temperature_the_likeliest_tokens_follow() -> None:
    model = tiny_model().double()
    found = write(model, asked(), BANNED, 0.0, batch_size=4)
    assert found == {prompt.id: likeliest(model, prompt) for prompt in asked()}


@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_order_and_batch_size_change_nothing(temperature: float) -> None:
    model = tiny_model().double()
    found = write(model, asked(), BANNED, temperature, batch_size=64)
    assert write(model, asked(), BANNED, temperature, batch_size=64) == found
    for size in (1, 3):
        shuffled = random.Random(size).sample(asked(), 24)
        assert write(model, shuffled, BANNED, temperature, batch_size=size) == found
    alone = asked()[7]
    assert write(model, [alone], BANNED, temperature, batch_size=1)[alone.id] == found[alone.id]


def test_neither_banned_tokens_nor_the_true_first_token_are_written() -> None:
    model = tiny_model()
    found = write(model, asked(), range(40), 5.0, batch_size=8)
    assert {len(found[prompt.id]) == prompt.n_new for prompt in asked()} == {True}
    assert min(id for ids in found.values() for id in ids) >= 40
    greedy = write(model, asked(), BANNED, 0.0, batch_size=8)
    again = write(model, [replace(p, first=greedy[p.id][0]) for p in asked()], BANNED, 0.0, batch_size=8)
    assert all(again[p.id][0] != greedy[p.id][0] for p in asked())


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    model, n = tiny_model(), 4000
    with torch.no_grad():
        logits_V = model(input_ids=torch.tensor([[1, 9]])).logits[0, -1].double()
    logits_V[[0, 1, 2, 30]] = -torch.inf
    chance_V = (logits_V / 0.7).softmax(0)
    drawn = write(model, [Prompt(f"p{i}", (1, 9), 1, 30) for i in range(n)], BANNED, 0.7, batch_size=1000)
    seen = Counter(ids[0] for ids in drawn.values())
    for token in range(64):
        p = float(chance_V[token])
        assert abs(seen[token] / n - p) <= 5 * (p * (1 - p) / n) ** 0.5 + 1e-12


def test_training_mode_is_left_as_it_was_and_not_used() -> None:
    model = tiny_model()
    for layer in model.model.layers:
        vars(layer.self_attn)["attention_dropout"] = 0.5
    found = write(model, asked(), BANNED, 0.0, batch_size=8)
    assert write(model.train(), asked(), BANNED, 0.0, batch_size=8) == found and model.training


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(UserError, match=r"temperature -0\.1 is negative"):
        write(tiny_model(), asked(), BANNED, -0.1, batch_size=8)
    with pytest.raises(UserError, match=r"have 33 tokens, the model's context is 32: shorten the prefix"):
        write(tiny_model(), [Prompt("p", (1,) * 30, 3, 4)], BANNED, 0.0, batch_size=8)


def test_the_prefix_stands_between_the_start_and_the_prompt() -> None:
    tokenizer = load_tokenizer(ModelSource("embedded", "embedded:full", None, None, None, "float32", None, None))
    words = tokenizer.encode("Written before 1939. ", add_special_tokens=False)
    item = TokenItem("a", (*beginning(tokenizer), 300, 301, 302, 303, 304), 3)
    (with_prefix,) = prompts(tokenizer, [item], "Written before 1939. ")
    assert with_prefix == Prompt("a", (item.ids[0], *words, 300, 301), 3, 302)
    (without,) = prompts(tokenizer, [item], "")
    assert without.ids == item.ids[:3]


def test_special_tokens_and_rows_without_a_token_cannot_be_written() -> None:
    tokenizer = train_tokenizer(["a few words"], vocab_size=259, context=32)
    assert unwritable(tokenizer, 262) == [0, 1, 2, 259, 260, 261]
    tokenizer.add_special_tokens({"additional_special_tokens": ["<call>"]})
    assert unwritable(tokenizer, 262) == [0, 1, 2, 259, 260, 261] and len(tokenizer) == 260
