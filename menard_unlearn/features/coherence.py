"""Whether a model still writes sense while it is steered: what it writes, read by the model as it is unsteered.

    C = −(1/T) Σ ln p(y_t | prompt, y_<t),    y written under the intervention, p of the model without it

A model that is pushed too far writes what it would itself find unlikely, and a model that repeats itself writes what it
finds likely but has few distinct n-grams: both are needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.encoding import beginning
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.generation import GenerationConfig, write
from menard_unlearn.evaluation.tokens import pad_id
from menard_unlearn.features.steering import Intervention, applied
from menard_unlearn.models.scores import score

ORDERS = (1, 2, 3)

KEYS = {
    "coherence": "C, mean nats a token of what is written under the intervention, under the model without it; lower is "
    "likelier. The token that ends a text does not count; null where nothing was written",
    "coherence_se": "its standard error, texts drawn anew; null below two texts",
    **{f"distinct_{n}": f"distinct {n}-grams of tokens over all of them, of all texts together" for n in ORDERS},
    "n_written": "tokens written",
    "n_empty": "texts that ended before their first token",
}
"""Key of a row of dose_response.json → meaning and unit."""


@dataclass(frozen=True)
class OpeningsConfig:
    """What the model is left to write under each intervention."""

    prompts: tuple[str, ...]
    """Openings that belong to no author; without a space at their end."""
    samples: int
    """Continuations of each. Every intervention draws with the same random numbers."""
    new_tokens: int
    """Longest continuation, in tokens."""
    temperature: float
    """1 samples from the model's own distribution; 0 takes the likeliest token."""
    seed: int
    """Of the random numbers."""

    def __post_init__(self) -> None:
        self.generation()  # has the same limits

    def generation(self) -> GenerationConfig:
        """The same as the sampler names it; `min_words` is of rates that nobody asks for here."""
        return GenerationConfig(self.prompts, self.samples, self.new_tokens, self.temperature, 1, self.seed)

    def refuse_unfit(self, limit: int | None, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raise UserError where a context of `limit` tokens cannot hold an opening and its continuation."""
        longest = max(map(len, opened(tokenizer, self.prompts)))
        if limit is not None and longest + self.new_tokens > limit:
            raise UserError(
                f"an opening has {longest} tokens, its continuation up to {self.new_tokens}, "
                f"the model's context {limit}: "
                f"lower openings.new_tokens to {max(1, limit - longest)} or less"
            )


def opened(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[tuple[int, ...]]:
    """The tokens of each opening, BOS first where there is one, as the sampler encodes them."""
    start = beginning(tokenizer)
    return [(*start, *tokenizer.encode(prompt, add_special_tokens=False, verbose=False)) for prompt in prompts]


def coherence(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    layer: int,
    intervention: Intervention,
    special: Collection[int],
    config: OpeningsConfig,
    *,
    batch_size: int,
    chunk: int,
) -> dict:
    """What the model writes under an intervention, measured; keys of `KEYS`. The texts themselves go nowhere.

    The sampler's cache begins inside the block; the texts are scored after it, by the model as it is.
    """
    with applied(model, layer, intervention, special):
        texts = write(model, tokenizer, config.generation(), batch_size=batch_size)
    prompts = opened(tokenizer, config.prompts)
    items = [
        TokenItem(f"{text.prompt}.{text.sample}", (*prompts[text.prompt], *text.ids), len(prompts[text.prompt]))
        for text in texts
        if text.ids
    ]
    written = [item.ids[item.n_prompt :] for item in items]
    n_written = sum(map(len, written))
    scores = score(model, items, batch_size=batch_size, chunk=chunk, padding=pad_id(tokenizer)) if items else None
    nats_I = np.array([-scores.of(item).logprob for item in items] if scores else [])
    mean = float(nats_I.sum() / n_written) if items else None
    return {
        "coherence": mean,
        "coherence_se": _standard_error(nats_I, np.array(list(map(len, written))), mean),
        **{f"distinct_{n}": distinct(written, n) for n in ORDERS},
        "n_written": n_written,
        "n_empty": len(texts) - len(items),
    }


def _standard_error(nats_I: NDArray, size_I: NDArray, mean: float | None) -> float | None:
    """Of a ratio of sums over texts, which differ in length."""
    n = len(nats_I)
    if mean is None or n < 2:
        return None
    return float(np.sqrt(n / (n - 1) * np.square(nats_I - mean * size_I).sum()) / size_I.sum())


def distinct(texts: Sequence[Sequence[int]], n: int) -> float | None:
    """Distinct n-grams over all n-grams of the texts together; None where no text is that long."""
    counts = Counter(tuple(ids[at : at + n]) for ids in texts for at in range(len(ids) - n + 1))
    return len(counts) / counts.total() if counts else None
