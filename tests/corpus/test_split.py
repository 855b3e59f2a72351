from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

from menard_unlearn.corpus.dating import parse_date
from menard_unlearn.corpus.documents import Document
from menard_unlearn.corpus.sources import level
from menard_unlearn.corpus.split import SIDES, Split, SplitConfig, quotes_target, split
from menard_unlearn.errors import UserError

CONFIG = SplitConfig(
    cutoff="1939-12-31", gap_years=0, forget_target=True, heldout_fraction=0.15, undated="error", seed=0
)


def item(id: str, date: str | int | None, text: str = "words") -> Document:
    return Document(id, text, parse_date(date), "test")


def years(first: int, last: int, each: int = 1) -> list[Document]:
    return [item(f"{year}-{n}", year) for year in range(first, last + 1) for n in range(each)]


def divide(items: list[Document], target: str | None = None, **changes: Any) -> Split[Document]:
    config = dataclasses.replace(CONFIG, **changes)
    return split(items, config, is_target=lambda item: target is not None and item.text == target)


def ids(part: tuple[Document, ...]) -> set[str]:
    return {document.id for document in part}


def test_each_item_is_in_one_part_and_on_its_side() -> None:
    items = years(1900, 1980, each=3)
    for seed in range(5):
        parts = divide(items, seed=seed)
        found = [document for side in SIDES for document in getattr(parts, side)]
        assert sorted(found, key=lambda d: d.id) == sorted(items, key=lambda d: d.id)
        assert all(d.date and d.date.year > 1939 for d in (*parts.forget, *parts.heldout_forget))
        assert all(d.date and d.date.year <= 1939 for d in (*parts.retain, *parts.heldout_retain))


def test_order_of_the_data_changes_nothing() -> None:
    items = [*years(1900, 1980, each=2), item("0-target", 1920, "the target"), item("1-none", None)]
    expected = divide(items, target="the target", gap_years=3, undated="drop")
    for seed in range(5):
        shuffled = items.copy()
        random.Random(seed).shuffle(shuffled)
        assert divide(shuffled, target="the target", gap_years=3, undated="drop") == expected


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.15, 0.5])
def test_at_least_the_fraction_is_held_out_and_at_most_one_item_more(fraction: float) -> None:
    for n in (7, 20, 30, 41):
        items = [item(f"a{i}", 1930) for i in range(n)] + [item(f"b{i}", 1950) for i in range(n + 3)]
        for seed in range(3):
            parts = divide(items, heldout_fraction=fraction, seed=seed)
            for trained, held in ((parts.forget, parts.heldout_forget), (parts.retain, parts.heldout_retain)):
                whole = len(trained) + len(held)
                assert fraction * whole - 1e-9 <= len(held) < fraction * whole + 1


def test_seven_percent_of_a_hundred_are_seven() -> None:
    items = [item(f"a{i}", 1930) for i in range(100)] + [item(f"b{i}", 1950) for i in range(100)]
    assert len(divide(items, heldout_fraction=0.07).heldout_forget) == 7


def test_what_is_held_out_does_not_follow_from_what_was_drawn_before() -> None:
    """A decade of which a tenth was drawn must not be held out more often than one of which everything was."""
    pool = [item(f"{year}-{n}", year) for year in range(1900, 1980) for n in range(100 if 1920 <= year < 1930 else 10)]
    parts = divide(level(pool, 800), heldout_fraction=0.2)
    held, kept = (parts.by_decade()[side] for side in ("heldout_retain", "retain"))
    assert [held[decade] + kept[decade] for decade in held] == [100] * 4
    assert max(held.values()) <= 35


def test_a_new_item_moves_at_most_one_other() -> None:
    items = years(1900, 1980, each=2)
    before = ids(divide(items).heldout_forget)
    for n in range(20):
        after = ids(divide([*items, item(f"new-{n}", 1960)]).heldout_forget) - {f"new-{n}"}
        assert len(before - after) + len(after - before) <= 1


