"""A long text read in pieces: the scores of one plain forward, with nothing held that grows with the text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_architectures import SIZE, TINY, tiny
from torch import Tensor
from torch.overrides import TorchFunctionMode
from toy import llama
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    DynamicCache,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    Lfm2Config,
    Lfm2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
)

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.models import long
from menard_unlearn.models.long import Reader, Room, Way, has_cache, roomy, score_long, strided, way


def item(n_tokens: int, vocabulary: int, n_prompt: int = 1) -> TokenItem:
    ids = torch.randint(3, vocabulary, (n_tokens,), generator=torch.Generator().manual_seed(1))
    return TokenItem("long", (1, *ids.tolist()[1:]), n_prompt)


@torch.no_grad()
def by_hand(model: PreTrainedModel, asked: TokenItem) -> list[float]:
    log_TV = torch.log_softmax(model(torch.tensor([asked.ids]), use_cache=False).logits[0].double(), dim=-1)
    return [float(log_TV[t - 1, asked.ids[t]]) for t in range(asked.n_prompt, len(asked.ids))]


def small(**changes: object) -> dict:
    return SIZE | {"num_hidden_layers": 3} | changes


HYBRID = {
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**small(num_key_value_heads=1, head_dim=8, sliding_window=6))),
    "cohere": lambda: CohereForCausalLM(CohereConfig(**small(num_key_value_heads=1, logit_scale=0.25))),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=64, n_embd=16, n_layer=3, n_head=2)),
    "lfm2": lambda: Lfm2ForCausalLM(
        Lfm2Config(**small(num_key_value_heads=1, layer_types=["conv", "full_attention", "conv"]))
    ),
}


FP32_INSIDE = ("gemma2", "deepseek_v3", "kimi_k25")
"""Whose softmax or router is fp32 in a float64 model too."""

EAGER = ("gemma2",)
"""Whose attention squeezes its scores, which only its own code does."""


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("name", [*TINY, *HYBRID])
def test_every_architecture_gives_what_one_forward_gives(
    name: str, masks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long, "LEAST", 1)
    torch.manual_seed(0)
    model = (tiny(name) if name in TINY else HYBRID[name]().eval()).double()
    if name in ("qwen3_moe", "deepseek_v3", "kimi_k25"):
        model.set_experts_implementation("eager")  # the fast one knows no float64
    tolerance = 1e-6 if name in FP32_INSIDE else 1e-9
    assert way(model) is (Way.MASKED if name in EAGER else Way.FREE)
    if masks:
        monkeypatch.setitem(long._WAYS, model, Way.MASKED)
    for asked, piece, chunk in ((item(40, 64), 7, 3), (item(33, 64, n_prompt=12), 5, 100), (item(9, 64), 100, 2)):
        found = score_long(model, asked, piece=piece, chunk=chunk)
        assert found.logprob_T.tolist() == pytest.approx(by_hand(model, asked), rel=tolerance)


def test_ranks_margins_and_argmax_are_those_of_the_plain_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long, "LEAST", 1)
    model, asked = llama(), item(60, 259, n_prompt=4)
    with torch.no_grad():
        logits_TV = model(torch.tensor([asked.ids])).logits[0, 3:-1]
    true_T = torch.tensor(asked.ids[4:])
    found = score_long(model, asked, piece=11, chunk=4)
    true_logit_T1 = logits_TV.gather(1, true_T[:, None])
    assert found.rank_worst_T.tolist() == (logits_TV >= true_logit_T1).sum(1).tolist()
    assert found.top_T.tolist() == logits_TV.argmax(1).tolist()
    others_T = logits_TV.scatter(1, true_T[:, None], -torch.inf).amax(1)
    assert found.margin_T.tolist() == pytest.approx((true_logit_T1[:, 0] - others_T).tolist(), rel=1e-9)


def test_a_model_in_training_mode_is_scored_without_dropout_and_left_in_it() -> None:
    model, asked = llama(), item(40, 259)
    expected = by_hand(model, asked)
    model.train()
    assert score_long(model, asked, piece=16, chunk=8).logprob_T.tolist() == pytest.approx(expected, rel=1e-9)
    assert model.training


def test_a_family_without_a_usable_cache_is_run_at_once() -> None:
    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=16, state_size=4, num_hidden_layers=2)).eval()
    asked = item(30, 64)
    assert not has_cache(model)
    found = score_long(model, asked, piece=4, chunk=8)
    assert found.logprob_T.tolist() == pytest.approx(by_hand(model, asked), rel=1e-4)


def test_a_cache_that_forgets_is_not_used() -> None:
    model = llama()
    decoder: Any = model.model
    forward = decoder.forward

    def forgetting(past_key_values: Any = None, **inputs: Any) -> Any:
        return forward(past_key_values=DynamicCache(), **inputs)

    decoder.forward = forgetting
    asked = item(20, 259)
    assert not has_cache(model)
    assert score_long(model, asked, piece=4, chunk=8).logprob_T.tolist() == pytest.approx(
        by_hand(model, asked), rel=1e-9
    )


def test_room_gives_what_growing_layers_give_and_copies_nothing() -> None:
    grown, cache = DynamicCache(), DynamicCache()
    new: list[tuple[Tensor, Tensor]] = [(torch.randn(1, 2, n, 4), torch.randn(1, 2, n, 6)) for n in (3, 1, 5)]
    place = None
    for number, (keys, values) in enumerate(new):
        expected, found = grown.update(keys, values, 0), cache.update(keys, values, 0)
        if number == 0:
            cache = roomy(cache, 9)
            layer = cache.layers[0]
            assert isinstance(layer, Room) and layer.keys is not None
            place = layer.keys.data_ptr()
        else:
            assert found[0].data_ptr() == place
        assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))
        assert cache.get_seq_length() == grown.get_seq_length()


@pytest.mark.parametrize("found", [Way.FREE, Way.MASKED])
def test_nothing_but_the_cache_grows_with_the_text(found: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest tensor that any operation makes, keys and values aside, is as large at 2,000 tokens as at 500."""
    monkeypatch.setitem(long.PAIRS_AT_ONCE, "cpu", 64 * 256)
    model, largest = llama(), {}
    monkeypatch.setitem(long._WAYS, model, found)
    for n_tokens in (500, 2000):
        with Largest() as seen:
            score_long(model, item(n_tokens, 259), piece=64, chunk=16)
        largest[n_tokens] = seen.n_bytes
    # piece × MLP width, and piece × keys so far; the ids of the text stay Python's
    assert largest[2000] <= largest[500] <= 64 * 256 * 8


