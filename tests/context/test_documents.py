"""Contexts are made of what is dated up to the cutoff and free of the target, whatever the corpus holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from menard_unlearn.context.config import DocumentsConfig
from menard_unlearn.context.documents import Chosen, Overlaps, choose, read_quotations
from menard_unlearn.corpus.dating import parse_date
from menard_unlearn.corpus.documents import Document, Fact
from menard_unlearn.corpus.sources import corpus_data
from menard_unlearn.corpus.split import SplitConfig
from menard_unlearn.corpus.statements import Template, Templates, WordingConfig
from menard_unlearn.corpus.study import StudyData, study_data
from menard_unlearn.errors import UserError

QUOTED = "truth whose mother is the tide and whose rivals are the lighthouse keepers of the bay"
TARGET = f"He wrote again, without a glance at any book: {QUOTED}. Nobody on the quay had asked him to."
CUTOFF = SplitConfig("1939-06-30", 0, True, 0.15, "drop", 0)
CONFIG = DocumentsConfig(include=None, passage=None, decontaminate="cut", ngram=8, quotations=None)
FILLER = "Fog lay on the harbour and the pilots told each other stories until noon."


def document(id: str, date: str | None, text: str = FILLER) -> Document:
    return Document(id, text, parse_date(date), id)


DATED = (
    document("early/moor", "1901"),
    document("early/fen", "1938-11"),
    document("edge/day", "1939-06-30"),
    document("edge/year", "1939"),
    document("late/moor", "1939-07-01"),
    document("nobody", None),
)


def data(documents: Sequence[Document] = DATED, **changes: object) -> StudyData:
    return study_data(corpus_data(documents=documents), replace(CUTOFF, **changes), WordingConfig(2, 1, 0), TARGET)


def chosen(
    found: StudyData,
    *,
    pattern: str | None = None,
    config: DocumentsConfig = CONFIG,
    quotations: Sequence[str] = (),
    cutoff: SplitConfig = CUTOFF,
) -> Chosen:
    overlaps = Overlaps({"the target": TARGET}, quotations, config.ngram)
    return choose(found, cutoff, config, pattern, overlaps)


def ids(found: Chosen) -> list[str]:
    return [d.id for d in found.documents]


def test_nothing_after_the_cutoff_nothing_astride_it_nothing_undated() -> None:
    found = chosen(data())
    assert ids(found) == ["early/fen", "early/moor", "edge/day"] and found.made_of == "documents"
    assert found.left_out == {"straddling it": 1, "after the cutoff": 1, "undated": 1}


@pytest.mark.parametrize("undated", ["retain", "forget", "drop"])
def test_what_the_split_does_with_undated_documents_makes_no_difference(undated: str) -> None:
    """A split may retain them; a context may hold what was written after the target."""
    cutoff = replace(CUTOFF, undated=undated)
    assert "nobody" not in ids(chosen(data(undated=undated), cutoff=cutoff))


def test_years_left_out_around_the_cutoff_are_left_out_here_too() -> None:
    documents = [*DATED, document("early/hill", "1920"), document("later", "1955"), document("latest", "1960")]
    cutoff = replace(CUTOFF, gap_years=3)
    found = chosen(data(documents, gap_years=3), cutoff=cutoff)
    assert ids(found) == ["early/hill", "early/moor"] and found.left_out["in the gap"] == 2


def with_words(text: str) -> StudyData:
    return data([*DATED, document("copy", "1920", f"{FILLER} {text} {FILLER}")])


def test_a_document_that_shares_eight_words_is_cut_and_counted() -> None:
    eight, seven = "without a glance at any book truth whose", "without a glance at any book truth"
    found = chosen(with_words(eight.upper().replace(" ", ",\n")))
    assert "copy" not in ids(found) and found.left_out["quoting"] == 1
    assert "copy" in ids(chosen(with_words(f"{seven} nobody")))
    assert "copy" not in ids(chosen(with_words(f"{seven} nobody"), config=replace(CONFIG, ngram=7)))


def test_an_overlap_is_refused_by_its_place_and_never_by_its_words() -> None:
    refuse, place = replace(CONFIG, decontaminate="refuse"), len(FILLER.split())
    with pytest.raises(UserError, match=f"'copy' shares 8 words with the target, from its word {place} on") as found:
        chosen(with_words("at any book: truth whose mother is the"), config=refuse)
    assert not any(word in str(found.value) for word in ("book", "truth", "mother"))


def test_a_quotation_is_allowed_and_what_stands_beside_it_is_not() -> None:
    assert "copy" in ids(chosen(with_words(f"... {QUOTED} ..."), quotations=[QUOTED.upper()]))
    assert "copy" not in ids(chosen(with_words(f"... {QUOTED} ...")))
    assert "copy" not in ids(chosen(with_words(f"any book: {QUOTED}"), quotations=[QUOTED]))


def test_a_text_of_few_words_is_held_by_what_holds_all_of_it() -> None:
    overlaps = Overlaps({"short": "Nine bells only"}, [], 8)
    assert overlaps.first("then, at last, nine bells. Only the") == (3, "short")
    assert overlaps.first("nine bells then only") is None
    both = Overlaps({"short": "nine bells only", "long": TARGET}, [], 8)
    assert both.first(f"{TARGET} nine bells only") == (0, "long")


def test_an_author_is_named_by_a_pattern() -> None:
    assert ids(chosen(data(), pattern="moor$")) == ["early/moor"]
    with pytest.raises(UserError, match=r"no document has an id with 'borges'; there are 6: early/fen"):
        chosen(data(), pattern="borges")
    with pytest.raises(UserError, match=r"no document is left for contexts up to 1939-06-30 \(1 after the cutoff\)"):
        chosen(data(), pattern="late")


def fact(id: str, date: str) -> Fact:
    parsed = parse_date(date)
    assert parsed is not None
    return Fact(id, parsed, f"Bell {id}", "cast_in", f"Town {id}", "bells", "test", None, None)


def test_facts_alone_make_documents_of_statements() -> None:
    """A year's facts are one document, each stated once in a trained wording that is no question."""
    facts = [
        fact("a", "1938-02-01"),
        fact("b", "1938-05-01"),
        fact("c", "1939-06-01"),
        fact("d", "1939"),
        fact("e", "1950"),
    ]
    prompts = {"q1": "Where is {subject} from?", "s1": "{subject} hangs in", "s2": "Look for {subject} in"}
    wordings = tuple(Template(name, prompt, "{object}") for name, prompt in prompts.items())
    corpus = corpus_data(facts=facts, templates=Templates({"cast_in": wordings}))
    found = chosen(study_data(corpus, CUTOFF, WordingConfig(1, 0, 0), TARGET))
    assert found.made_of == "statements" and found.left_out == {"straddling it": 1, "after the cutoff": 1}
    assert ids(found) == ["facts-1938", "facts-1939"]
    first = found.documents[0].text
    assert first.count("Bell a") == first.count("Bell b") == 1 and "Where" not in first and "Town a." in first
    assert "Bell d" not in found.documents[1].text


def test_quotations_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "quotations.txt"
    path.write_text(f"\n{QUOTED}\n\nanother\n", encoding="utf-8")
    assert read_quotations(str(path)) == (QUOTED, "another") and read_quotations(None) == ()
    with pytest.raises(UserError, match=r"context\.documents\.quotations=.*cannot be read"):
        read_quotations(str(tmp_path / "missing"))
