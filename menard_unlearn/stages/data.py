"""What models are trained on, as tokens: a study's statements and documents, and what each pretrained variant sees."""

from __future__ import annotations

from collections.abc import Iterable

from transformers import PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.dating import Era, era
from menard_unlearn.corpus.documents import Document, Fact
from menard_unlearn.corpus.encoding import beginning, encode_document, encode_statement, one_id
from menard_unlearn.corpus.split import SplitConfig
from menard_unlearn.corpus.statements import Statement
from menard_unlearn.corpus.study import StudyData, is_target
from menard_unlearn.training.pretrain import PretrainConfig, Row, Rows

VARIANTS = ("full", "gold", "without_target")


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
    return not is_target(item, data.texts) and (
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