def test_sides_do_not_disturb_each_other() -> None:
    early, late = years(1900, 1939), years(1940, 1980)
    assert divide([*early, *late]).heldout_retain == divide([*early, *late[:10]]).heldout_retain


def test_seeds_hold_out_different_items() -> None:
    items = years(1900, 1980, each=2)
    assert len({divide(items, seed=seed).heldout_forget for seed in range(5)}) == 5


def test_boundary_year_by_precision() -> None:
    boundary = [item(f"b{date}", date) for date in ("1939", "1939-12", "1939-12-31", "1940-01-01", "1940-01", "1940")]
    parts = divide([*years(1900, 1980), *boundary], heldout_fraction=0)
    assert {"b1939", "b1939-12", "b1939-12-31"} <= ids(parts.retain)
    assert {"b1940-01-01", "b1940-01", "b1940"} <= ids(parts.forget)
    assert parts.reasons == {"straddles": 0, "gap": 0, "undated": 0}


@pytest.mark.parametrize("cutoff", ["1939", 1939])
def test_a_year_as_cutoff_means_its_last_day(cutoff: str | int) -> None:
    items = [*years(1900, 1980), item("eve", "1939-12-31"), item("new year", "1940-01-01")]
    assert divide(items, cutoff=cutoff) == divide(items, cutoff="1939-12-31")


def test_straddling_dates_are_left_out_and_counted() -> None:
    items = [*years(1930, 1950), item("april", "1939-04"), item("june", "1939-06")]
    parts = divide(items, cutoff="1939-05", heldout_fraction=0)
    assert ids(parts.excluded) == {"1939-0"}
    assert parts.reasons == {"straddles": 1, "gap": 0, "undated": 0}
    assert "april" in ids(parts.retain)
    assert "june" in ids(parts.forget)


@pytest.mark.parametrize(
    ("gap_years", "out"),
    [(0, set()), (1, {1939}), (2, {1939, 1940}), (3, {1938, 1939, 1940}), (4, {1938, 1939, 1940, 1941})],
)
def test_gap_leaves_out_the_years_around_the_cutoff(gap_years: int, out: set[int]) -> None:
    items = [*years(1930, 1950), item("day", "1939-06-01")]
    parts = divide(items, gap_years=gap_years, heldout_fraction=0)
    assert {d.date.year for d in parts.excluded if d.date} == out
    assert parts.reasons["gap"] == len(parts.excluded)
    assert ("day" in ids(parts.excluded)) == (gap_years > 0)


def test_the_target_is_forgotten_whatever_its_date_and_never_held_out() -> None:
    for date in ("1939-05", "1900", "1939", "1990", None):
        items = [*years(1900, 1980), *(item(f"target{n}", date, "the target") for n in range(20))]
        for seed in range(5):
            parts = divide(items, target="the target", gap_years=1, seed=seed)
            assert {f"target{n}" for n in range(20)} <= ids(parts.forget)
            assert len(parts.heldout_forget) >= 0.15 * (len(parts.forget) + len(parts.heldout_forget))


def test_the_target_goes_by_its_date_when_it_is_not_to_be_forgotten() -> None:
    items = [*years(1900, 1980), item("target", "1939-05", "the target")]
    parts = divide(items, target="the target", forget_target=False)
    assert "target" in ids(parts.retain) | ids(parts.heldout_retain)


def test_counts_by_decade() -> None:
    parts = divide([*years(1925, 1945), item("none", None)], heldout_fraction=0, gap_years=1, undated="drop")
    assert parts.by_decade() == {
        "forget": {1940: 6},
        "retain": {1920: 5, 1930: 9},
        "heldout_forget": {},
        "heldout_retain": {},
        "excluded": {1930: 1},
    }
    assert parts.undated()["excluded"] == parts.reasons["undated"] == 1


@pytest.mark.parametrize(("undated", "part"), [("forget", "forget"), ("retain", "retain"), ("drop", "excluded")])
def test_undated_items_go_where_the_config_says(undated: str, part: str) -> None:
    parts = divide([*years(1930, 1950), item("none", None)], undated=undated, heldout_fraction=0)
    assert "none" in ids(getattr(parts, part))
    assert parts.undated() == {side: int(side == part) for side in SIDES}


