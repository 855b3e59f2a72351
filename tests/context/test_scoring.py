"""One cache for all lengths gives what a plain forward over each context and text gives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from tiny_architectures import TINY, VOCABULARY, tiny
from toy import byte_tokenizer, llama, target
from transformers import PreTrainedModel

from menard_unlearn.context import scoring
from menard_unlearn.context.draws import Frame, text_item
from menard_unlearn.context.scoring import score_after, score_alone
from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.features.hooks import editing
from menard_unlearn.models.long import Reader

LENGTHS = (2, 4, 8, 16)
FRAME = Frame(start=(1,), separator=(7, 8))
CONTEXT = tuple(3 + place * place % (VOCABULARY - 8) for place in range(16))
ITEMS = [
    TokenItem("text", (1, *(9 + place * 5 % (VOCABULARY - 12) for place in range(14))), 1),
    TokenItem("other", (1, 11, 12, *(20 + place * 3 % (VOCABULARY - 24) for place in range(9))), 3),
]


@torch.no_grad()
def plain(model: PreTrainedModel, item: TokenItem) -> np.ndarray:
    """One forward over everything, its whole logits."""
    logits_TV = model(torch.tensor([item.ids]), use_cache=False).logits[0].double()
    logprob_TV = logits_TV.log_softmax(1)
    places = torch.arange(item.n_prompt, len(item.ids))
    return logprob_TV[places - 1, torch.tensor(item.ids)[places]].numpy()


def after(model: PreTrainedModel, *, piece: int = 5) -> list[np.ndarray]:
    return score_after(model, ITEMS, CONTEXT, LENGTHS, FRAME, piece=piece, chunk=3)


@pytest.mark.parametrize("name", sorted(TINY))
def test_every_architecture_scores_as_a_plain_forward(name: str) -> None:
    """Gemma 3 and Mistral see a window: their layers keep a state of their own, without room behind it."""
    model = tiny(name)
    for item, logprob_LT in zip(ITEMS, after(model), strict=True):
        for length, logprob_T in zip(LENGTHS, logprob_LT, strict=True):
            assert logprob_T == pytest.approx(plain(model, FRAME.after(CONTEXT[:length], item)), abs=2e-5)


@pytest.mark.parametrize("piece", [1, 3, 64])
def test_how_the_context_is_read_makes_no_difference(piece: int) -> None:
    model = llama(VOCABULARY, dtype=torch.float64)
    for logprob_LT, other_LT in zip(after(model, piece=piece), after(model), strict=True):
        assert logprob_LT == pytest.approx(other_LT, rel=1e-9)


def test_the_context_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many tokens as the longest context has, and each text once a length."""
    read: list[int] = []
    step = Reader.step

    def counting(self: Reader, ids: Any) -> Any:
        read.append(len(ids))
        return step(self, ids)

    model = llama(VOCABULARY, dtype=torch.float32)
    after(model)  # the first call also tries how the model reads
    monkeypatch.setattr(Reader, "step", counting)
    after(model)
    texts = sum(len(item.ids) - len(FRAME.start) + len(FRAME.separator) - 1 for item in ITEMS)
    assert sum(read) == 1 + LENGTHS[-1] + len(LENGTHS) * texts


def test_a_model_without_a_cache_is_run_for_each_length(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama(VOCABULARY, dtype=torch.float64)
    with_cache = after(model)
    monkeypatch.setattr(scoring, "has_cache", lambda model: False)
    for logprob_LT, other_LT in zip(after(model), with_cache, strict=True):
        assert logprob_LT == pytest.approx(other_LT, rel=1e-9)


@contextmanager
def shifted(model: PreTrainedModel) -> Iterator[None]:
    with editing(model, 0, lambda hidden_BTD, positions: hidden_BTD + 0.5, special=()):
        yield


def test_no_cache_outlives_a_change_of_the_model() -> None:
    """Within an edit the context is read edited, too, and afterwards it is read as before."""
    model = llama(VOCABULARY, dtype=torch.float64)
    before = after(model)
    with shifted(model):
        inside = after(model)
        expected = plain(model, FRAME.after(CONTEXT[:8], ITEMS[0]))
    assert inside[0][2] == pytest.approx(expected, rel=1e-9)
    assert abs(inside[0] - before[0]).max() > 1e-3
    assert after(model)[0] == pytest.approx(before[0], rel=1e-12)


@pytest.mark.parametrize("bos", [True, False])
def test_a_text_alone_is_scored_on_the_same_tokens(bos: bool) -> None:
    tokenizer, model = byte_tokenizer(bos), llama(dtype=torch.float64)
    item = text_item(tokenizer, target("Salt and rope."))
    frame = Frame.of(tokenizer, "\n")
    (alone_T,) = score_alone(model, [item], piece=4, chunk=4)
    context = tuple(tokenizer.encode("A long pier."))
    (after_LT,) = score_after(model, [item], context, (2, 4), frame, piece=4, chunk=4)
    assert after_LT.shape == (2, len(alone_T)) and alone_T == pytest.approx(plain(model, item), rel=1e-9)
    assert after_LT[1] == pytest.approx(plain(model, frame.after(context[:4], item)), rel=1e-9)
