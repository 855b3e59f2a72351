"""Windows of a text, each a prefix that is given and a suffix that is scored, cut from the tokens of the whole text.

A window encoded by itself could have other tokens than it has in the text. A tokenizer's BOS stands before the prefix
and takes no token from it.

Legend: T tokens of the text, W windows, C characters (code points).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.encoding import beginning
from menard_unlearn.evaluation.target import Target
from menard_unlearn.evaluation.tokens import token_bytes
from menard_unlearn.models.scores import Scores


@dataclass(frozen=True)
class ExtractionConfig:
    """How windows are cut."""

    prefix: int
    """Tokens given."""
    suffix: int
    """Tokens scored."""
    stride: int
    """Tokens between windows. Coverage and heat rise a little as it falls, since more windows lie over a character."""
    top_k: int
    """The k of top-k sampling."""

    def __post_init__(self) -> None:
        for name in ("prefix", "suffix", "stride", "top_k"):
            if getattr(self, name) < 1:
                raise ValueError(f"evaluation.extraction.{name}={getattr(self, name)} must be 1 or more")
        if self.stride > self.suffix:
            raise ValueError(
                f"evaluation.extraction.stride={self.stride} leaves tokens between suffixes of {self.suffix} unscored: "
                f"give {self.suffix} or less"
            )


@dataclass(frozen=True, repr=False)
class TextPlan:
    """A text and its windows. Without a repr: token ids are the words in another spelling."""

    role: str
    """target, edition or control."""
    text: Target
    spans_T: tuple[tuple[int, int], ...]
    """Characters, from and to, that each token of the text adds."""
    suffix_W: tuple[int, ...]
    """The first token of each window's suffix."""
    windows: tuple[TokenItem, ...]
    reason: str | None
    """Why there are no windows."""


@dataclass(frozen=True, repr=False)
class ExtractionPlan:
    """What the pass is to score."""

    config: ExtractionConfig
    texts: tuple[TextPlan, ...]

    @property
    def items(self) -> list[TokenItem]:
        """The windows of all texts."""
        return [window for text in self.texts for window in text.windows]


def plan_extraction(
    tokenizer: PreTrainedTokenizerBase, target: Target, config: ExtractionConfig, context: int | None
) -> ExtractionPlan:
    """Cut the target, its editions and its controls. `context` is the model's, in tokens; None is without limit."""
    return ExtractionPlan(config, tuple(_cut(tokenizer, *text, config, context) for text in texts_of(target)))


def texts_of(target: Target) -> Iterator[tuple[str, Target]]:
    """The target and what is beside it, each with its role."""
    yield "target", target
    yield from (("edition", text) for text in target.editions)
    yield from (("control", text) for text in target.controls)


def token_spans(tokenizer: PreTrainedTokenizerBase, text: str, ids: Sequence[int]) -> list[tuple[int, int]]:
    """The characters, from and to, that each token adds; together they are the text.

    A character cut between tokens is the first one's, and a token that only completes it has none.
    """
    reached_T = np.cumsum(token_bytes(tokenizer, text, ids), dtype=np.int64)
    end_of_C = np.cumsum([len(character.encode()) for character in text], dtype=np.int64)
    ends = np.searchsorted(end_of_C, reached_T, side="right").tolist()
    return list(zip([0, *ends], ends, strict=False))


def window_logprobs(text: TextPlan, scores: Scores) -> NDArray[np.float64]:
    """logprob_W: ln p_z of each window under the full softmax, nats."""
    return np.array([scores.of(window).logprob for window in text.windows])


def _cut(
    tokenizer: PreTrainedTokenizerBase, role: str, text: Target, config: ExtractionConfig, context: int | None
) -> TextPlan:
    lead = beginning(tokenizer)
    ids = tokenizer.encode(text.text, add_special_tokens=False, verbose=False)
    spans = tuple(token_spans(tokenizer, text.text, ids))
    length, reason = config.prefix + config.suffix, None
    if len(ids) < length:
        reason = f"its {len(ids)} tokens are fewer than a window's {length}"
    elif context is not None and len(lead) + length > context:
        reason = f"a window has {len(lead) + length} tokens, the model's context {context}"
    if reason is not None:
        return TextPlan(role, text, spans, (), (), reason)
    last = len(ids) - length
    starts = [*range(0, last, config.stride), last]
    windows = tuple(
        TokenItem(f"{role}/{text.name}@{at}", (*lead, *ids[at : at + length]), len(lead) + config.prefix)
        for at in starts
    )
    return TextPlan(role, text, spans, tuple(at + config.prefix for at in starts), windows, None)
