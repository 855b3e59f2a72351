"""B6, the heat map of a text by character, so that models with different tokenizers can be laid under one another.

Two readings of each character: the largest p_z of a window whose suffix lies over it (arXiv 2505.12546), and the
log-probability of the token it belongs to, given all before it. No words, but where the text is published.

Legend: T tokens, C characters (code points) of the text, W windows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from transformers import PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.encoding import beginning, encode_document, encode_text
from menard_unlearn.evaluation.target import Target
from menard_unlearn.evaluation.windows import ExtractionPlan, TextPlan, token_spans, window_logprobs
from menard_unlearn.models.scores import Scores

DIGITS = 3
"""Decimals of a value, which lies far below the numerical error of fp32 over a window."""

KEYS = {
    "prefix": "tokens of a window that are given",
    "suffix": "tokens of a window that are scored",
    "stride": "tokens between windows: the largest of many is larger, so maps of different strides do not compare",
    "texts": "one entry a text, keys of TEXT_KEYS: the target, its editions, and its first control beside it",
    "left_out": "what could not be measured, and why",
}
"""Key of heat.json → meaning and unit."""

TEXT_KEYS = {
    "role": "target, edition or control",
    "name": "what the configuration calls the text",
    "sha256": "SHA-256 of the text",
    "n_chars": "characters (code points) of the text",
    "windows": "[from, to, value]: characters under a suffix, and the largest ln p_z (nats, full softmax) of a window "
    "over them; null where left out",
    "windows_over_median": "median number of suffixes over a character that lies under one; null where left out",
    "windows_over_max": "the largest number",
    "tokens": "[from, to, value]: a token's characters and its log-probability, nats, given all before it; a token "
    "that only completes a character adds to the one before; null where left out",
    "token_context": "tokens after which what came before is forgotten and BOS begins anew; null: nothing is forgotten",
    "text": "the text itself; only where it is published",
}
"""Key of an entry of `texts` → meaning and unit."""

Span = tuple[int, int]


@dataclass(frozen=True, repr=False)
class Reading:
    """A text, to be scored token by token from its start."""

    items: tuple[TokenItem, ...]
    """BOS, prompt and text; or the text in windows, where the context is too short."""
    spans_T: tuple[Span, ...]
    """Characters of each scored token; a negative place lies in the prompt."""
    context: int | None
    """Length of the windows."""


@dataclass(frozen=True, repr=False)
class HeatPlan:
    """What the pass is to score besides the windows."""

    windows: ExtractionPlan
    shown: tuple[tuple[TextPlan, Reading], ...]

    @property
    def items(self) -> list[TokenItem]:
        """The texts from their start, and the windows."""
        return [*(item for _, reading in self.shown for item in reading.items), *self.windows.items]


def plan_heat(tokenizer: PreTrainedTokenizerBase, windows: ExtractionPlan, context: int | None) -> HeatPlan:
    """The target, its editions and its first control. `context` is the model's, in tokens; None is without limit."""
    control = next((text for text in windows.texts if text.role == "control"), None)
    shown = [*(text for text in windows.texts if text.role != "control"), *([] if control is None else [control])]
    return HeatPlan(windows, tuple((text, _reading(tokenizer, text.text, context)) for text in shown))


def measure_heat(plan: HeatPlan, scores: Scores) -> dict:
    """What goes into heat.json.

    Not a picture of what is memorized: a passage is hot where it is easy, too, which is what the control beside it is
    for. The windows' map is smooth over `suffix` tokens, and a single miss cools all windows over it.
    """
    left_out = [f"B6 windows of {text.role} {text.text.name!r}: {text.reason}" for text, _ in plan.shown if text.reason]
    left_out += [
        f"B6 tokens of {text.role} {text.text.name!r}: it has no token to score"
        for text, reading in plan.shown
        if not reading.items
    ]
    settings = {name: getattr(plan.windows.config, name) for name in ("prefix", "suffix", "stride")}
    texts = [_heat(text, reading, plan.windows.config.suffix, scores) for text, reading in plan.shown]
    return {**settings, "texts": texts, "left_out": left_out}


def _reading(tokenizer: PreTrainedTokenizerBase, text: Target, context: int | None) -> Reading:
    lead, ids = beginning(tokenizer), tokenizer.encode(text.whole, add_special_tokens=False, verbose=False)
    if context is None or len(lead) + len(ids) <= context:
        if len(lead) + len(ids) < 2:
            return Reading((), (), None)
        item = encode_text(tokenizer, text.prompt, text.text, text.name)
        spans = token_spans(tokenizer, text.whole, ids)[item.n_prompt - len(lead) :]
        shift = len(text.prompt)
        return Reading((item,), tuple((start - shift, end - shift) for start, end in spans), None)
    items = tuple(encode_document(tokenizer, text.text, text.name, context))
    spans = token_spans(tokenizer, text.text, tokenizer.encode(text.text, add_special_tokens=False, verbose=False))
    size = context - len(lead)
    # Without BOS the first token of each window is not scored, nor is a last window of one token.
    scored = [span for place, span in enumerate(spans) if lead or place % size]
    return Reading(items, tuple(scored), context)


def _heat(text: TextPlan, reading: Reading, suffix: int, scores: Scores) -> dict:
    n_chars = len(text.text.text)
    best_C, over_C = np.full(n_chars, -np.inf), np.zeros(n_chars, np.int64)
    if text.windows:
        for first, logprob in zip(text.suffix_W, window_logprobs(text, scores).tolist(), strict=True):
            under = slice(text.spans_T[first][0], text.spans_T[first + suffix - 1][1])
            best_C[under] = np.maximum(best_C[under], round(logprob, DIGITS))
            over_C[under] += 1
    counted = over_C[over_C > 0]
    found = {
        "role": text.role,
        "name": text.text.name,
        "sha256": text.text.sha256,
        "n_chars": n_chars,
        "windows": _runs(best_C.tolist()) if text.windows else None,
        "windows_over_median": float(np.median(counted)) if len(counted) else None,
        "windows_over_max": int(counted.max()) if len(counted) else None,
        "tokens": _tokens(reading, scores) if reading.items else None,
        "token_context": reading.context,
    }
    return found | ({"text": text.text.text} if text.text.publish else {})


def _runs(values_C: Iterable[float]) -> list[list[float]]:
    """[from, to, value] of neighbours that are alike; −∞, where nothing lies over a character, is left out."""
    runs, start = [], 0
    for value, alike in groupby(values_C):
        end = start + sum(1 for _ in alike)
        if value != -np.inf:
            runs.append([start, end, value])
        start = end
    return runs


def _tokens(reading: Reading, scores: Scores) -> list[list[float]]:
    logprobs = [value for item in reading.items for value in scores.of(item).logprob_T.tolist()]
    rows: list[list[float]] = []
    for (start, end), logprob in zip(reading.spans_T, logprobs, strict=True):
        if end <= start and rows:
            rows[-1][2] += logprob
        elif end > start and end > 0:
            rows.append([max(0, start), end, logprob])
    return [[start, end, round(value, DIGITS)] for start, end, value in rows]
