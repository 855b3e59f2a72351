"""What a model writes when it is left to write: continuations of neutral openings.

Legend: B rows, V vocabulary, T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from menard_unlearn.corpus.encoding import beginning
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.tokens import context_length, decoded
from menard_unlearn.models.likelihood import evaluating
from menard_unlearn.training.generation import unwritable


@dataclass(frozen=True)
class GenerationConfig:
    """What a model is left to write."""

    prompts: tuple[str, ...]
    """Openings that belong to no time; without a space at their end."""
    samples: int
    """Continuations of each."""
    max_new_tokens: int
    """Longest continuation, in tokens."""
    temperature: float
    """1 samples from the model's own distribution, without any cut of its tail; 0 takes the likeliest token."""
    min_words: int
    """Words in all from which on a rate is given: below, "too short"."""
    seed: int
    """Of the random numbers; each continuation has its own."""

    def __post_init__(self) -> None:
        if not all(prompt.strip() for prompt in self.prompts) or not self.prompts:
            raise ValueError("prompts must hold at least one opening, and none without words")
        for name in ("samples", "max_new_tokens", "min_words"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be 1 or more")
        if self.temperature < 0:
            raise ValueError(f"temperature {self.temperature} must be 0 (the likeliest token) or more")


@dataclass(frozen=True)
class Written:
    """A continuation. Its words may be the target's: it goes into no result."""

    prompt: int
    """Number of the opening."""
    sample: int
    """Number among the continuations of that opening."""
    ids: tuple[int, ...]
    """Tokens after the opening, without the one that ended it."""
    text: str
    """The same in words."""
    ended: bool
    """Whether the model ended it; False where the limit did."""


@dataclass(frozen=True)
class _Row:
    prompt: int
    sample: int
    ids: tuple[int, ...]
    uniform_T: NDArray[np.float64]
    """What decides each token, in [0, 1)."""

    def uniform(self, step: int) -> float:
        """What decides the token of this step; of a row that is finished, anything."""
        return float(self.uniform_T[min(step, len(self.uniform_T) - 1)])


def write(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: GenerationConfig, *, batch_size: int
) -> list[Written]:
    """Continue each opening `samples` times, `batch_size` rows at a time; by opening, then by sample.

    A token is drawn by inverse CDF from softmax(logits / temperature) with a number of its own, made from (seed,
    opening, sample, place): no text depends on the batch, the order or the other openings (fp32 logits do in their last
    digits, which changes a token by the rarest chance). Special tokens other than those that end a text are never
    written. Greedy decoding has one text an opening, however many samples are asked for.

    Fails when a model ends at once, or the limit cuts every text: see `ended` and `mean_words`. Raises UserError where
    the model's context cannot hold an opening and its continuation.
    """
    rows = _rows(model, tokenizer, config)
    banned = _banned(model, tokenizer)
    stops = _stops(model, tokenizer)
    # Rows of like length together, so that little is forced.
    order = sorted(range(len(rows)), key=lambda number: (len(rows[number].ids), number))
    written: dict[int, Written] = {}
    with evaluating(model):
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            found = _continue(model, [rows[place] for place in places], banned, stops, config)
            for place, ids in zip(places, found, strict=True):
                row, ended = rows[place], bool(ids) and ids[-1] in stops
                kept = tuple(ids[:-1] if ended else ids)
                written[place] = Written(row.prompt, row.sample, kept, decoded(tokenizer, kept), ended)
    return [written[place] for place in range(len(rows))]


def _rows(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: GenerationConfig) -> list[_Row]:
    start, limit = beginning(tokenizer), context_length(model)
    rows = []
    for number, prompt in enumerate(config.prompts):
        ids = (*start, *tokenizer.encode(prompt, add_special_tokens=False, verbose=False))
        if limit is not None and len(ids) + config.max_new_tokens > limit:
            raise UserError(
                f"opening {number} has {len(ids)} tokens, its continuation up to {config.max_new_tokens}, the model's "
                f"context {limit}: lower evaluation.generation.max_new_tokens"
            )
        for sample in range(config.samples if config.temperature else 1):
            generator = np.random.default_rng([config.seed, number, sample])
            rows.append(_Row(number, sample, ids, generator.random(config.max_new_tokens)))
    return rows


def _stops(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """What ends a text: the tokenizer's end and those that the model's own generation settings name."""
    named: Any = getattr(model.generation_config, "eos_token_id", None)
    ends = [tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])]
    return frozenset(end for end in ends if isinstance(end, int))


def _banned(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    return sorted(set(unwritable(tokenizer, vocabulary)) - _stops(model, tokenizer))


@torch.inference_mode()
def _continue(
    model: PreTrainedModel, rows: Sequence[_Row], banned: Sequence[int], stops: frozenset[int], config: GenerationConfig
) -> list[list[int]]:
    """New tokens of each row, up to and with the one that ends it.

    Rows are begun at the length of the shortest, and a longer one is given its own next tokens instead of drawn ones.
    So there is no padding, hence no mask and no shifted position for an architecture to read in its own way.
    """
    device = next(model.parameters()).device
    inside, new = list(range(len(rows))), [list[int]() for _ in rows]
    place = min(len(row.ids) for row in rows)
    input_BT, cache = torch.tensor([row.ids[:place] for row in rows], device=device), None
    while True:
        output: Any = model(input_ids=input_BT, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache, logits_BV = output.past_key_values, output.logits[:, -1].double()
        logits_BV[:, list(banned)] = -torch.inf
        token_B = _draw(logits_BV, config.temperature, [rows[i].uniform(len(new[i])) for i in inside])
        for b, i in enumerate(inside):
            if place < len(rows[i].ids):
                token_B[b] = rows[i].ids[place]
            elif _goes_on(new[i], stops, config):
                new[i].append(token_B[b])
        place += 1
        going = [b for b, i in enumerate(inside) if _goes_on(new[i], stops, config)]
        if not going:
            return new
        if len(going) < len(inside) and _selectable(cache):
            cache.batch_select_indices(torch.tensor(going, device=device))
            inside, token_B = [inside[b] for b in going], [token_B[b] for b in going]
        input_BT = torch.tensor(token_B, device=device)[:, None]


def _goes_on(new: Sequence[int], stops: frozenset[int], config: GenerationConfig) -> bool:
    return len(new) < config.max_new_tokens and not (new and new[-1] in stops)


def _selectable(cache: Any) -> bool:
    """Whether finished rows can leave the batch: layers of other kinds keep more of a row than keys and values."""
    layers = getattr(cache, "layers", None)
    return bool(layers) and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def _draw(logits_BV: Tensor, temperature: float, uniform_B: Sequence[float]) -> list[int]:
    """A token of each row, by inverse CDF; the likeliest at temperature 0."""
    if temperature == 0:
        return logits_BV.argmax(dim=1).tolist()
    # On the CPU: a GPU's cumulative sums are not the same twice.
    cumulative_BV = (logits_BV.cpu() / temperature).softmax(dim=1).cumsum(dim=1)
    drawn_B1 = torch.tensor(uniform_B, dtype=torch.float64)[:, None] * cumulative_BV[:, -1:]
    # The first token whose sum is above what was drawn: it cannot be one without chance.
    return torch.searchsorted(cumulative_BV, drawn_B1, right=True)[:, 0].tolist()
