"""One long text, read piece by piece: what attention needs of the pieces before stays in a key-value cache.

Neither the logits nor the states of the whole text are ever held, and on a CPU no mask is made (`models.attention`).
Elsewhere, and for families that bring their own attention, a mask of piece × tokens so far is needed, and pieces get
shorter as the text gets longer. Beyond the cache, then, memory does not grow with the text, but for the columns of
results and, with masks, for one layer's keys and values, which transformers copies for all heads that share them.

Legend: T tokens of the text, P tokens of a piece, D width, V vocabulary, H heads, E width of a head, R room.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from enum import Enum
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.models.attention import can_do_without_masks, without_masks
from menard_unlearn.models.edited import without_edits
from menard_unlearn.models.likelihood import evaluating, score_states
from menard_unlearn.models.predictions import halves
from menard_unlearn.models.scores import ItemTokens, score
from menard_unlearn.models.stump import text_config

PAIRS_AT_ONCE = {"cpu": 1 << 22, "other": 1 << 26}
"""Queries × keys of a mask, which has a byte for each, and four more where attention wants numbers: the processor's
caches are small, a GPU's pieces must not be."""
LEAST = 16
"""Tokens that a piece has in any case."""


class Way(Enum):
    """How a model can read a text in pieces."""

    FREE = "no masks"
    MASKED = "masks"
    NONE = "it has no usable cache"


_WAYS: WeakKeyDictionary[nn.Module, Way] = WeakKeyDictionary()


