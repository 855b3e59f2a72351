"""Text to token items, token items to batches.

Legend: B items, T tokens. A mask is made from lengths and never from token ids: a padding id may also be an ordinary
token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from menard_unlearn.errors import UserError


@dataclass(frozen=True)
class TokenItem:
    """One sequence. Raises ValueError where no token would be scored."""

    id: str
    """Identity of the statement or of the window of a document."""
    ids: tuple[int, ...]
    """Token ids, the beginning-of-sequence token first where the tokenizer has one; no padding."""
    n_prompt: int
    """The first n_prompt tokens carry no loss; at least 1, since nothing predicts the first token."""

    def __post_init__(self) -> None:
        if not 1 <= self.n_prompt < len(self.ids):
            raise ValueError(f"item {self.id!r}: n_prompt {self.n_prompt} must lie between 1 and {len(self.ids) - 1}")


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Items of one side, padded on the right to the same length."""

    name: str
    """The side: "forget", "retain", or what the caller calls it."""
    input_ids_BT: Tensor
    """int64."""
    attention_mask_BT: Tensor
    """int64: 1 on tokens, 0 on padding."""
    loss_mask_BT: Tensor
    """bool: True where token t is scored, by the logits at t - 1: never at t = 0, never on padding."""

    @property
    def n_items(self) -> int:
        """Number of sequences."""
        return self.input_ids_BT.shape[0]

    @property
    def n_tokens(self) -> int:
        """Number of scored tokens; neither prompts nor padding count."""
        return int(self.loss_mask_BT.sum())

    def to(self, device: torch.device | str, non_blocking: bool = False) -> TokenBatch:
        """The same batch on a device."""
        return TokenBatch(
            self.name,
            self.input_ids_BT.to(device, non_blocking=non_blocking),
            self.attention_mask_BT.to(device, non_blocking=non_blocking),
            self.loss_mask_BT.to(device, non_blocking=non_blocking),
        )


@dataclass(frozen=True, eq=False)
class UnlearnBatch:
    """What a method's loss sees at a step."""

    forget: TokenBatch
    retain: TokenBatch

    @property
    def counts(self) -> dict[str, int]:
        """The four numbers that a term may be divided by."""
        return {
            "forget.tokens": self.forget.n_tokens,
            "forget.items": self.forget.n_items,
            "retain.tokens": self.retain.n_tokens,
            "retain.items": self.retain.n_items,
        }

    def to(self, device: torch.device | str, non_blocking: bool = False) -> UnlearnBatch:
        """Both sides on a device."""
        return UnlearnBatch(self.forget.to(device, non_blocking), self.retain.to(device, non_blocking))


def collate(items: Sequence[TokenItem], name: str, pad_id: int, pad_to: int | None = None) -> TokenBatch:
    """Pad items on the right to the longest of them, or to `pad_to` tokens.

    Raises ValueError for no items, UserError for one that is longer than `pad_to`.
    """
    if not items:
        raise ValueError(f"a batch of no items ({name})")
    longest = max(items, key=lambda item: len(item.ids))
    width = pad_to or len(longest.ids)
    if len(longest.ids) > width:
        raise UserError(
            f"item {longest.id!r} has {len(longest.ids)} tokens, of which {width} fit: shorten it or allow more"
        )
    input_ids_BT = torch.full((len(items), width), pad_id, dtype=torch.int64)
    for row, item in enumerate(items):
        input_ids_BT[row, : len(item.ids)] = torch.tensor(item.ids)
    position_T = torch.arange(width)
    length_B1 = torch.tensor([[len(item.ids)] for item in items])
    prompt_B1 = torch.tensor([[item.n_prompt] for item in items])
    real_BT = position_T < length_B1
    return TokenBatch(name, input_ids_BT, real_BT.long(), real_BT & (position_T >= prompt_B1))


