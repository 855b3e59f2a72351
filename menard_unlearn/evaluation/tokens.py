"""Token items in batches of like length, and the bytes that each token stands for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenBatch, TokenItem, collate

UNFINISHED = "\N{REPLACEMENT CHARACTER}"


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """What fills the end of a row. Masks come from lengths, so scores do not depend on it, and 0 does too."""
    found = tokenizer.pad_token_id
    return found if isinstance(found, int) else 0


def in_batches(items: Sequence[TokenItem], batch_size: int, padding: int) -> Iterator[tuple[list[int], TokenBatch]]:
    """Batches of items of like length, the longest first, each with the places of its items in the sequence."""
    order = sorted(range(len(items)), key=lambda i: -len(items[i].ids))
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        yield places, collate([items[i] for i in places], "evaluation", padding)


def context_length(model: PreTrainedModel) -> int | None:
    """The number of tokens that the model's positions allow; None where the configuration sets no limit."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of token ids, spaces as they are."""
    return cast(str, tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def token_bytes(tokenizer: PreTrainedTokenizerBase, text: str, ids: Sequence[int]) -> list[int]:
    """UTF-8 bytes of the text that each token adds; they sum to the bytes of the text.

    A character cut between tokens counts where its first byte is told, and what the tokenizer skips with the token
    after it.
    """
    if tokenizer.is_fast:
        offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)[
            "offset_mapping"
        ]
        ends = [end for _, end in offsets]
    else:
        prefixes = (decoded(tokenizer, ids[: n + 1]) for n in range(len(ids)))
        ends = [len(prefix.rstrip(UNFINISHED)) for prefix in prefixes]
    counts, told = [], 0
    for number, end in enumerate(ends):
        reached = len(text) if number == len(ends) - 1 else max(told, min(end, len(text)))
        counts.append(len(text[told:reached].encode()))
        told = reached
    return counts


def scored_bytes(tokenizer: PreTrainedTokenizerBase, text: str, windows: Sequence[TokenItem]) -> int:
    """UTF-8 bytes of a text's scored tokens: all after BOS, else without each window's first token."""
    if tokenizer.bos_token_id is not None:
        return len(text.encode())
    ids = [token for window in windows for token in window.ids]
    counts_N = torch.tensor(token_bytes(tokenizer, text, tokenizer.encode(text, add_special_tokens=False)))[: len(ids)]
    first_N = torch.tensor([place == 0 for window in windows for place in range(len(window.ids))])
    return int(counts_N[~first_N].sum())
