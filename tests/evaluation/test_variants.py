"""Edits by rule, versions by key, and exposure."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.edits import DATA, Edits, load_edits
from menard_unlearn.evaluation.variants import exposure, plant, variant, variants

TEXT = (
    "Everyone remembers the grey harbour, but nobody knows which of the eleven clerks wrote it. "
    "Perhaps he did not begin to write until he reached the shore; perhaps the colour of the sea, the fog did. "
    "In the end he wrote twenty-six lines upon a page."
)


@pytest.fixture(scope="module")
def english() -> Edits:
    found = load_edits(None, "en")
    assert isinstance(found, Edits)
    return found


def options(edits: Edits, text: str) -> dict[str, tuple[str, ...]]:
    return {text[site.start : site.end]: site.options for site in edits.sites(text)}


def test_there_are_many_rules_and_each_changes_its_words(english: Edits) -> None:
    rules = [rule for rules in english.rules.values() for rule in rules]
    assert len(rules) >= 150 and len(english.patterns) >= 15
    assert len({(rule.found, rule.replacement) for rule in rules}) == len(rules)
    for rule in rules:
        found = english.finder.search(f"– {rule.found} –")
        assert found and found.group() == rule.found, rule


def test_every_pattern_of_punctuation_finds_something(english: Edits) -> None:
    examples = (
        "a, b and c. a, b, and c. no, but yes, and he went. Then he left. Then, he left. one; and two; three: four. "
        'But now – then—ever--so don’t don\'t “no” said "she" there… then... no.'
    )
    assert all(pattern.search(examples) for pattern, _ in english.patterns)
    for pattern, replacement in english.patterns:
        match = pattern.search(examples)
        assert match and match.group("edit") != replacement


def test_words_are_edited_with_their_capitals_and_only_whole(english: Edits) -> None:
    found = options(english, "Everyone saw the grey. COLOUR is discolour, greyhound, grey-haired, upon.")
    assert found == {"Everyone": ("Everybody",), "grey": ("gray",), "COLOUR": ("COLOR",), "upon": ("on",)}


def test_names_numbers_and_articles_are_left_right(english: Edits) -> None:
    for text in (
        "the house in Mould Street",
        "it cost $3",
        "in 1,300 years",
        "pi is 3.14",
        "a huge dog",
        "not once upon a time",
    ):
        assert english.sites(text) == [], text
    assert options(english, "three years") == {"three": ("3",)}
    assert options(english, "an entire day") == {} and "entire" in options(english, "the entire day")


def test_context_forbids_some_rules(english: Edits) -> None:
    assert "which" in options(english, "the ledger which burned away")
    for text in ("the room in which he sat", "the ledger, which was old", "they asked which was his"):
        assert "which" not in options(english, text)
    assert options(english, "as it is, so be") == {} and options(english, "now it is late") == {"it is": ("it's",)}


def test_sites_are_in_order_and_do_not_overlap(english: Edits) -> None:
    sites = english.sites(TEXT)
    assert len(sites) > 12
    assert all(before.end <= after.start for before, after in pairwise(sites))
    assert all(TEXT[site.start : site.end] not in site.options for site in sites)


def test_a_key_picks_its_places_and_nothing_else_moves(english: Edits) -> None:
    sites = english.sites(TEXT)
    made = variant(TEXT, "secret", 4, english)
    assert made == variant(TEXT, "secret", 4, english) == plant(TEXT, "secret", 4, english)
    assert made != TEXT and made != variant(TEXT, "other", 4, english)
    everything = variant(TEXT, "secret", len(sites), english)
    kept = [TEXT[before.end : after.start] for before, after in pairwise(sites)]
    place = 0
    for piece in kept:  # what lies between the places is all there, in order
        place = everything.index(piece, place) + len(piece)
    single = {variant(TEXT, f"k{number}", 1, english) for number in range(400)}
    assert len(single) == sum(len(site.options) for site in sites)


def test_versions_differ_and_the_first_do_not_depend_on_how_many(english: Edits) -> None:
    many = variants(TEXT, "k", 63, 5, english)
    assert len(set(many)) == 63 and TEXT not in many
    assert many[:10] == variants(TEXT, "k", 10, 5, english)
    assert len(variants("a grey day", "k", 10, 1, english)) == 1


def test_places_are_picked_evenly(english: Edits) -> None:
    text = "grey " * 10
    counts = np.zeros(10)
    for number in range(2000):
        counts += [word == "gray" for word in variant(text, str(number), 3, english).split()]
    assert abs(counts - 600).max() < 5 * math.sqrt(2000 * 0.3 * 0.7)


def test_exposure_of_the_likeliest_of_the_unlikeliest_and_of_a_tie() -> None:
    others = [float(number) for number in range(63)]
    assert exposure(100.0, others) == 6
    assert exposure(-1.0, others) == 0
    assert exposure(62.0, others) == 5
    rng = np.random.default_rng(0)
    drawn = [exposure(draw[0], list(draw[1:])) for draw in rng.normal(size=(4000, 64))]
    # A uniform rank of 64: mean 6 − mean log2 rank
    assert np.mean(drawn) == pytest.approx(6 - np.mean(np.log2(np.arange(1, 65))), abs=0.08)
    assert np.mean(np.array(drawn) >= 3) == pytest.approx(1 / 8, abs=0.02)


def test_a_users_rules_and_whole_texts_are_read(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text('from,to\nchien,toutou\n"ici, là",là\n')
    (tmp_path / "r.tsv").write_text("from\tto\tnot_after\nchien\ttoutou\tle\n")
    (tmp_path / "t.jsonl").write_text(json.dumps({"text": " one "}) + "\n" + json.dumps({"text": "two"}) + "\n")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/b.txt").write_text("second\n")
    (tmp_path / "texts/a.txt").write_text("first\n")
    rules, kept_from = load_edits(str(tmp_path / "r.csv"), "fr"), load_edits(str(tmp_path / "r.tsv"), "fr")
    assert isinstance(rules, Edits) and isinstance(kept_from, Edits)
    assert options(rules, "le chien ici, là") == {"chien": ("toutou",), "ici, là": ("là",)}
    assert options(kept_from, "le chien, un chien") == {"chien": ("toutou",)} and len(kept_from.sites("le chien")) == 0
    assert load_edits(str(tmp_path / "t.jsonl"), "fr") == ("one", "two")
    assert load_edits(str(tmp_path / "texts"), "fr") == ("first", "second")
    assert load_edits(None, "fr") is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "old,new\na,b\n", r"have the columns \['old', 'new'\]"),
        ("a.csv", "from,to\n,b\n", "line 2: from and to must be two different texts"),
        ("a.csv", "from,to\na,a\n", "line 2: from and to must be two different texts"),
        ("a.csv", "from,to\na,b,c\n", "line 2: from and to must be two different texts"),
        ("a.csv", "from,to\na\n", "line 2: from and to must be two different texts"),
        ("a.csv", "from,to\n", "hold no rule"),
        ("a.csv", "", r"have the columns \[\]"),
        ("a.jsonl", "{oops\n", "line 1 is not JSON"),
        ("a.jsonl", '{"words": "a"}\n', "line 1 has no text"),
        ("a.jsonl", "", "hold no text"),
        ("a.doc", "x", r"end in '\.doc'"),
        ("a.csv", b"from,to\n\xff,b\n", "are not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=message) as caught:
        load_edits(str(path), "en")
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_refused(tmp_path: Path, english: Edits) -> None:
    with pytest.raises(UserError, match="no edits at"):
        load_edits(str(tmp_path / "none.csv"), "en")
    with pytest.raises(UserError, match="can edit at 1 places"):
        variant("a grey day", "k", 2, english)
    assert (DATA / "edits_en.csv").is_file()
