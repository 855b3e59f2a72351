"""What `menard context` is told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from menard_unlearn.errors import UserError
from menard_unlearn.statistics.context_needed import Rules

MODELS = ("base", "without_target", "gold")


@dataclass(frozen=True)
class DocumentsConfig:
    """Which documents contexts are made of. All are dated up to the cutoff, whatever is set here."""

    include: str | None
    """A regular expression that a document's id has to hold, to name an author's works; null takes all."""
    passage: int | None
    """Tokens of the passages that documents are cut into, of which a draw takes any in any order; null takes whole
    documents, so that a context shorter than one has one author."""
    decontaminate: Literal["cut", "refuse"]
    """What becomes of a document that shares `ngram` words with the target, an edition or a control: it is left out
    and counted, or the run is refused."""
    ngram: int
    """Words in a row, without case and punctuation, that make an overlap."""
    quotations: str | None
    """A UTF-8 file of passages that the target itself quotes, one a line: sharing these is no overlap. Its words stay
    in it."""

    def __post_init__(self) -> None:
        refuse_bad_regex("context.documents.include", self.include)
        if self.passage is not None and self.passage < 1:
            raise UserError(f"context.documents.passage {self.passage} is not allowed: give 1 or more, or null")
        if self.ngram < 1:
            raise UserError(f"context.documents.ngram {self.ngram} is not allowed: give 1 or more, as 8")


@dataclass(frozen=True)
class PlacebosConfig:
    """Contexts and texts that should show less, each at the same lengths."""

    shuffled: bool
    """The same tokens in random order, between one length and the next: words without text."""
    other: str | None
    """A regular expression for the ids of another author's documents; null leaves this placebo out."""
    other_target: bool
    """The target's first control after the same contexts: what they give to any text."""

    def __post_init__(self) -> None:
        refuse_bad_regex("context.placebos.other", self.other)


@dataclass(frozen=True)
class ContextConfig:
    """How contexts are made, what is scored after them, and what is asked of the curve."""

    models: tuple[str, ...]
    """Which models are scored: base (model.path), without_target, gold. One that model= does not have is left out by
    name."""
    first: int
    """Shortest context, tokens, a power of two; each further one has twice as many."""
    last: int | None
    """Longest context, tokens; null is the longest that fits into the models' windows with the text."""
    draws: int
    """Contexts of each kind, each in an order of its own; fewer than 5 make a poor interval."""
    separator: str
    """What stands between documents, and between the context and the text."""
    documents: DocumentsConfig
    placebos: PlacebosConfig
    probabilities: tuple[float, ...]
    """q: the target counts as reproduced with this probability or more. The first is what the summary tells."""
    rules: Rules

    def __post_init__(self) -> None:
        unknown = [name for name in self.models if name not in MODELS]
        if unknown or not self.models:
            raise UserError(f"context.models={list(self.models)}: give one or more of {', '.join(MODELS)}")
        if self.first < 1 or self.first & (self.first - 1):
            raise UserError(f"context.first={self.first} is no power of two: give 16, say")
        if self.draws < 1:
            raise UserError(f"context.draws={self.draws} is not allowed: give 5 or more")
        if not self.separator:
            raise UserError("context.separator is empty: the text would run into the context; give '\\n\\n'")
        bad = [q for q in self.probabilities if not 0 < q < 1]
        if bad or not self.probabilities:
            raise UserError(f"context.probabilities={list(self.probabilities)}: give numbers between 0 and 1, as [0.5]")


def refuse_bad_regex(key: str, pattern: str | None) -> None:
    """Raise UserError for a pattern that is no regular expression."""
    if pattern is None:
        return
    try:
        re.compile(pattern)
    except re.error as error:
        raise UserError(f"{key}={pattern!r} is no regular expression ({error}): give one, as stevenson") from error
