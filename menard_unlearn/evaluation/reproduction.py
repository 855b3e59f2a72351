"""How near a model is to reproducing the target exactly: B1 to B4, without the target's words in any result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.evaluation import numerics
from menard_unlearn.evaluation.encoded import EncodedTarget, encode_target, in_context
from menard_unlearn.evaluation.target import Target
from menard_unlearn.models.likelihood import evaluating
from menard_unlearn.models.long import Reader, has_cache, score_long, way
from menard_unlearn.models.predictions import halves
from menard_unlearn.models.scores import ItemTokens

KEYS = {
    "target_name": "what the configuration calls the target",
    "target_sha256": "SHA-256 of the target",
    "target_language": "its language",
    "target_published": "when it appeared",
    "n_tokens": "number of scored tokens, T; all but the first where the tokenizer has no BOS",
    "n_bytes": "UTF-8 bytes of these",
    "mode": "whole: each token is given all before it. strided: the text exceeds the context and is read in windows",
    "window": "tokens of a window, its start included; null where the text is read whole",
    "stride": "tokens by which a window lies behind the one before: window - stride or more precede a scored token",
    "cached": "whether it was read in pieces from a key-value cache; false: at once, the model having no usable cache",
    "nats": "B1, -ln P(text | BOS, prompt)",
    "bits_per_byte": "B1, nats / (ln 2 · bytes), so that editions, languages and tokenizers compare",
    **numerics.KEYS,
    "log10_expected_samples": "B2, -log10 P: decimal digits of the number of samples expected until the text appears",
    "share_rank1": "B3, share of tokens that are the only argmax (ties count against)",
    "share_rank1_best": "B3, share of tokens that no token beats (ties count for)",
    "median_rank": "B3, median of the worst ranks",
    "median_margin": "B3, median of the logit minus the largest other logit",
    "min_margin": "B3, the smallest of these",
    "first_miss": "B3, place of the first token that is not the only argmax, from 0; null where there is none",
    "greedy_prefix_teacher_forced": "B4, tokens before the first miss when every token is given those before it",
    "greedy_prefix": "B4, tokens that greedy decoding writes before it leaves the text",
    "left_out": "what is null, and why",
    "editions": "the same keys for each other edition or translation of the target",
    "controls": "the same keys for each text to compare with",
}
"""Key of reproduction.json → meaning and unit."""

TOKEN_KEYS = {
    "logprob": "nats of the token given those before it",
    "rank_best": "rank with ties in the model's favour, from 1",
    "rank_worst": "rank with ties against it",
    "margin": "logit minus the largest other logit",
    "bytes": "UTF-8 bytes that the token adds",
    "text": "the token's text; only where the target is published",
}
"""Key of an entry of `tokens` in target_tokens.json → meaning and unit."""


@dataclass(frozen=True)
class ReproductionConfig:
    """How the target, its editions and its controls are scored."""

    piece: int
    """Tokens that the model reads at a time from its key-value cache, at most: long texts are read in shorter pieces,
    so that memory beyond the cache stays where it is."""
    stride: int | None
    """Tokens by which windows advance over a text that is longer than the model's context: each token is scored once,
    with all but so many tokens of a context before it. null refuses such a text."""
    free_controls: bool
    """Whether controls, too, are written by greedy decoding until it leaves them (a token at a time)."""
    numeric_tokens: int
    """Tokens of each text, from the first on, that are scored in two other ways for the numerical error bar; 0 leaves
    it out."""

    def __post_init__(self) -> None:
        if self.piece < 1:
            raise ValueError(f"piece={self.piece} must be at least 1, as evaluation.reproduction.piece=512")
        if self.stride is not None and self.stride < 1:
            raise ValueError(f"stride={self.stride} must be null or at least 1, as evaluation.reproduction.stride=512")
        if self.numeric_tokens < 0:
            raise ValueError(
                f"numeric_tokens={self.numeric_tokens} must be 0 (no error bar) or a number of tokens, "
                "as evaluation.reproduction.numeric_tokens=1024"
            )


BRIEF = ReproductionConfig(piece=512, stride=None, free_controls=False, numeric_tokens=0)
"""B1 to B4 without an error bar, where the text fits the context."""


def reproduce_all(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    target: Target,
    config: ReproductionConfig,
    chunk: int,
) -> tuple[dict, dict]:
    """`reproduce` for the target after its own prompt, and under `editions` and `controls` for the texts beside it."""
    results, tokens = reproduce(model, tokenizer, target, prompt=target.prompt, chunk=chunk, config=config)
    for kind, texts in (("editions", target.editions), ("controls", target.controls)):
        free = kind == "editions" or config.free_controls
        found = [
            reproduce(model, tokenizer, text, prompt=text.prompt, chunk=chunk, config=config, free_running=free)
            for text in texts
        ]
        results[kind], tokens[kind] = [own for own, _ in found], [own for _, own in found]
    return results, tokens


def reproduce(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    target: Target,
    *,
    prompt: str,
    chunk: int,
    config: ReproductionConfig = BRIEF,
    free_running: bool = True,
) -> tuple[dict, dict]:
    """Score one text after BOS and the prompt. Returns what goes into reproduction.json and target_tokens.json.

    A text beyond the model's context is refused (UserError), or, with `config.stride`, read in windows that overlap.
    Nats of windows are no longer those of one sequence: tokens behind the first window are given less of the text.
    """
    encoded = encode_target(tokenizer, target, prompt)
    windows, size = in_context(model, encoded, config.stride)
    scored = [score_long(model, window, piece=config.piece, chunk=chunk) for window in windows]
    found = _joined(scored)
    error, left_out = numerics.numeric_error(
        model, windows[0], scored[0].logprob_T, limit=config.numeric_tokens, piece=config.piece, chunk=chunk
    )
    if not sum(encoded.bytes_T):
        left_out.append("bits_per_byte: the scored tokens only complete a character that began before them")
    greedy = None
    if not has_cache(model):
        left_out.append("greedy_prefix: the model has no usable key-value cache to decode from")
    elif free_running:
        greedy = free_running_prefix(model, windows, config.piece)
    else:
        left_out.append("greedy_prefix: evaluation.reproduction.free_controls is false")
    results = {
        "target_name": target.name,
        "target_sha256": target.sha256,
        "target_language": target.language,
        "target_published": target.published,
        "mode": "whole" if size is None else "strided",
        "window": size,
        "stride": None if size is None else config.stride,
        "cached": has_cache(model),
        **_figures(found, sum(encoded.bytes_T)),
        **error,
        "greedy_prefix": greedy,
        "left_out": left_out,
        "editions": [],
        "controls": [],
    }
    return {key: results[key] for key in KEYS}, _tokens(target, encoded, found)


def _joined(parts: Sequence[ItemTokens]) -> ItemTokens:
    columns = ("logprob_T", "rank_best_T", "rank_worst_T", "margin_T", "top_T")
    return ItemTokens(*(np.concatenate([getattr(part, column) for part in parts]) for column in columns))


def _figures(found: ItemTokens, n_bytes: int) -> dict:
    """B1 to B4 of the scored tokens, the free-running prefix aside."""
    nats, misses = -found.logprob, np.flatnonzero(found.rank_worst_T > 1)
    return {
        "n_tokens": found.n_tokens,
        "n_bytes": n_bytes,
        "nats": nats,
        "bits_per_byte": nats / (math.log(2) * n_bytes) if n_bytes else None,
        "log10_expected_samples": nats / math.log(10),
        "share_rank1": float((found.rank_worst_T == 1).mean()),
        "share_rank1_best": float((found.rank_best_T == 1).mean()),
        "median_rank": float(np.median(found.rank_worst_T)),
        "median_margin": float(np.median(found.margin_T)),
        "min_margin": float(found.margin_T.min()),
        "first_miss": int(misses[0]) if len(misses) else None,
        "greedy_prefix_teacher_forced": int(misses[0]) if len(misses) else found.n_tokens,
    }


def _tokens(target: Target, encoded: EncodedTarget, found: ItemTokens) -> dict:
    """target_tokens.json: a row a token, its text only where the target is published."""
    columns = (found.logprob_T, found.rank_best_T, found.rank_worst_T, found.margin_T)
    rows = zip(*(column_T.tolist() for column_T in columns), encoded.bytes_T, strict=True)
    tokens = [dict(zip(TOKEN_KEYS, row, strict=False)) for row in rows]
    if target.publish:
        tokens = [token | {"text": piece} for token, piece in zip(tokens, encoded.pieces_T, strict=True)]
    return {
        "target_name": target.name,
        "target_sha256": target.sha256,
        "tokens": tokens,
        "editions": [],
        "controls": [],
    }


@torch.inference_mode()
def free_running_prefix(model: PreTrainedModel, windows: Sequence[TokenItem], piece: int) -> int:
    """Number of scored tokens that greedy decoding from the unscored ones writes before it first differs.

    One token at a time from the key-value cache, as a model generates: where two logits nearly tie, as in bf16, it
    may leave the text elsewhere than the teacher-forced pass does. Up to the first difference both see the same text,
    so decoding stops there. A text in windows is written in windows: where one is full, the next begins.
    """
    parts, written = halves(model), 0
    with evaluating(model):
        for window in windows:
            reader = Reader(model, len(window.ids), way(model))
            *_, states_PD = reader.read(window.ids[: window.n_prompt], piece)
            for token in window.ids[window.n_prompt :]:
                logits_V = parts.head(states_PD[-1:])[0]
                if int((logits_V >= logits_V[token]).sum()) > 1:
                    return written
                written += 1
                states_PD = reader.step([token])
    return written