def check_tokenizer(tok: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that cannot pad, or that pads with a token which texts end or begin with."""
    name = f"tokenizer {tok.name_or_path!r}"
    if tok.pad_token_id is None:
        raise UserError(f"{name} has no pad token: name an unused token, model.pad_token=<token>")
    for role, other in (("end-of-sequence", tok.eos_token_id), ("beginning-of-sequence", tok.bos_token_id)):
        if tok.pad_token_id == other:
            raise UserError(
                f"{name} pads with its {role} token {tok.pad_token!r}: name another, model.pad_token=<token>"
            )


def one_id(token_id: object, role: str) -> int:
    """The id of a special token. Raises UserError where the tokenizer has none, or several, for this role."""
    if not isinstance(token_id, int):
        raise UserError(f"the tokenizer's {role} token is {token_id!r}, one is needed: use a tokenizer that has it")
    return token_id


def encode_statement(tok: PreTrainedTokenizerBase, prompt: str, answer: str, id: str) -> TokenItem:
    """Prompt and answer as one sequence of which the answer is scored.

    Both are encoded together, as a model meets them in running text. Where the tokenizer merges the end of the prompt
    with the beginning of the answer, the merged token is scored. Raises UserError for an empty answer, or an empty
    prompt without BOS.
    """
    ids = tok.encode(prompt + answer, add_special_tokens=False, verbose=False)
    shared = 0
    for alone, together in zip(tok.encode(prompt, add_special_tokens=False), ids, strict=False):
        if alone != together:
            break
        shared += 1
    start = beginning(tok)
    n_prompt = len(start) + shared
    if shared == len(ids) or n_prompt == 0:
        raise UserError(
            f"statement {id!r} has an empty {'answer' if ids else 'text'}: {prompt!r} + {answer!r}; both need words"
        )
    return TokenItem(id, (*start, *ids), n_prompt)


def encode_document(tok: PreTrainedTokenizerBase, text: str, id: str, max_length: int) -> list[TokenItem]:
    """Cut a text into windows of at most `max_length` tokens that do not overlap, each with its own BOS.

    Every token is scored once. Where there is no BOS, the first token of each window is not scored, and a last window
    of one token is left out. Ids are "<id>#<number of the window>"; an empty text has none. Raises UserError for a
    `max_length` below 2.
    """
    if max_length < 2:
        raise UserError(f"max_length {max_length} leaves no token to score: give 2 or more")
    ids = tok.encode(text, add_special_tokens=False, verbose=False)
    start = beginning(tok)
    size = max_length - len(start)
    windows = [(*start, *ids[at : at + size]) for at in range(0, len(ids), size)]
    return [TokenItem(f"{id}#{number}", window, 1) for number, window in enumerate(windows) if len(window) > 1]


def beginning(tok: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The BOS token, or nothing: some families (Qwen) have none, and their texts start with their first word."""
    return () if tok.bos_token_id is None else (cast("int", tok.bos_token_id),)


class PairedDataset(Dataset[tuple[TokenItem, TokenItem]]):
    """Item i is a forget item and a retain item, the same whatever process or worker asks, in whatever order.

    Each side is walked through in epochs of its own, each epoch in a permutation drawn from (seed, side, epoch) alone,
    so that the length of one side does not disturb the other. Indices must be read in order (no shuffling sampler).
    """

    def __init__(self, forget: Sequence[TokenItem], retain: Sequence[TokenItem], length: int, seed: int) -> None:
        for side, items in (("forget", forget), ("retain", retain)):
            if not items:
                raise UserError(f"the {side} side has no items to train on: move the cutoff or add data")
        self.forget = forget
        self.retain = retain
        self.length = length
        self.seed = seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[TokenItem, TokenItem]:
        if not 0 <= index < self.length:
            raise IndexError(f"item {index} of {self.length}")
        return self._draw(self.forget, "forget", index), self._draw(self.retain, "retain", index)

    def _draw(self, items: Sequence[TokenItem], side: str, index: int) -> TokenItem:
        epoch, position = divmod(index, len(items))
        return items[permutation(len(items), self.seed, side, epoch)[position]]


@lru_cache(maxsize=8)
def permutation(n: int, seed: int, side: str, epoch: int) -> list[int]:
    """A permutation of range(n) that depends on the arguments and on nothing else."""
    digest = hashlib.sha256(f"{seed}/{side}/{epoch}".encode()).digest()
    # torch takes seeds of 64 bits, signed
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
    return torch.randperm(n, generator=generator).tolist()
