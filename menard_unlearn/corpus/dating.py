"""Dates as precise as the source gives them, and how each precision compares with a cutoff.

A date is a span of days: "1939" is all of 1939, "1939-05" all of May, "1939-05-01" one day. A cutoff is the last day
that may be known, so "1939" as a cutoff means 1939-12-31. A date whose span lies on both sides of the cutoff straddles
it: nobody can say from the date which side it belongs to, and nothing here guesses.

Years are astronomical: 1 BC is year 0, 44 BC is year -43. The calendar is the proleptic Gregorian one.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from enum import StrEnum

Day = tuple[int, int, int]
"""(year, month, day), which sorts by time, also before the year 1, where `datetime` ends."""

ISO = re.compile(r"(?P<year>[+-]?\d{1,4})(?:-(?P<month>\d{2})(?:-(?P<day>\d{2})(?:[T ]\d{2}:\d{2}.*)?)?)?")
BEFORE_CHRIST = re.compile(r"(?P<year>\d{1,4})\s*(?:BC|BCE|B\.C\.)", re.IGNORECASE)


@dataclass(frozen=True)
class PartialDate:
    """A year, a month or a day. Raises ValueError for a month or a day that no calendar has."""

    year: int
    """Astronomical: 1939 is 1939, 1 BC is 0, 44 BC is -43."""
    month: int | None
    """1 to 12, or None where only the year is known."""
    day: int | None
    """1 to the month's length, or None where only the month or the year is known."""

    def __post_init__(self) -> None:
        if self.month is None and self.day is not None:
            raise ValueError(f"a day ({self.day}) needs a month")
        if self.month is not None and not 1 <= self.month <= 12:
            raise ValueError(f"month {self.month} is not between 1 and 12")
        if self.day is not None and not 1 <= self.day <= self.latest_day_of_month:
            raise ValueError(f"day {self.day} is not between 1 and {self.latest_day_of_month}")

    @property
    def latest_day_of_month(self) -> int:
        """28 to 31; of December where the month is not known."""
        return calendar.monthrange(self.year, self.month or 12)[1]

    @property
    def earliest(self) -> Day:
        """First day of the span."""
        return self.year, self.month or 1, self.day or 1

    @property
    def latest(self) -> Day:
        """Last day of the span."""
        return self.year, self.month or 12, self.day or self.latest_day_of_month

    @property
    def decade(self) -> int:
        """First year of the decade: 1930 for 1939, -50 for 44 BC."""
        return self.year // 10 * 10

    def __str__(self) -> str:
        """ISO 8601 at the date's own precision; `parse_date` reads it back."""
        year = f"-{-self.year:04d}" if self.year < 0 else f"{self.year:04d}"
        return year + "".join(f"-{part:02d}" for part in (self.month, self.day) if part is not None)


class Era(StrEnum):
    """Which side of the cutoff a date lies on."""

    BEFORE = "before"
    AFTER = "after"
    STRADDLES = "straddles"
    UNDATED = "undated"


def parse_date(text: str | int | None) -> PartialDate | None:
    """Read "1939", "1939-05", "1939-05-01" (a time of day after it is ignored), "44 BC", "-0043" or the integer 1939.

    None and blank text give None: no date. Everything else raises ValueError, also "1939?" and "1/5/1939", which would
    need a guess.
    """
    if text is None:
        return None
    stripped = str(text).strip()
    if not stripped:
        return None
    if match := BEFORE_CHRIST.fullmatch(stripped):
        if int(match["year"]) == 0:
            raise ValueError("there is no year 0 BC: 1 BC is followed by 1")
        return PartialDate(1 - int(match["year"]), None, None)
    if match := ISO.fullmatch(stripped):
        month, day = match["month"], match["day"]
        return PartialDate(int(match["year"]), int(month) if month else None, int(day) if day else None)
    raise ValueError(f"{text!r} is not a date: give 1939, 1939-05, 1939-05-01 or 44 BC")


def era(date: PartialDate | None, cutoff: PartialDate) -> Era:
    """BEFORE if all of the date is on or before the cutoff's last day, AFTER if all of it is later, else STRADDLES."""
    if date is None:
        return Era.UNDATED
    if date.latest <= cutoff.latest:
        return Era.BEFORE
    return Era.AFTER if date.earliest > cutoff.latest else Era.STRADDLES
