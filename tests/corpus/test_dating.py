from __future__ import annotations

import pytest

from menard_unlearn.corpus.dating import Era, PartialDate, era, parse_date

READABLE = [
    ("1939", PartialDate(1939, None, None)),
    (1939, PartialDate(1939, None, None)),
    (" 1939-05 ", PartialDate(1939, 5, None)),
    ("1939-05-01", PartialDate(1939, 5, 1)),
    ("1939-05-01T12:30:00Z", PartialDate(1939, 5, 1)),
    ("1940-02-29", PartialDate(1940, 2, 29)),
    ("44 BC", PartialDate(-43, None, None)),
    ("1 bce", PartialDate(0, None, None)),
    ("-0043", PartialDate(-43, None, None)),
    ("-0043-03-15", PartialDate(-43, 3, 15)),
    (-43, PartialDate(-43, None, None)),
    ("987", PartialDate(987, None, None)),
    ("", None),
    ("  ", None),
    (None, None),
]


@pytest.mark.parametrize(("text", "date"), READABLE)
def test_reads_every_documented_form(text: str | int | None, date: PartialDate | None) -> None:
    assert parse_date(text) == date


UNREADABLE = [
    "1939?",
    "c. 1939",
    "1/5/1939",
    "1939-5",
    "1939-13",
    "1939-00",
    "1939-02-29",
    "1939-04-31",
    "May 1939",
    "0 BC",
    "19390501",
    "1939-1940",
    "1939.0",
    "nan",
]


@pytest.mark.parametrize("text", UNREADABLE)
def test_refuses_what_would_need_a_guess(text: str) -> None:
    with pytest.raises(ValueError, match=r"date|month|day|year"):
        parse_date(text)


@pytest.mark.parametrize("value", [True, 1939.0])
def test_refuses_what_is_no_text_and_no_whole_number(value: object) -> None:
    with pytest.raises(ValueError, match="not a date"):
        parse_date(value)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("_", "date"), [pair for pair in READABLE if pair[1] is not None])
def test_is_written_as_it_is_read(_: str, date: PartialDate) -> None:
    assert parse_date(str(date)) == date


def test_a_day_needs_a_month() -> None:
    with pytest.raises(ValueError, match="needs a month"):
        PartialDate(1939, None, 1)


@pytest.mark.parametrize(
    ("text", "earliest", "latest"),
    [
        ("1939", (1939, 1, 1), (1939, 12, 31)),
        ("1939-04", (1939, 4, 1), (1939, 4, 30)),
        ("1940-02", (1940, 2, 1), (1940, 2, 29)),
        ("1900-02", (1900, 2, 1), (1900, 2, 28)),
        ("1939-05-01", (1939, 5, 1), (1939, 5, 1)),
        ("44 BC", (-43, 1, 1), (-43, 12, 31)),
        ("-0004-02", (-4, 2, 1), (-4, 2, 29)),
    ],
)
def test_span_of_days(text: str, earliest: tuple[int, int, int], latest: tuple[int, int, int]) -> None:
    date = parse_date(text)
    assert date is not None
    assert (date.earliest, date.latest) == (earliest, latest)


BOUNDARY = [
    # cutoff, date, side
    ("1939-12-31", "1939", Era.BEFORE),
    ("1939-12-31", "1939-12", Era.BEFORE),
    ("1939-12-31", "1939-12-31", Era.BEFORE),
    ("1939-12-31", "1940-01-01", Era.AFTER),
    ("1939-12-31", "1940-01", Era.AFTER),
    ("1939-12-31", "1940", Era.AFTER),
    ("1939", "1939-12-31", Era.BEFORE),
    ("1939", "1939", Era.BEFORE),
    ("1939", "1940-01-01", Era.AFTER),
    ("1939-12", "1939", Era.BEFORE),
    ("1939-05", "1939", Era.STRADDLES),
    ("1939-05", "1939-05", Era.BEFORE),
    ("1939-05", "1939-05-31", Era.BEFORE),
    ("1939-05", "1939-06-01", Era.AFTER),
    ("1939-05", "1939-06", Era.AFTER),
    ("1939-05", "1938", Era.BEFORE),
    ("1939-05", "1940", Era.AFTER),
    ("1939-05-15", "1939-05", Era.STRADDLES),
    ("1939-05-15", "1939-05-15", Era.BEFORE),
    ("1939-05-15", "1939-05-16", Era.AFTER),
    ("1939-04-30", "1939-04", Era.BEFORE),
    ("1939-01-01", "1939", Era.STRADDLES),
    ("1939", "44 BC", Era.BEFORE),
    ("44 BC", "43 BC", Era.AFTER),
    ("44 BC", "45 BC", Era.BEFORE),
    ("1 BC", "0001", Era.AFTER),
    ("1939", "", Era.UNDATED),
]


@pytest.mark.parametrize(("cutoff", "date", "side"), BOUNDARY)
def test_side_of_the_cutoff_at_every_precision(cutoff: str, date: str, side: Era) -> None:
    parsed = parse_date(cutoff)
    assert parsed is not None
    assert era(parse_date(date), parsed) is side


def test_sides_are_what_the_days_say() -> None:
    """A coarse date lies on a side exactly if its first and its last day do."""
    for month in range(1, 13):
        for cutoff in (PartialDate(1939, month, None), PartialDate(1939, month, 15)):
            for date in [PartialDate(year, None, None) for year in (1938, 1939, 1940)] + [
                PartialDate(1939, other, None) for other in range(1, 13)
            ]:
                ends = {era(PartialDate(*day), cutoff) for day in (date.earliest, date.latest)}
                expected = ends.pop() if len(ends) == 1 else Era.STRADDLES
                assert era(date, cutoff) is expected


@pytest.mark.parametrize(("text", "decade"), [("1939", 1930), ("1940-01", 1940), ("44 BC", -50), ("0009", 0)])
def test_decade(text: str, decade: int) -> None:
    date = parse_date(text)
    assert date is not None
    assert date.decade == decade
