"""The target as tokens, whole or in windows that a model's context can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.encoding import beginning, encode_text
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.target import Target
from menard_unlearn.evaluation.tokens import context_length, decoded, token_bytes
from menard_unlearn.models.long import strided


@dataclass(frozen=True)
class EncodedTarget:
    """The target as one sequence."""

    item: TokenItem
    """BOS, prompt and text."""
    lead: int
    """Tokens of it that the tokenizer has added at its start."""
    bytes_T: tuple[int, ...]
    """UTF-8 bytes of each scored token."""
    pieces_T: tuple[str, ...]
    """Text of each scored token."""


def encode_target(tokenizer: PreTrainedTokenizerBase, target: Target, prompt: str) -> EncodedTarget:
    """Encode the target whole, however long it is. UserError where no token of it could be scored."""
    lead, whole = beginning(tokenizer), prompt + target.text
    if not (lead or prompt) and len(tokenizer.encode(whole, add_special_tokens=False, verbose=False)) < 2:
        raise UserError(f"target {target.name!r} is one token, and nothing predicts it: give it a prompt")
    item = encode_text(tokenizer, prompt, target.text, target.name)
    ids, unscored = item.ids[len(lead) :], item.n_prompt - len(lead)
    counts = token_bytes(tokenizer, whole, ids)[unscored:]
    pieces = tuple(decoded(tokenizer, [token]) for token in ids[unscored:])
    return EncodedTarget(item, len(lead), tuple(counts), pieces)


def in_context(
    model: PreTrainedModel, encoded: EncodedTarget, stride: int | None
) -> tuple[Sequence[TokenItem], int | None]:
    """The text whole, or in windows as long as the model's context, and then their length.

    UserError where it is longer and no stride, or none that leaves a window context, is given.
    """
    item, limit = encoded.item, context_length(model)
    if limit is None or len(item.ids) <= limit:
        return [item], None
    least = encoded.lead + 1
    if stride is None or stride >= limit - encoded.lead:
        given = "" if stride is None else f", of at most {limit - least} and not {stride}"
        raise UserError(
            f"target {item.id!r} has {len(item.ids)} tokens with its start, the model's context {limit}: "
            "give a shorter text (target.path), a model with a longer context, or a stride for windows that overlap"
            f"{given} (evaluation.reproduction.stride={max(1, limit // 2)})"
        )
    return strided(item, window=limit, stride=stride, lead=encoded.lead), limit