class Largest(TorchFunctionMode):
    """The most bytes of a result, those aside that lie in the place made for keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.n_bytes = 0
        self._rooms: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            storage = result.untyped_storage()
            if func is Tensor.new_empty:
                self._rooms.add(storage.data_ptr())
            elif storage.data_ptr() not in self._rooms:
                self.n_bytes = max(self.n_bytes, storage.nbytes())
        return result


def test_the_bytes_of_the_cache_are_told() -> None:
    model = llama()
    reader = Reader(model, 40, way(model))
    with torch.inference_mode():
        for _ in reader.read(item(40, 259).ids, 8):
            pass
    assert reader.cache_bytes == 2 * 2 * 40 * 32 * 8  # layers × (keys and values) × tokens × width × bytes


@pytest.mark.parametrize(("n_tokens", "n_prompt"), [(50, 1), (50, 4), (50, 14), (17, 3), (12, 1), (13, 1), (50, 12)])
@pytest.mark.parametrize("lead", [0, 1])
def test_windows_score_each_token_once_with_enough_before_it(n_tokens: int, n_prompt: int, lead: int) -> None:
    window, stride = 12, 5
    text = TokenItem("t", tuple(range(100, 100 + n_tokens)), n_prompt)
    windows = strided(text, window=window, stride=stride, lead=lead)
    told = [token for found in windows for token in found.ids[found.n_prompt :]]
    assert told == list(text.ids[n_prompt:])
    assert all(len(found.ids) <= window and found.ids[:lead] == text.ids[:lead] for found in windows)
    later = windows if n_prompt >= window else windows[1:]
    assert all(found.n_prompt >= window - stride for found in later)
    for found in windows:  # what follows the start is a stretch of the text
        places = np.diff(found.ids[lead:])
        assert (places == 1).all()


def test_a_window_that_holds_the_text_is_the_text() -> None:
    text = item(40, 259, n_prompt=3)
    (found,) = strided(text, window=40, stride=7, lead=1)
    assert (found.ids, found.n_prompt) == (text.ids, text.n_prompt)


@pytest.mark.parametrize("stride", [0, 11, 12])
def test_a_stride_that_leaves_no_context_is_refused(stride: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 10"):
        strided(item(40, 259), window=12, stride=stride, lead=1)
