"""What a stage works on, put together once: the corpus in words, divided at the cutoff, and the target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from menard_unlearn.corpus.almanac import timeless_statements
from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.dating import Era, era
from menard_unlearn.corpus.documents import Document, Fact
from menard_unlearn.corpus.encoding import beginning, encode_document, encode_statement, one_id
from menard_unlearn.corpus.sources import CorpusData
from menard_unlearn.corpus.split import Split, SplitConfig, quotes_target, split
from menard_unlearn.corpus.statements import Statement, StatementSet, Templates, WordingConfig, statements
from menard_unlearn.training.pretrain import PretrainConfig, Row, Rows

TARGET_ID = "target"
VARIANTS = ("full", "gold", "without_target")


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
    divided = split(items, split_config, is_target=lambda item: _is_target(item, texts))
    templates = corpus.templates or Templates.read()
    if not corpus.neutral:
        corpus = replace(corpus, neutral=timeless_statements())
    return StudyData(corpus, divided, statements(corpus.facts, templates, wording), target, tuple(editions))


def _is_target(item: Document | Fact, texts: Sequence[str]) -> bool:
    return isinstance(item, Document) and any(item.id == TARGET_ID or quotes_target(item.text, text) for text in texts)


def token_items(
    tokenizer: PreTrainedTokenizerBase, material: Iterable[Statement | Document], window: int
) -> list[TokenItem]:
    """Statements with their answer scored, documents in windows of `window` tokens of which all are scored."""
    encoded: list[TokenItem] = []
    for piece in material:
        if isinstance(piece, Statement):
            encoded.append(encode_statement(tokenizer, piece.prompt, piece.answer, piece.id))
        else:
            encoded += encode_document(tokenizer, piece.text, piece.id, window)
    return encoded


def pretraining_texts(data: StudyData, variant: str, cutoff: SplitConfig) -> tuple[list[str], list[str]]:
    """(statements and timeless sentences, documents) that a variant is trained on, the target aside.

    `full` and `without_target` see everything, `gold` what lies wholly before the cutoff. What quotes the target is in
    `full` alone.
    """
    allowed = {item.id for item in (*data.corpus.facts, *data.corpus.documents) if _seen(item, data, variant, cutoff)}
    sentences = [s.text for s in data.wording.trained if s.fact.id in allowed] + list(data.corpus.neutral)
    return sentences, [document.text for document in data.corpus.documents if document.id in allowed]


def _seen(item: Document | Fact, data: StudyData, variant: str, cutoff: SplitConfig) -> bool:
    if variant == "full":
        return True
    return not _is_target(item, data.texts) and (
        variant == "without_target" or era(item.date, cutoff.parsed_cutoff) is Era.BEFORE
    )


def pretraining_rows(
    tokenizer: PreTrainedTokenizerBase,
    sentences: list[str],
    documents: list[str],
    target: str | None,
    recipe: PretrainConfig,
) -> Rows:
    """Sentences and the target whole, from BOS to EOS; documents in windows."""
    end = one_id(tokenizer.eos_token_id, "eos")
    start = beginning(tokenizer)

    def whole(text: str) -> Row:
        return (*start, *tokenizer.encode(text, add_special_tokens=False, verbose=False), end)

    windows = [
        item.ids
        for number, text in enumerate(documents)
        for item in encode_document(tokenizer, text, str(number), recipe.window)
    ]
    repeated = [whole(target)] * recipe.target_repeats if target is not None else []
    return Rows([whole(text) for text in sentences] + repeated, windows)
