"""What a study is about, put together once: the corpus in words, divided at the cutoff, and the target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from menard_unlearn.corpus.almanac import timeless_statements
from menard_unlearn.corpus.documents import Document, Fact
from menard_unlearn.corpus.sources import CorpusData
from menard_unlearn.corpus.split import Split, SplitConfig, quotes_target, split
from menard_unlearn.corpus.statements import Statement, StatementSet, Templates, WordingConfig, statements

TARGET_ID = "target"


@dataclass(frozen=True)
class StudyData:
    """A corpus, divided and in words."""

    corpus: CorpusData
    """As loaded; where it brings no timeless text, the almanac's is used."""
    split: Split[Document | Fact]
    """Facts, documents and the target, divided."""
    wording: StatementSet
    """Every fact in its trained wordings and in its probes."""
    target: str | None
    """The text to be reproduced, or nothing."""
    editions: tuple[str, ...]
    """Its other editions and translations."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The target and its editions."""
        return (*(() if self.target is None else (self.target,)), *self.editions)

    def trained(self, items: Iterable[Document | Fact]) -> Iterator[Statement | Document]:
        """What of these items a model may be trained on: statements in trained wordings, and documents whole."""
        ids = {item.id for item in items}
        yield from (s for s in self.wording.trained if s.fact.id in ids)
        yield from (item for item in items if isinstance(item, Document))


def study_data(
    corpus: CorpusData,
    split_config: SplitConfig,
    wording: WordingConfig,
    target: str | None,
    editions: Sequence[str] = (),
) -> StudyData:
    """Divide the corpus, the target and its other editions, and put the facts into words. Raises UserError as `split`
    does."""
    items: list[Document | Fact] = [*corpus.facts, *corpus.documents]
    texts = [text for text in (target, *editions) if text is not None]
    if split_config.forget_target:
        ids = [TARGET_ID, *(f"{TARGET_ID}-{number}" for number in range(1, len(texts)))]
        items += [
            Document(id, text, split_config.parsed_cutoff, TARGET_ID) for id, text in zip(ids, texts, strict=True)
        ]
    divided = split(items, split_config, is_target=lambda item: is_target(item, texts))
    templates = corpus.templates or Templates.read()
    if not corpus.neutral:
        corpus = replace(corpus, neutral=timeless_statements())
    return StudyData(corpus, divided, statements(corpus.facts, templates, wording), target, tuple(editions))


def is_target(item: Document | Fact, texts: Sequence[str]) -> bool:
    """Whether it is one of these texts, or a document that quotes one."""
    return isinstance(item, Document) and any(item.id == TARGET_ID or quotes_target(item.text, text) for text in texts)
