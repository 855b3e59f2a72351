"""What a search is told of a run, on summaries made by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from menard_unlearn.corpus.dating import parse_date
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.objective import ObjectiveConfig, objective, position
from menard_unlearn.statistics.cutoff import Status

WANTED = ObjectiveConfig(cutoff="cutoff_change", utility_floor=0.9, penalty=1000.0)


def found(year: float | None = 1942.0, kept: float = 1.0, status: str = "pinned", **other: Any) -> dict[str, Any]:
    own = {"cutoff_change_status": status, "cutoff_change_year": year, "cutoff_status": "pinned", "cutoff_year": 1939.5}
    return own | {"recall_before": 0.8 * kept, "base_recall_before": 0.8} | other


def told(cutoff: str = "1939-12-31", wanted: ObjectiveConfig = WANTED, **summary: Any) -> float:
    date = parse_date(cutoff)
    assert date is not None
    return objective(found(**summary), date, wanted)


@pytest.mark.parametrize(
    ("cutoff", "year"),
    [("1939-12-31", 1939.5), ("1939", 1939.5), ("1939-06-30", 1939.0), ("1940-01", 1939.5 + 1 / 12), ("-0043", -42.5)],
)
def test_a_date_lies_where_a_step_after_it_is_fitted(cutoff: str, year: float) -> None:
    date = parse_date(cutoff)
    assert date is not None and position(date) == pytest.approx(year)


def test_it_is_the_distance_on_either_side_of_the_date() -> None:
    assert told(year=1942.0) == told(year=1937.0) == 2.5 and told(year=1939.5) == 0.0
    assert told(cutoff="1929", year=1942.0) == 12.5
    assert told(wanted=ObjectiveConfig("cutoff", 0.9, 1000.0), year=1942.0) == 0.0


@pytest.mark.parametrize("status", [status.value for status in Status if status is not Status.PINNED])
def test_without_a_pinned_cutoff_it_is_the_declared_penalty(status: str) -> None:
    assert told(status=status, year=None) == WANTED.penalty
    assert told(status=status, year=None, wanted=ObjectiveConfig("cutoff_change", 0.9, 500.0)) == 500.0


def test_below_the_floor_it_is_worse_the_less_was_kept_however_near_the_cutoff() -> None:
    assert told(kept=0.9, year=1939.5) == 0.0
    ordered = [told(year=1700.0), told(status="no-cutoff", year=None)]
    ordered += [told(kept=kept, year=1939.5) for kept in (0.89, 0.5, 0.0)]
    assert all(better < worse for better, worse in pairwise(ordered)) and ordered[-1] == 2 * WANTED.penalty
    assert told(kept=0.5, status="collapsed", year=None) == told(kept=0.5, year=1939.5)


def test_what_cannot_be_said_is_an_error_and_no_number() -> None:
    others: tuple[dict[str, Any], ...] = (
        {"base_recall_before": None},
        {"base_recall_before": 0.0},
        {"recall_before": None},
    )
    for other in others:
        with pytest.raises(UserError, match="no objective"):
            told(**other)
    with pytest.raises(UserError, match=r"raise objective\.penalty"):
        told(year=1942.0, wanted=ObjectiveConfig("cutoff_change", 0.9, 2.0))


@pytest.mark.parametrize(("floor", "penalty"), [(0.0, 1000.0), (1.1, 1000.0), (0.9, 0.0)])
def test_values_that_mean_nothing_are_refused(floor: float, penalty: float) -> None:
    with pytest.raises(ValueError, match="give"):
        ObjectiveConfig("cutoff", floor, penalty)
