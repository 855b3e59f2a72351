"""Text to token items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from transformers import PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.errors import UserError


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


def encode_text(tok: PreTrainedTokenizerBase, prompt: str, text: str, id: str) -> TokenItem:
    """BOS, prompt and text, the text scored; without BOS and prompt all of it but its first token."""
    if prompt or beginning(tok):
        return encode_statement(tok, prompt, text, id)
    return TokenItem(id, tuple(tok.encode(text, add_special_tokens=False, verbose=False)), 1)


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


def whole_length(tok: PreTrainedTokenizerBase, text: str) -> int:
    """Tokens of a text with its beginning: what a model's window has to hold."""
    return len(beginning(tok)) + len(tok.encode(text, add_special_tokens=False, verbose=False))


@dataclass(frozen=True)
class Encoder:
    """The little of a tokenizer that a training needs."""

    pad_id: int
    """What fills rows."""
    start: tuple[int, ...]
    """What every item begins with: the BOS token, or nothing."""
    words: Callable[[str], tuple[int, ...]]
    """The tokens of a text, without special ones."""

    @classmethod
    def of(cls, tok: PreTrainedTokenizerBase) -> Encoder:
        """Raises UserError where the tokenizer cannot pad."""
        return cls(
            one_id(tok.pad_token_id, "pad"),
            beginning(tok),
            lambda text: tuple(tok.encode(text, add_special_tokens=False, verbose=False)),
        )
