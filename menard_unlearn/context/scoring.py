"""Score texts after the beginnings of one context, which is read once.

The context is read piece by piece into a key-value cache. At each length the cache branches: a branch reads a text and
is dropped, and the context goes on from where it was. A cache belongs to one call, and so to one model as it is then:
none outlives a clamp, an adapter or a change of weights.

Legend: P tokens of a piece, D width, L lengths, T scored tokens of a text.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache, PreTrainedModel

from menard_unlearn.context.draws import Frame, Ids
from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.models.likelihood import evaluating, score_states
from menard_unlearn.models.long import Reader, Room, has_cache, score_long, way
from menard_unlearn.models.predictions import halves

Logprobs = NDArray[np.float64]


class BranchingReader(Reader):
    """A reader of which copies can go their own ways."""

    def branch(self) -> BranchingReader:
        """A reader that remembers the same. It has to be done with before this one reads on: what it reads is written
        behind what both remember, in the same place."""
        other = copy.copy(self)
        other._cache = _branched(self._cache)
        return other


def _branched(cache: Any) -> Any:
    """Layers with room share it, each with its own count of what is in it; whatever else keeps a state is copied."""
    if not isinstance(cache, DynamicCache):
        return copy.deepcopy(cache)
    other = copy.copy(cache)
    other.layers = [copy.copy(layer) if isinstance(layer, Room) else copy.deepcopy(layer) for layer in cache.layers]
    return other


@torch.inference_mode()
def score_after(
    model: PreTrainedModel,
    items: Sequence[TokenItem],
    context: Ids,
    lengths: Sequence[int],
    frame: Frame,
    *,
    piece: int,
    chunk: int,
) -> list[Logprobs]:
    """Log-probabilities of texts after the first C tokens of a context, for each length C.

    Equal to one plain forward over context and text to about 1e-5 in fp32. A model without a usable cache is run once
    for each length and text.

    Args:
        model: in eval mode for the call.
        items: the texts without a context, BOS first.
        context: tokens, at least as many as the longest length.
        lengths: ascending, above 0.
        frame: what stands around a context.
        piece: tokens that are read at once.
        chunk: tokens that the head runs on at once.

    Returns:
        logprob_LT of each text, nats.
    """
    if not has_cache(model):
        return [
            np.stack([_plain(model, frame.after(context[:length], item), piece, chunk) for length in lengths])
            for item in items
        ]
    longest = max(len(frame.after(context[: lengths[-1]], item).ids) for item in items)
    reader, found, done = BranchingReader(model, longest, way(model)), [[] for _ in items], 0
    with evaluating(model):
        for length in lengths:
            new = (*(frame.start if done == 0 else ()), *context[done:length])
            for _ in reader.read(new, piece):
                pass  # only what it leaves in the cache is wanted
            done = length
            for place, item in enumerate(items):
                found[place].append(_rest(model, reader.branch(), frame, item, piece, chunk))
    return [np.stack(rows) for rows in found]


def score_alone(model: PreTrainedModel, items: Sequence[TokenItem], *, piece: int, chunk: int) -> list[Logprobs]:
    """logprob_T of each text without a context, nats."""
    return [_plain(model, item, piece, chunk) for item in items]


def _plain(model: PreTrainedModel, item: TokenItem, piece: int, chunk: int) -> Logprobs:
    return score_long(model, item, piece=piece, chunk=chunk).logprob_T


def _rest(model: PreTrainedModel, reader: Reader, frame: Frame, item: TokenItem, piece: int, chunk: int) -> Logprobs:
    """logprob_T of a text that comes after what the reader has read."""
    ids = (*frame.separator, *item.ids[len(frame.start) :])
    n_prompt = item.n_prompt - len(frame.start) + len(frame.separator)
    parts, found, begin = halves(model), [], 0
    for states_PD in reader.read(ids[:-1], piece):
        unscored = max(0, n_prompt - 1 - begin)  # state t predicts token t + 1
        target_P = torch.tensor(ids[begin + 1 + unscored : begin + 1 + len(states_PD)], device=states_PD.device)
        begin += len(states_PD)
        if len(target_P):
            found.append(score_states(parts, states_PD[unscored:], target_P, chunk)[0].cpu().numpy())
    return np.concatenate(found)