def test_undated_items_are_refused_with_count_first_five_and_choices() -> None:
    items = [*years(1930, 1950), *(item(f"none{n}", None) for n in range(7))]
    with pytest.raises(UserError, match=r"7 items have no date \(none0, none1, none2, none3, none4, \.\.\.\).*drop"):
        divide(items)


@pytest.mark.parametrize("cutoff", ["1929", "1950", "1950-12-31", "2050", "44 BC"])
def test_a_cutoff_outside_the_data_is_refused_with_its_range(cutoff: str) -> None:
    with pytest.raises(UserError, match=r"lies outside the data, which runs from 1930 to 1950"):
        divide(years(1930, 1950), cutoff=cutoff)


def test_the_target_does_not_widen_the_range_of_the_data() -> None:
    with pytest.raises(UserError, match="outside the data"):
        divide([*years(1930, 1938), item("target", 1990, "the target")], target="the target")


@pytest.mark.parametrize(
    ("items", "changes", "side"),
    [
        (years(1930, 1941), {"gap_years": 4}, "forget"),
        (years(1938, 1950), {"gap_years": 3}, "retain"),
        (years(1930, 1939), {"cutoff": "1939-05"}, "forget"),
        (years(1930, 1940), {"heldout_fraction": 0.9}, "forget"),
    ],
)
def test_an_empty_side_is_refused_by_name(items: list[Document], changes: dict[str, Any], side: str) -> None:
    first, last = items[0].date, items[-1].date
    with pytest.raises(UserError, match=rf"the {side} side is empty .* from {first} to {last}"):
        divide(items, **changes)


def test_no_dates_at_all_are_refused() -> None:
    with pytest.raises(UserError, match="no item has a date"):
        divide([item("a", None), item("b", None)], undated="forget")


def test_repeated_ids_are_refused() -> None:
    with pytest.raises(UserError, match=r"1 ids occur more than once \(1935-0\)"):
        divide([*years(1930, 1950), item("1935-0", 1960)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cutoff": "soon"}, "split.cutoff: 'soon' is not a date"),
        ({"cutoff": ""}, "split.cutoff is empty"),
        ({"gap_years": -1}, "gap_years -1"),
        ({"heldout_fraction": 1.0}, "heldout_fraction 1.0"),
        ({"heldout_fraction": -0.1}, "heldout_fraction -0.1"),
    ],
)
def test_bad_values_are_refused_before_any_data_is_read(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(CONFIG, **changes)  # pyright: ignore[reportArgumentType]


TARGET = "A slow river, she said, carries the names of towns that nobody now remembers building."


def test_quotes_are_found_whatever_their_case_punctuation_and_line_breaks() -> None:
    assert quotes_target("It was written: _A SLOW RIVER_ -- she\nsaid; carries the 'names'!", TARGET)
    assert quotes_target(f"before {TARGET} after", TARGET)


@pytest.mark.parametrize("n", [2, 5, 8])
def test_n_words_in_a_row_are_a_quote_and_one_fewer_are_not(n: int) -> None:
    words = TARGET.split()
    for at in range(len(words) - n + 1):
        assert quotes_target(" ".join(["and", *words[at : at + n], "and"]), TARGET, n=n)
        assert not quotes_target(" ".join(["and", *words[at : at + n - 1], "and"]), TARGET, n=n)


def test_the_same_words_in_another_order_are_no_quote() -> None:
    words = TARGET.split()
    for seed in range(20):
        shuffled = words.copy()
        random.Random(seed).shuffle(shuffled)
        assert not quotes_target(" ".join(shuffled), TARGET)


def test_a_short_target_is_quoted_whole_or_not_at_all() -> None:
    assert quotes_target("He wrote: in time, perhaps.", "In time perhaps")
    assert not quotes_target("He wrote: in time.", "In time perhaps")


def test_a_target_without_words_is_refused() -> None:
    with pytest.raises(UserError, match="no words"):
        quotes_target("anything", "...")
