"""Grouping by fact, and drawing facts."""

from __future__ import annotations

import numpy as np

from menard_unlearn.statistics.clusters import clusters


def test_probes_are_grouped_by_fact_whatever_their_order() -> None:
    table = clusters(["b", "a", "b", "c", "b"], [1950, 1900, 1950, 1900, 1950], [1, 0, 0, 1, 1])
    assert table.n_F.tolist() == [1, 3, 1]
    assert table.total_F.tolist() == [0, 2, 1]
    assert table.by_cell(table.total_F[None]).tolist() == [[[1, 2]]]
    assert table.years_Y.tolist() == [1900, 1950]
    assert table.mean(table.year_F > 1939) == 2 / 3
    assert table.mean(table.year_F > 1960) is None


def test_no_probes_make_an_empty_table() -> None:
    table = clusters([], [], [])
    assert table.n_items == 0 and len(table.years_Y) == 0


def test_a_draw_takes_all_probes_of_a_fact_or_none() -> None:
    table = clusters(["a"] * 3 + ["b"] * 5, [1900] * 3 + [1901] * 5, [1] * 8)
    n_RKY, total_RKY = table.resampled(200, np.random.default_rng(0))
    assert (n_RKY == total_RKY).all() and n_RKY.shape == (200, 1, 2)
    n_RY = n_RKY[:, 0]
    assert set(n_RY[:, 0]) == {0, 3, 6} and set(n_RY[:, 1]) == {0, 5, 10}
    assert (n_RY[:, 0] / 3 + n_RY[:, 1] / 5 == 2).all()


def test_cells_are_years_of_strata() -> None:
    table = clusters(["a", "b", "c", "c"], [1900, 1900, 1901, 1901], [1, 0, 1, 1], ["x", "y", "y", "y"])
    assert table.strata == ("x", "y")
    assert table.by_cell(table.n_F[None]).tolist() == [[[1, 0], [1, 2]]]
    assert table.by_cell(table.total_F[None]).tolist() == [[[1, 0], [0, 2]]]
    assert table.of_cell(np.array([[1.0, 2.0], [3.0, 4.0]])).tolist() == [1, 3, 4]


def test_a_stratum_on_one_side_is_left_out_by_name() -> None:
    table = clusters(["a", "b", "c", "d"], [1900, 1941, 1900, 1939], [1, 0, 1, 1], ["x", "x", "old", "old"])
    kept, left_out = table.on_both_sides(1939)
    assert left_out == ("old",) and kept.strata == ("x",)
    assert kept.year_F.tolist() == [1900, 1941] and kept.stratum_F.tolist() == [0, 0]
    kept, left_out = table.on_both_sides(1950)
    assert left_out == ("old", "x") and len(kept.year_F) == 0
