"""What a search over settings is told of a finished run: how far its cutoff lies from the date that was asked for.

In years, smaller is better. A run whose cutoff is not pinned has no distance, and one that has lost what it should
keep is not wanted however near its cutoff; the search is told a *declared penalty* instead, which is larger than any
distance and measures nothing. It orders such runs behind all others, and among those below the floor the one that
kept less behind the one that kept more:

    |cutoff - target|                               kept ≥ floor, cutoff pinned
    penalty                                         kept ≥ floor, cutoff not pinned
    penalty · (1 + (floor - kept) / floor)          kept < floor, whatever its cutoff

where kept = recall_before / base_recall_before of cutoff.json: the share of probes up to the cutoff's year that are
answered, over the base's. Penalties appear in what the optimiser prints and nowhere else; the run's own files hold the
measured status.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from menard_unlearn.corpus.dating import PartialDate
from menard_unlearn.errors import UserError
from menard_unlearn.statistics.cutoff import Status


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is wanted of a run."""

    cutoff: Literal["cutoff_change", "cutoff"]
    """Which measured cutoff: where what the base knew is lost (A2), or where answers end (A1)."""
    utility_floor: float
    """Least share that is to be kept of what the base answers up to the cutoff's year, 0 to 1."""
    penalty: float
    """Years that the search is told of a run which does not count; more than any two facts lie apart."""

    def __post_init__(self) -> None:
        if not 0 < self.utility_floor <= 1:
            raise ValueError(f"utility_floor={self.utility_floor}: give a share above 0, up to 1")
        if self.penalty <= 0:
            raise ValueError(f"penalty={self.penalty}: give years, more than any two facts lie apart")


def position(date: PartialDate) -> float:
    """The end of a date's last day on the axis of fitted cutoffs, where the step between 1939 and 1940 is 1939.5."""
    year, month, day = date.latest
    return year - 0.5 + (month - 1 + day / date.latest_day_of_month) / 12


def kept(found: Mapping[str, Any]) -> float:
    """Share kept of what the base answers up to the cutoff's year, from cutoff.json.

    Raises UserError where there is nothing to keep: no base beside the run, or one that answers nothing.
    """
    own, base = found["recall_before"], found["base_recall_before"]
    if own is None or not base:
        raise UserError(
            "no objective: the base answers none of the probes up to the cutoff, so that nothing can be said of what "
            "was kept"
        )
    return own / base


def objective(found: Mapping[str, Any], target: PartialDate, config: ObjectiveConfig) -> float:
    """Years, to be made small; see the head of the file.

    Args:
        found: what the run's evaluation/cutoff.json holds.
        target: the last day that the model may know.
        config: what is wanted.

    Raises:
        UserError: the share kept cannot be computed, or the distance is larger than the penalty.
    """
    share = kept(found)
    if share < config.utility_floor:
        return config.penalty * (1 + (config.utility_floor - share) / config.utility_floor)
    if found[f"{config.cutoff}_status"] != Status.PINNED.value:
        return config.penalty
    distance = abs(found[f"{config.cutoff}_year"] - position(target))
    if distance >= config.penalty:
        raise UserError(
            f"objective.penalty={config.penalty:g} years is no more than a measured distance, {distance:.1f}: "
            "raise objective.penalty"
        )
    return distance
