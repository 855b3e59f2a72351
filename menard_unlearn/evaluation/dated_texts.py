"""Texts of known years, as many of each year and as long as a study says, ready to be scored for A4."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.documents import Document
from menard_unlearn.corpus.encoding import encode_document
from menard_unlearn.corpus.split import hash_of
from menard_unlearn.evaluation.items import Probe
from menard_unlearn.evaluation.tokens import scored_bytes


@dataclass(frozen=True)
class SurprisalConfig:
    """Which dated texts, and what they are read against."""

    reference_first: int
    """First year of the span whose bits per byte are subtracted."""
    reference_last: int
    """Last year of it; nothing that is to be forgotten may lie in the span."""
    characters: int
    """Beginning of a document that is read."""
    texts_a_year: int
    """Texts of a year, chosen by the hash of their ids."""
    replicates: int
    """Of the bootstraps and of the change point's test."""
    seed: int
    """Of these, and of the choice of texts."""

    def __post_init__(self) -> None:
        if self.reference_first > self.reference_last:
            raise ValueError(f"reference_first {self.reference_first} lies after reference_last {self.reference_last}")
        for name in ("characters", "texts_a_year", "replicates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be 1 or more")


@dataclass(frozen=True)
class DatedText:
    """A text of a known year."""

    id: str
    cluster: str
    """Texts that rise and fall together, as the wordings of one fact: what is drawn in the bootstrap."""
    year: int
    text: str


@dataclass(frozen=True)
class SurprisalPlan:
    """Dated texts as tokens."""

    texts: tuple[DatedText, ...]
    windows: tuple[tuple[TokenItem, ...], ...]
    """Of each text, every token scored once."""
    n_bytes: tuple[int, ...]
    """Scored UTF-8 bytes of each."""

    @property
    def items(self) -> list[TokenItem]:
        """What has to be scored."""
        return [item for own in self.windows for item in own]


def dated_texts(documents: Iterable[Document], probes: Iterable[Probe], config: SurprisalConfig) -> list[DatedText]:
    """The beginnings of the dated documents; of a corpus that has none, the statements that probes are made of, whole.

    Facts of one year differ in subject from those of another, so a curve from statements has bumps of its own: read
    differences of curves (`against`) rather than one curve.
    """
    beginnings = [
        DatedText(document.id, document.id, document.date.year, document.text[: config.characters])
        for document in documents
        if document.date is not None
    ]
    return _chosen(
        beginnings or [DatedText(p.id, p.fact_id, p.year, p.prompt + p.answer) for p in probes if not p.question],
        config,
    )


def plan_surprisal(
    tokenizer: PreTrainedTokenizerBase, texts: Iterable[DatedText], config: SurprisalConfig, max_length: int
) -> SurprisalPlan:
    """Encode at most `texts_a_year` texts of a year, in windows of `max_length` tokens, BOS with them.

    A statement has the very tokens that it has as a probe, so both are read off one row.
    """
    chosen = _chosen(texts, config)
    windows = [tuple(encode_document(tokenizer, text.text, text.id, max_length)) for text in chosen]
    return SurprisalPlan(
        tuple(chosen),
        tuple(windows),
        tuple(scored_bytes(tokenizer, text.text, own) for text, own in zip(chosen, windows, strict=True)),
    )


def _chosen(texts: Iterable[DatedText], config: SurprisalConfig) -> list[DatedText]:
    """By year, then by hash."""
    purpose = f"surprisal {config.seed}"
    found: dict[int, list[DatedText]] = {}
    for text in sorted(texts, key=lambda text: (hash_of(purpose, text.id), text.id)):
        if len(of_year := found.setdefault(text.year, [])) < config.texts_a_year:
            of_year.append(text)
    return [text for year in sorted(found) for text in found[year]]
