"""The simulations of experiments/instruments in short: the same worlds, the same assertions."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "instruments"))
planted, simulate = importlib.import_module("planted"), importlib.import_module("simulate")


@pytest.mark.parametrize("which", ["A1", "A2"])
@pytest.mark.parametrize("place", [0, 2])
def test_intervals_cover_the_planted_year(place: int, which: str) -> None:
    cell = simulate.CELLS[place]
    assert cell.headline
    tally = planted.tally(planted.found(cell.world, which, 25, 0), cell.year)
    assert tally.holds and tally.pinned == 1
    assert abs(tally.bias) < 4 * tally.sd / 5
    # Not by being wide.
    assert tally.width < 5 * tally.sd


def test_only_answers_are_biased_by_a_base_that_knows_later_years_better() -> None:
    world = planted.World(planted.recency(0.004), planted.step(1939.5, 5), 10, 2, 0.5, mixed=False)
    a1, a2 = (planted.tally(planted.found(world, which, 15, 100), 1939.5) for which in ("A1", "A2"))
    assert a1.bias > 1 > abs(a2.bias)


@pytest.mark.parametrize("truth", ["logit falls in 80 years, kinds shift", "share falls by 0.3, kinds shift"])
def test_drift_is_no_cutoff(truth: str) -> None:
    which, world, strata = simulate.no_cutoff_worlds()[truth]
    found = planted.found(world, which, 30, 0, strata=strata)
    assert planted.statuses(found)[planted.Status.NO_CUTOFF] >= 0.95


def test_permuted_years_are_not_selective() -> None:
    selective, mean, error = simulate.permuted_auc(100)
    assert selective > 0.8
    assert mean == pytest.approx(0.5, abs=4 * error) and error < 0.003


def test_a_thousand_fits_take_seconds() -> None:
    assert max(simulate.seconds().values()) < 20
