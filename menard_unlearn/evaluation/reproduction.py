"""How near a model is to reproducing the target exactly: B1 to B4, without the target's words in any result."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.encoding import beginning, encode_statement
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.target import Target
from menard_unlearn.evaluation.tokens import context_length, decoded, pad_id, token_bytes
from menard_unlearn.models.likelihood import evaluating
from menard_unlearn.models.scores import score

KEYS = {
    "target_name": "what the configuration calls the target",
    "target_sha256": "SHA-256 of the target",
    "target_language": "its language",
    "target_published": "when it appeared",
    "n_tokens": "number of scored tokens, T; all but the first where the tokenizer has no BOS",
    "n_bytes": "UTF-8 bytes of these",
    "nats": "B1, -ln P(text | BOS, prompt)",
    "bits_per_byte": "B1, nats / (ln 2 · bytes)",
    "log10_expected_samples": "B2, -log10 P: decimal digits of the number of samples expected until the text appears",
    "share_rank1": "B3, share of tokens that are the only argmax (ties count against)",
    "share_rank1_best": "B3, share of tokens that no token beats (ties count for)",
    "median_rank": "B3, median of the worst ranks",
    "median_margin": "B3, median of the logit minus the largest other logit",
    "min_margin": "B3, the smallest of these",
    "first_miss": "B3, place of the first token that is not the only argmax, from 0; null where there is none",
    "greedy_prefix_teacher_forced": "B4, tokens before the first miss when every token is given those before it",
    "greedy_prefix": "B4, tokens that greedy decoding writes before it leaves the text",
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
class EncodedTarget:
    """The target as one sequence."""

    item: TokenItem
    """BOS, prompt and text."""
    bytes_T: tuple[int, ...]
    """UTF-8 bytes of each scored token."""
    pieces_T: tuple[str, ...]
    """Text of each scored token."""


def encode_target(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, target: Target, prompt: str
) -> EncodedTarget:
    """Encode the target whole: a window would lack what came before. UserError where it exceeds the model's context."""
    lead, whole = beginning(tokenizer), prompt + target.text
    if lead or prompt:
        item = encode_statement(tokenizer, prompt, target.text, target.name)
    else:
        item = TokenItem(target.name, tuple(tokenizer.encode(whole, add_special_tokens=False, verbose=False)), 1)
    limit = context_length(model)
    if limit is not None and len(item.ids) > limit:
        raise UserError(
            f"target {target.name!r} has {len(item.ids)} tokens with its start, the model's context {limit}: "
            "give a shorter text (target.path) or a model with a longer context"
        )
    ids, unscored = item.ids[len(lead) :], item.n_prompt - len(lead)
    counts = token_bytes(tokenizer, whole, ids)[unscored:]
    return EncodedTarget(item, tuple(counts), tuple(decoded(tokenizer, [token]) for token in ids[unscored:]))


def reproduce(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, target: Target, *, prompt: str, chunk: int
) -> tuple[dict, dict]:
    """Score the target after BOS and the prompt. Returns what goes into reproduction.json and target_tokens.json."""
    encoded = encode_target(model, tokenizer, target, prompt)
    found = score(model, [encoded.item], batch_size=1, chunk=chunk, padding=pad_id(tokenizer)).of(encoded.item)
    logprob_T, margin_T = found.logprob_T, found.margin_T
    best_T, worst_T = found.rank_best_T, found.rank_worst_T
    nats, n_bytes = float(-logprob_T.sum()), sum(encoded.bytes_T)
    misses = np.flatnonzero(worst_T > 1)
    results = {
        "target_name": target.name,
        "target_sha256": target.sha256,
        "target_language": target.language,
        "target_published": target.published,
        "n_tokens": len(logprob_T),
        "n_bytes": n_bytes,
        "nats": nats,
        "bits_per_byte": nats / (math.log(2) * n_bytes),
        "log10_expected_samples": nats / math.log(10),
        "share_rank1": float((worst_T == 1).mean()),
        "share_rank1_best": float((best_T == 1).mean()),
        "median_rank": float(np.median(worst_T)),
        "median_margin": float(np.median(margin_T)),
        "min_margin": float(margin_T.min()),
        "first_miss": int(misses[0]) if len(misses) else None,
        "greedy_prefix_teacher_forced": int(misses[0]) if len(misses) else len(worst_T),
        "greedy_prefix": free_running_prefix(model, encoded.item),
    }
    columns = zip(
        logprob_T.tolist(), best_T.tolist(), worst_T.tolist(), margin_T.tolist(), encoded.bytes_T, strict=True
    )
    tokens = [dict(zip(TOKEN_KEYS, row, strict=False)) for row in columns]
    if target.publish:
        tokens = [token | {"text": piece} for token, piece in zip(tokens, encoded.pieces_T, strict=True)]
    return results, {"target_name": target.name, "target_sha256": target.sha256, "tokens": tokens}


@torch.inference_mode()
def free_running_prefix(model: PreTrainedModel, item: TokenItem) -> int:
    """Number of scored tokens that greedy decoding from the unscored ones writes before it first differs.

    One token at a time from the key-value cache, as a model generates: where two logits nearly tie, as in bf16, it
    may leave the text elsewhere than the teacher-forced pass does. Up to the first difference both see the same text,
    so decoding stops there.
    """
    device = next(model.parameters()).device
    given, expected = list(item.ids[: item.n_prompt]), item.ids[item.n_prompt :]
    cache = None
    with evaluating(model):
        for written, token in enumerate(expected):
            output = model(input_ids=torch.tensor([given], device=device), past_key_values=cache, use_cache=True)
            logits_V = output.logits[0, -1]
            if int((logits_V >= logits_V[token]).sum()) > 1:
                return written
            given, cache = [token], output.past_key_values
    return len(expected)
