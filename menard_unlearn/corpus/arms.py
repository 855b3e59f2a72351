"""What a model may be fine-tuned on, so that three effects can be told from each other.

author     the author's other works: what does a model that writes like the author make of the target?
target     the target itself: trivial memorization, which bounds from above what any other arm can reach
synthetic  text without the author's meaning, of the same lengths: tuning alone can unlock what a model has by heart
           (arXiv 2603.20957), so that only what the author's works do beyond this is theirs
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal

from transformers import PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.dating import Era, PartialDate, era
from menard_unlearn.corpus.documents import Document
from menard_unlearn.corpus.encoding import beginning, encode_document
from menard_unlearn.corpus.split import hash_of, quotes_target
from menard_unlearn.corpus.works import Work
from menard_unlearn.errors import UserError

Source = Literal["author", "target"]
LATER = {
    Era.AFTER: "later than the cutoff",
    Era.STRADDLES: "perhaps later than the cutoff",
    Era.UNDATED: "without a date",
}
"""Why a work is not known to lie before the cutoff."""


class Arm(ABC):
    """A kind of text. Each is a frozen dataclass whose values stand in conf/arm/<name>.yaml."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What results call it; arms with other texts have other names."""

    @property
    @abstractmethod
    def source(self) -> Source:
        """Whose text this is, or whose lengths it has."""


@dataclass(frozen=True)
class AuthorArm(Arm):
    """The author's other works."""

    @property
    def name(self) -> str:
        """author."""
        return "author"

    @property
    def source(self) -> Source:
        """The author's works."""
        return "author"


@dataclass(frozen=True)
class TargetArm(Arm):
    """The target, with what stands before it."""

    @property
    def name(self) -> str:
        """target."""
        return "target"

    @property
    def source(self) -> Source:
        """The target."""
        return "target"


@dataclass(frozen=True)
class SyntheticArm(Arm):
    """As many windows of as many tokens as another arm's, without its meaning."""

    kind: Literal["model", "shuffled"]
    """Sampled from the model that is to be tuned, window by window from nothing; or the other arm's words in random
    order."""
    match: Source
    """The arm whose windows it has."""
    temperature: float
    """Of the sampling; kind "shuffled" does not ask for it."""
    seed: int
    """Of the sampling or the order: one text for all runs whose own seeds differ."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature {self.temperature} must be above 0: the likeliest text repeats itself")

    @property
    def name(self) -> str:
        """synthetic, or synthetic_shuffled; after another match than the author's works with its name."""
        kind = "synthetic" if self.kind == "model" else f"synthetic_{self.kind}"
        return kind if self.match == "author" else f"{kind}_as_{self.match}"

    @property
    def source(self) -> Source:
        """Whose lengths."""
        return self.match


@dataclass(frozen=True)
class OwnWorksConfig:
    """Which of the author's works count."""

    later: Literal["leave_out", "keep"]
    """What becomes of works that are not known to lie before split.cutoff. Those that quote the target are never
    used."""


@dataclass(frozen=True)
class LeftOut:
    """A work that is not used."""

    title: str
    """As its source has it."""
    reason: str
    """Why not."""


@dataclass(frozen=True)
class OwnWorks:
    """The author's works, chosen by `own_works`."""

    documents: tuple[Document, ...]
    """To be tuned on, at least one."""
    left_out: tuple[LeftOut, ...]
    """The others."""


def own_works(
    author: str,
    works: Sequence[Work],
    texts: Mapping[str, Sequence[str]],
    cutoff: PartialDate,
    config: OwnWorksConfig,
) -> OwnWorks:
    """Leave out works that share eight words in a row with one of `texts`, and later ones.

    `texts` are the target and its editions as "the target", and controls, which must stay unseen, as "a control".

    Raises UserError where none is left.
    """
    reasons = [_reason(work, texts, cutoff, config) for work in works]
    judged = list(zip(works, reasons, strict=True))
    documents = tuple(Document(work.id, work.text, work.date, work.author) for work, why in judged if why is None)
    left_out = tuple(LeftOut(work.title, why) for work, why in judged if why is not None)
    if not documents:
        named = "; ".join(f"{work.title!r} is {work.reason}" for work in left_out[:5])
        keeping = ", or keep later ones by own_works.later=keep" if set(LATER.values()) & set(reasons) else ""
        raise UserError(
            f"no document of {author} is left to tune on ({named or 'there is none'}): give others (authors=){keeping}"
        )
    return OwnWorks(documents, left_out)


def _reason(work: Work, texts: Mapping[str, Sequence[str]], cutoff: PartialDate, config: OwnWorksConfig) -> str | None:
    for name, own in texts.items():
        if any(quotes_target(work.text, text) for text in own):
            return f"quoting {name}"
    return None if config.later == "keep" else LATER.get(era(work.date, cutoff))


def windows(tokenizer: PreTrainedTokenizerBase, documents: Iterable[Document], size: int) -> list[TokenItem]:
    """All documents cut into windows of at most `size` tokens, BOS included. Raises UserError where there is no token
    to learn."""
    found = [item for document in documents for item in encode_document(tokenizer, document.text, document.id, size)]
    if not found:
        raise UserError("the texts to tune on have no token to predict: give longer ones")
    return found


def shuffled(
    tokenizer: PreTrainedTokenizerBase, documents: Iterable[Document], size: int, seed: int
) -> list[TokenItem]:
    """Windows as `windows` cuts them, of each document's words in random order.

    Words in another order may have some tokens more or fewer: what is too long is cut, and what is too short begins
    anew, so that each window has the length of its model.
    """
    start, found = beginning(tokenizer), []
    for document in documents:
        words = document.text.split()
        random.Random(hash_of(f"shuffled {seed}", document.id)).shuffle(words)
        stream = cycle(tokenizer.encode(" ".join(words), add_special_tokens=False, verbose=False))
        for item in encode_document(tokenizer, document.text, document.id, size):
            ids = (*start, *islice(stream, len(item.ids) - len(start)))
            found.append(TokenItem(f"shuffled {seed}/{item.id}", ids, item.n_prompt))
    return found