class Room(DynamicLayer):
    """A layer's keys and values in a place that is large enough from the start: growing would copy them each time."""

    def __init__(self, grown: DynamicLayer, size: int) -> None:
        super().__init__()
        keys_BHTE, values_BHTE = grown.keys, grown.values
        if keys_BHTE is None or values_BHTE is None:
            raise ValueError("a layer that has read nothing does not know its shape")
        self.lazy_initialization(keys_BHTE, values_BHTE)
        self._keys_BHRE, self._values_BHRE = (
            old.new_empty((*old.shape[:2], size, old.shape[3])) for old in (keys_BHTE, values_BHTE)
        )
        self._filled = 0
        self.update(keys_BHTE, values_BHTE)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write what is new behind what is there. Returns all that is there."""
        begin, self._filled = self._filled, self._filled + key_states.shape[2]
        self._keys_BHRE[:, :, begin : self._filled] = key_states
        self._values_BHRE[:, :, begin : self._filled] = value_states
        self.keys, self.values = self._keys_BHRE[:, :, : self._filled], self._values_BHRE[:, :, : self._filled]
        return self.keys, self.values


class Reader:
    """A model that reads one text and remembers it."""

    def __init__(self, model: PreTrainedModel, room: int, way: Way) -> None:
        """`room` is the number of tokens that it will have read at the end."""
        self._model, self._way = model, way
        self._parts = halves(model)
        self._module = model.base_model if self._parts.split else model
        self._device = next(model.parameters()).device
        self._room = room
        self._cache: Any = None
        self._n_read = 0

    @property
    def cache_bytes(self) -> int:
        """What the keys and values of the tokens read so far take."""
        layers = [] if self._cache is None else self._cache.layers
        return sum(kept.nbytes for layer in layers for kept in (layer.keys, layer.values) if kept is not None)

    def read(self, ids: Sequence[int], piece: int) -> Iterator[Tensor]:
        """The states_PD (logits_PV of a model that cannot be split) of these tokens, at most `piece` at once."""
        at = 0
        while at < len(ids):
            size = piece
            if self._way is Way.MASKED:
                pairs = PAIRS_AT_ONCE["cpu" if self._device.type == "cpu" else "other"]
                size = max(LEAST, min(piece, pairs // (self._n_read + piece)))
            yield self.step(ids[at : at + size])
            at += size

    def step(self, ids: Sequence[int]) -> Tensor:
        """The states_PD of these tokens, read at once."""
        input_ids_1P = torch.tensor([ids], device=self._device)
        with without_masks(self._model) if self._way is Way.FREE else nullcontext():
            output = self._module(input_ids=input_ids_1P, past_key_values=self._cache, use_cache=True)
        self._n_read += len(ids)
        if self._cache is None:
            self._cache = roomy(output.past_key_values, self._room)
        return (output.last_hidden_state if self._parts.split else output.logits)[0]


def roomy(cache: Any, room: int) -> Any:
    """The cache, its growing layers now with room; those that see a window, or keep a state, are small as they are."""
    if isinstance(cache, DynamicCache):
        cache.layers = [
            Room(layer, room) if type(layer) is DynamicLayer and layer.is_initialized else layer
            for layer in cache.layers
        ]
    return cache


def has_cache(model: PreTrainedModel) -> bool:
    """Whether the model can read a text in pieces."""
    return way(model) is not Way.NONE


@torch.inference_mode()
def way(model: PreTrainedModel) -> Way:
    """The first way in which a text read in pieces has the states of the text read at once, tried once a model.

    Some families have no cache, or none that takes several tokens after others; which ones changes with each version of
    transformers.
    """
    if model not in _WAYS:
        module = model.base_model if halves(model).split else model
        ways = [Way.FREE] * can_do_without_masks(model) + [Way.MASKED]
        if "past_key_values" not in inspect.signature(module.forward).parameters:
            ways = []
        _WAYS[model] = next((found for found in ways if _agree(model, found)), Way.NONE)
    return _WAYS[model]


def _agree(model: PreTrainedModel, way: Way) -> bool:
    """On six tokens, in twos."""
    weight = next(model.parameters())
    ids = [token % text_config(model).vocab_size for token in range(6)]
    with evaluating(model), without_edits(model):
        whole_TD = halves(model).decoder({"input_ids": torch.tensor([ids], device=weight.device)})[0].float()
        reader = Reader(model, len(ids), way)
        found_TD = torch.cat([reader.step(ids[at : at + 2]) for at in range(0, len(ids), 2)]).float()
    tolerance = 1e-4 if weight.dtype in (torch.float32, torch.float64) else 2e-2
    return torch.allclose(whole_TD, found_TD, rtol=0, atol=tolerance * float(whole_TD.abs().max()))


@torch.inference_mode()
def score_long(model: PreTrainedModel, item: TokenItem, *, piece: int, chunk: int) -> ItemTokens:
    """Score an item by itself, at most `piece` tokens at a time and the head on `chunk` of those at a time.

    Equal to one plain forward to 1e-9 relative in a float64 model, about 1e-5 in fp32 and 1e-2 in bf16. A model without
    a usable cache (`has_cache`) is run once over the whole text, which holds the states of all its tokens. The model is
    in eval mode for the call.
    """
    if not has_cache(model):
        return score(model, [item], batch_size=1, chunk=chunk, padding=0).of(item)
    parts, reader, columns, begin = halves(model), Reader(model, len(item.ids) - 1, way(model)), [], 0
    with evaluating(model):
        for states_PD in reader.read(item.ids[:-1], piece):
            unscored = max(0, item.n_prompt - 1 - begin)  # state t predicts token t + 1
            target_P = torch.tensor(item.ids[begin + 1 + unscored : begin + 1 + len(states_PD)])
            begin += len(states_PD)
            if len(target_P):
                found = score_states(parts, states_PD[unscored:], target_P.to(states_PD.device), chunk)
                columns.append([values_P.cpu().numpy() for values_P in found])
    return ItemTokens(*(np.concatenate(column) for column in zip(*columns, strict=True)))


def strided(item: TokenItem, *, window: int, stride: int, lead: int) -> list[TokenItem]:
    """Windows that overlap, in which each scored token of the item is scored once.

    A window has at most `window` tokens and begins with the item's first `lead` ones (BOS or nothing), as the texts did
    that the model was trained on. After the first window at least `window` − `stride` tokens, these included, precede
    each scored one. Ids are those of the item with "@" and the number of the window. Raises ValueError where a window
    would have no room for tokens before those that it scores.
    """
    if not 1 <= stride < window - lead:
        raise ValueError(f"stride {stride} must lie between 1 and {window - lead - 1}, for a window of {window} tokens")
    windows, scored = [], item.n_prompt
    while scored < len(item.ids):
        begin, end = (lead, window) if scored < window else (scored + stride - window + lead, scored + stride)
        ids = (*item.ids[:lead], *item.ids[begin:end])
        windows.append(TokenItem(f"{item.id}@{len(windows)}", ids, scored - begin + lead))
        scored = min(end, len(item.ids))
    return windows
