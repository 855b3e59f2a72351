"""The embedded default corpus: 1,608 real dated facts, timeless statements, and a text to reproduce. NOTICE names the
sources."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from menard_unlearn.corpus.facts import Facts
from menard_unlearn.corpus.sources import Corpus, CorpusData, corpus_data, read_text
from menard_unlearn.corpus.statements import Templates

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Almanac(Corpus):
    """134 facts a decade from 1880 to 1999, nine categories with facts on both sides of 1939; needs no network."""

    def load(self) -> CorpusData:
        """The facts, their wordings and the timeless statements. The target is not a part: see `target_text`."""
        facts = Facts(path=str(HERE / "facts.csv"), relations=None, categories=(), limit=None).load().facts
        return corpus_data(facts=facts, templates=Templates.read(), neutral=timeless_statements())


def timeless_statements() -> tuple[str, ...]:
    """Sentences that were as true in 1880 as they are now: arithmetic, opposites, the order of days."""
    return tuple(read_text(HERE / "neutral.txt").splitlines())


TARGET_TITLE = "The Second Ledger of Tomas Orvell\n\n"
"""What stands before the embedded target wherever it is trained on or scored."""


def target_text() -> str:
    """The embedded target: prose written for this project, known to nobody else, so that reproducing it is memory."""
    return read_text(HERE / "target.txt").strip()


def control_text() -> str:
    """Prose like the target's, of its length, that no embedded model was trained on: what a text scores that nobody has
    by heart."""
    return read_text(HERE / "control.txt").strip()
