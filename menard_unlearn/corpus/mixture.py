"""Several sources as one corpus."""

from __future__ import annotations

from dataclasses import dataclass

from menard_unlearn.corpus.sources import Corpus, CorpusData, corpus_data
from menard_unlearn.errors import UserError


@dataclass(frozen=True)
class Mixture(Corpus):
    """The documents, facts and neutral texts of all parts together, whose ids must differ."""

    parts: dict[str, Corpus]
    """The sources, by a name of your choice."""

    def load(self) -> CorpusData:
        """All parts. Raises UserError where two bring different wordings, since a relation could then mean two
        things."""
        loaded = [part.load() for part in self.parts.values()]
        templates = [part.templates for part in loaded if part.templates is not None]
        if any(other != templates[0] for other in templates):
            raise UserError(
                "the parts of the mixture bring different templates: give corpus.parts the same relations, or null"
            )
        return corpus_data(
            documents=[document for part in loaded for document in part.documents],
            facts=[fact for part in loaded for fact in part.facts],
            templates=templates[0] if templates else None,
            neutral=[text for part in loaded for text in part.neutral],
        )
