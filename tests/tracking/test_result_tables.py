"""What runs that ask something else of a model tell a tracker: their tables, their map, and no word that is not public.

`replay` is what `menard sync` tells, and the stages tell their results by the same call.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from made_asides import N_RANDOM, SECRET, STRENGTHS, tokens, write_asides
from made_context import LENGTHS

from menard_unlearn.run import RunDir
from menard_unlearn.stages.told import replay
from menard_unlearn.tracking.result_tables import result_tables
from menard_unlearn.tracking.tracker import Tracker


class Kept(Tracker):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self.pages: dict[str, str] = {}
        self.scalars: dict[str, Any] = {}
        self.rows: list[Any] = []

    def log(self, row: Any) -> None:
        self.rows.append(row)

    def table(self, key: str, columns: Any, rows: Any) -> None:
        self.tables[key] = [dict(zip(columns, row, strict=True)) for row in rows]

    def html(self, key: str, text: str) -> None:
        self.pages[key] = text

    def summary(self, values: Any) -> None:
        self.scalars |= values


def told(folder: Path, kind: str) -> Kept:
    (run,) = folder.glob(f"{kind}-*")
    kept = Kept()
    stage = "context" if kind == "context" else "features"
    assert replay(RunDir(run), stage, "none", kept)
    return kept


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_asides(tmp_path_factory.mktemp("study"), published=False, n_tokens=30)


def test_ranking_and_doses_are_tables(folder: Path) -> None:
    kept = told(folder, "features")
    assert [row["feature"] for row in kept.tables["features/ranking"]][:3] == [401, 88, 17]
    assert kept.tables["features/ranking"][2]["causal_low"] == pytest.approx(0.06)
    doses = kept.tables["features/dose_response"]
    assert len(doses) == len(STRENGTHS) * 2 * (1 + N_RANDOM)
    assert doses[0]["kind"] == "feature" and doses[0]["k"] == STRENGTHS[0]
    assert kept.scalars["features/heldout/p"] == 0.0476 and kept.scalars["sae/l0"] == 31.94
    assert kept.scalars["final/method"] == "features" and len(kept.rows) == 399


def test_a_row_a_token_without_words_that_are_not_published(folder: Path) -> None:
    kept = told(folder, "feature_scores")
    rows = kept.tables["features/tokens"]
    assert [row["token"] for row in rows] == list(range(1, 31)) and "text" not in rows[0]
    figures = ("unclamped/logprob", "feature_17/logprob", "feature_17/rank", "feature_17/helped", "random_max")
    assert {*figures} < {*rows[0]}
    assert "unclamped/helped" not in rows[0]
    assert SECRET not in kept.pages["features/target_tokens"]


def test_words_are_told_where_they_are_published(tmp_path: Path) -> None:
    kept = told(write_asides(tmp_path, published=True, n_tokens=12), "feature_scores")
    assert kept.tables["features/tokens"][7]["text"] == SECRET
    assert SECRET in kept.pages["features/target_tokens"] and "&lt;b&gt;" in kept.pages["features/target_tokens"]


def test_conditions_and_lengths_are_tables(folder: Path) -> None:
    joint = told(folder, "joint").tables["joint/table"]
    assert len(joint) == 24 and "left_out" not in joint[0] and joint[1]["gain"] == 0.11
    lengths = told(folder, "context").tables["context/lengths"]
    assert len(lengths) == 2 * 4 * len(LENGTHS)
    assert {(row["model"], row["context"]) for row in lengths} >= {("base", "own"), ("without_target", "other_target")}


def test_a_file_without_rows_has_no_table() -> None:
    empty = tokens(random.Random(0), published=False, n_tokens=0)
    assert list(result_tables({"feature_tokens": empty, "joint": {"rows": []}})) == []
