"""Grouping by fact, and drawing facts."""

from __future__ import annotations

import numpy as np

from menard_unlearn.statistics.clusters import clusters


def test_probes_are_grouped_by_fact_whatever_their_order() -> None:
    table = clusters(["b", "a", "b", "c", "b"], [1950, 1900, 1950, 1900, 1950], [1, 0, 0, 1, 1])
    assert table.n_F.tolist() == [1, 3, 1]
    assert table.total_F.tolist() == [0, 2, 1]
    assert table.by_year(table.total_F[None]).tolist() == [[1, 2]]
    assert table.years_Y.tolist() == [1900, 1950]
    assert table.mean(table.year_F > 1939) == 2 / 3
    assert table.mean(table.year_F > 1960) is None


def test_no_probes_make_an_empty_table() -> None:
    table = clusters([], [], [])
    assert table.n_items == 0 and len(table.years_Y) == 0


def test_a_draw_takes_all_probes_of_a_fact_or_none() -> None:
    table = clusters(["a"] * 3 + ["b"] * 5, [1900] * 3 + [1901] * 5, [1] * 8)
    n_RY, total_RY = table.resampled(200, np.random.default_rng(0))
    assert (n_RY == total_RY).all()
    assert set(n_RY[:, 0]) == {0, 3, 6} and set(n_RY[:, 1]) == {0, 5, 10}
    assert (n_RY[:, 0] / 3 + n_RY[:, 1] / 5 == 2).all()
