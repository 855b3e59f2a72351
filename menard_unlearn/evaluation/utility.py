"""What unlearning should have left alone: held-out retained text, and the distributions on neutral text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenBatch, TokenItem
from menard_unlearn.corpus.encoding import encode_document
from menard_unlearn.evaluation.tokens import context_length, in_batches, pad_id, scored_bytes
from menard_unlearn.models.delta import swapped
from menard_unlearn.models.edited import without_edits
from menard_unlearn.models.likelihood import evaluating, scored_states
from menard_unlearn.models.predictions import full_precision, halves
from menard_unlearn.models.scores import Scores

KEYS = {
    "retain_bits_per_byte": "bits per UTF-8 byte of held-out retained texts; null without texts",
    "retain_n_texts": "number of these texts",
    "retain_n_bytes": "their scored bytes",
    "utility_kl": "KL(base ‖ model), nats a token of neutral texts; null without base or texts",
    "utility_n_texts": "number of neutral texts",
    "utility_n_tokens": "their scored tokens; null without base",
}
"""Key of utility.json → meaning and unit."""

LONGEST = 1024
"""Tokens of a window where the model allows more: longer windows cost memory and change these averages little."""


def utility(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    retain_texts: Sequence[str],
    neutral_texts: Sequence[str],
    windows: Sequence[Sequence[TokenItem]],
    scores: Scores,
    base_tensors: Mapping[str, Tensor] | None,
    *,
    batch_size: int,
    chunk: int,
) -> dict:
    """What goes into utility.json. `windows` are `texts_items` of the retained texts, found in `scores`; `base_tensors`
    the base's values of the tensors that differ from the model's."""
    bits, n_bytes = bits_per_byte(tokenizer, retain_texts, windows, scores)
    kl, n_tokens = None, None
    if base_tensors is not None:
        longest = min(context_length(model) or LONGEST, LONGEST)
        items = [item for own in texts_items(tokenizer, neutral_texts, longest) for item in own]
        batches = [batch for _, batch in in_batches(items, batch_size, pad_id(tokenizer))]
        kl, n_tokens = kl_to_base(model, base_tensors, batches, chunk=chunk)
    return {
        "retain_bits_per_byte": bits,
        "retain_n_texts": len(retain_texts),
        "retain_n_bytes": n_bytes,
        "utility_kl": kl,
        "utility_n_texts": len(neutral_texts),
        "utility_n_tokens": n_tokens,
    }


def texts_items(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], longest: int
) -> tuple[tuple[TokenItem, ...], ...]:
    """The windows of each text."""
    return tuple(tuple(encode_document(tokenizer, text, str(number), longest)) for number, text in enumerate(texts))


def bits_per_byte(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    windows: Sequence[Sequence[TokenItem]],
    scores: Scores,
) -> tuple[float | None, int]:
    """Bits per UTF-8 byte over all texts together, and the number of bytes. Long texts are cut into windows."""
    items = [item for own in windows for item in own]
    n_bytes = sum(scored_bytes(tokenizer, text, own) for text, own in zip(texts, windows, strict=True))
    if not items or not n_bytes:
        return None, n_bytes
    return -math.fsum(scores.of(item).logprob for item in items) / (math.log(2) * n_bytes), n_bytes


@torch.inference_mode()
def kl_to_base(
    model: PreTrainedModel, base_tensors: Mapping[str, Tensor], batches: Sequence[TokenBatch], *, chunk: int
) -> tuple[float | None, int]:
    """KL(base ‖ model) in nats a token of the loss masks, and the number of tokens; None without tokens.

    The base is the model with its tensors exchanged and no edit of its states, so no second copy is held; hidden
    states of a batch are held of both, logits of `chunk` tokens only. Sums are float64.
    """
    parts, total, n_tokens = halves(model), 0.0, 0
    parameters = dict(model.named_parameters())
    base = {name: tensor.to(parameters[name].device) for name, tensor in base_tensors.items()}
    with evaluating(model):
        for batch in batches:
            own_ND, _ = scored_states(model, batch, parts)
            with swapped(model, base), without_edits(model):
                base_ND, _ = scored_states(model, batch, parts)
            for own_KD, base_KD in zip(own_ND.split(chunk), base_ND.split(chunk), strict=True):
                with swapped(model, base):
                    log_base_KV = F.log_softmax(full_precision(parts.head(base_KD)), dim=1)
                log_own_KV = F.log_softmax(full_precision(parts.head(own_KD)), dim=1)
                kl_K = F.kl_div(log_own_KV, log_base_KV, reduction="none", log_target=True).double().sum(1)
                total += float(kl_K.sum())
                n_tokens += len(kl_K)
    return (total / n_tokens if n_tokens else None), n_tokens
