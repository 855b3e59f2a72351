"""Words that nobody had yet: planted ones are found exactly, and texts of their time have none."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from menard_unlearn.evaluation.anachronism import KEYS, LEXICON, anachronisms, count_words, hits, lexicon, poisson

PLAIN = "The miller went down to the river and spoke of the weather, as he did on every day of the year. "


def measure(*texts: str, cutoff: int = 1939, min_words: int = 1, hidden: tuple[str, ...] = ()) -> dict:
    return anachronisms(texts, cutoff, min_words=min_words, hidden=hidden)


def rows() -> list[dict[str, str]]:
    with open(LEXICON, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_lexicon_is_large_enough_clean_and_in_order() -> None:
    found = rows()
    terms = [row["term"] for row in found]
    assert list(found[0]) == ["term", "year", "kind"]
    assert terms == sorted(set(terms)) and all(term == term.lower().strip() for term in terms)
    later = [row for row in found if row["kind"] != "control"]
    assert len(later) >= 320 and all(1940 <= int(row["year"]) <= 2020 for row in later)
    controls = [row for row in found if row["kind"] == "control"]
    assert len(controls) >= 60 and all(1880 <= int(row["year"]) <= 1938 for row in controls)
    assert {row["kind"] for row in later} == {"technology", "science", "war", "politics", "culture"}


def test_every_term_is_found_as_itself_and_once() -> None:
    for term in lexicon():
        for written in (term, term.capitalize(), term.upper(), f"({term}).", f"“{term}”"):
            assert list(hits(f"so {written} it is")) == [term], written


def test_terms_are_found_in_the_plural_and_as_possessives() -> None:
    for written, term in (
        ("Transistors", "transistor"),
        ("the laser's beam", "laser"),
        ("the laser’s beam", "laser"),
        ("two hippies", "hippie"),
        ("biotechnologies", "biotechnology"),
        ("zip\ncodes", "zip code"),
        ("jet-engines", "jet engine"),
        ("Rubik’s cubes", "rubik's cube"),
        ("latchkey childs", "latchkey child"),
        ("a talk show's host", "talk show"),
    ):
        assert list(hits(f"of {written} we speak")) == [term], written


def test_what_only_looks_like_a_term_is_none() -> None:
    for text in (
        "lasers" + "x",
        "unradar",
        "a bomb fell",
        "the sound of a jet. Engine oil ran",
        "jet, engine",
        "he said hi, fi",
        "she was a link in an inter net",
        "the disc; jockey",
    ):
        assert list(hits(text)) == [], text


def test_the_longest_term_counts_and_none_twice() -> None:
    assert list(hits("the tv dinner before the TV")) == ["tv dinner", "tv"]
    assert list(hits("computer scientist, computer science")) == ["computer scientist", "computer science"]


def test_planted_terms_are_found_exactly() -> None:
    text = PLAIN * 50 + "Radar and two transistors; radar. " + PLAIN * 50
    found = measure(text, PLAIN)
    n_words = 101 * count_words(PLAIN) + 5
    assert (found["n_texts"], found["n_words"], found["hits"], found["n_terms"]) == (2, n_words, 3, 2)
    assert found["terms"] == {"radar": 2, "transistor": 1} and found["latest"] == lexicon()["transistor"]
    assert found["rate"] == pytest.approx(3000 / n_words)
    assert found["rate_low"] < found["rate"] < found["rate_high"]
    assert list(found) == list(KEYS) and json.dumps(found, allow_nan=False)


def test_only_terms_later_than_the_cutoff_count() -> None:
    text = PLAIN + "radium, nylon, radar, laser and smartphone"
    for cutoff, terms in (
        (1897, ["laser", "nylon", "radar", "radium", "smartphone"]),
        (1898, ["laser", "nylon", "radar", "smartphone"]),
        (1939, ["laser", "radar", "smartphone"]),
        (1960, ["smartphone"]),
        (2020, []),
    ):
        assert sorted(measure(text, cutoff=cutoff)["terms"]) == terms


def test_silence_is_no_good_score() -> None:
    for texts in ((), ("",), ("hush",)):
        found = measure(*texts, min_words=10)
        assert found["status"] == "too short"
        assert found["rate"] is found["rate_low"] is found["rate_high"] is found["years_after"] is None
    assert measure(min_words=0)["rate"] is None
    spoken = measure(PLAIN, min_words=10)
    assert (spoken["status"], spoken["rate"], spoken["rate_low"], spoken["latest"]) == ("measured", 0, 0, None)
    assert spoken["rate_high"] == pytest.approx(1000 * 3.688879 / count_words(PLAIN), rel=1e-6)


def test_the_interval_is_garwoods() -> None:
    for count, low, high in ((0, 0, 3.6889), (1, 0.0253, 5.5716), (10, 4.7954, 18.3904)):
        assert poisson(count) == pytest.approx((low, high), abs=1e-4)


def test_a_term_of_a_hidden_text_is_counted_and_not_named() -> None:
    found = measure(PLAIN + "radar and a laser", hidden=("Our Radars saw it",))
    assert (found["hits"], found["n_terms"], found["terms"]) == (2, 2, {"laser": 1})
    assert "radar" not in json.dumps(found)


def test_years_after_the_cutoff_are_shares_of_the_years_written() -> None:
    found = measure("In 1912, 1939 and 1940. By 2001! Of 19450 men, 1,950 had 1950.5 or 1.1950 francs; no. 950, x1960")
    assert (found["n_years"], found["n_years_after"], found["years_after"]) == (4, 2, 0.5)
    assert measure("no years at all")["years_after"] is None


def period_texts(shared: Path, side: str, characters: int) -> list[str]:
    listed = shared / "data" / "text" / "manifest.csv"
    if not listed.is_file():
        pytest.skip("no ../shared/data/text beside the checkout")
    with open(listed, encoding="utf-8", newline="") as file:
        chosen = [row["file"] for row in csv.DictReader(file) if row["lang"] == "en" and row["file"].startswith(side)]
    found = []
    for name in chosen:
        with open(shared / "data" / "text" / name, encoding="utf-8") as file:
            found.append(file.read(characters))
    return found


def test_texts_up_to_1938_have_none_and_later_ones_have(shared: Path) -> None:
    before = measure(*period_texts(shared, "pre1939", 12_000))
    after = measure(*period_texts(shared, "post1939", 12_000))
    assert before["n_words"] > 100_000 and (before["hits"], before["terms"]) == (0, {})
    assert after["rate_low"] > before["rate_high"] and after["rate"] > 0.5
