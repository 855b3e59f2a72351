"""A scored item as the pair of texts that lm-eval asks for, so that it scores the same tokens.

lm-eval takes a context and a continuation as text and encodes both by itself: most backends add BOS, the completions
client does not; white space at the end of a context is moved to the continuation; a sequence that is too long loses its
beginning. Here the context therefore begins with BOS written out, which no backend then adds again, and is cut where
the first scored token begins; a sequence that does not fit is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.errors import UserError

REACH = 64
"""Characters around the end of the prompt in which the first scored token is looked for."""


class Kept(str):
    """A context that keeps the white space at its end: lm-eval counts what `rstrip` takes off and moves it."""

    __slots__ = ()

    def rstrip(self, chars: str | None = None, /) -> str:
        """The text as it is."""
        return self


class Withheld(Kept):
    """Words for a tokenizer's eyes: printed or logged, they are only counted."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"[{len(self)} characters withheld]"

    def __repr__(self) -> str:
        return str(self)

    def __format__(self, spec: str) -> str:
        return str(self)


@dataclass(frozen=True)
class Request:
    """What is asked of lm-eval."""

    context: str
    """BOS and what comes before the scored tokens."""
    continuation: str
    """The text of the scored tokens."""
    n_tokens: int
    """Number of these."""


def request(
    tokenizer: PreTrainedTokenizerBase, item: TokenItem, prompt: str, answer: str, limit: int | None
) -> Request:
    """The request whose scored tokens are the item's, which was encoded from prompt and answer.

    `limit` is the longest sequence that the backend takes whole. Raises UserError where the item is longer, and where
    the tokenizer cuts the text otherwise when BOS stands before it as text: lm-eval could not score the same tokens.
    """
    if limit is not None and len(item.ids) > limit:
        raise UserError(
            f"{item.id!r} has {len(item.ids)} tokens with its start, lm-eval passes on {limit}: give a shorter text, "
            "or a longer context, --model_args max_length=<tokens>"
        )
    begun, whole = _bos(tokenizer), prompt + answer
    if _ids(tokenizer, begun + whole) == list(item.ids):
        places = range(max(0, len(prompt) - REACH), min(len(whole), len(prompt) + REACH))
        for place in sorted(places, key=lambda place: abs(place - len(prompt))):
            context = begun + whole[:place]
            if context and _ids(tokenizer, context) == list(item.ids[: item.n_prompt]):
                return Request(context, whole[place:], len(item.ids) - item.n_prompt)
    raise UserError(
        f"{item.id!r} cannot be asked through lm-eval: tokenizer {tokenizer.name_or_path!r} cuts its text otherwise "
        "after BOS; evaluate this model with `menard evaluate`"
    )


def _bos(tokenizer: PreTrainedTokenizerBase) -> str:
    return "" if tokenizer.bos_token_id is None else str(tokenizer.bos_token)


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False, verbose=False))
