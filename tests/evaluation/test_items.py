"""Probes, their scores, and the table on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from toy import byte_tokenizer, llama

from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.items import ItemScore, Probe, paired, read_items, recalls, score_probes, write_items

PROBES = [
    Probe(
        f"p{n}",
        f"f{n // 2}",
        1930 + n,
        "c",
        "retain" if n < 5 else "forget",
        "Q" * (n + 1),
        f" a{n}.",
        n % 2 == 0,
        False,
    )
    for n in range(10)
]


def test_scores_keep_the_order_and_the_labels_of_probes() -> None:
    tokenizer, model = byte_tokenizer(), llama()
    found = score_probes(model, tokenizer, PROBES, batch_size=4, chunk=8)
    assert [(i.id, i.fact_id, i.year, i.split, i.states_year) for i in found] == [
        (p.id, p.fact_id, p.year, p.split, p.states_year) for p in PROBES
    ]
    assert {item.n_tokens for item in found} == {4}
    again = score_probes(model, tokenizer, PROBES[::-1], batch_size=3, chunk=2)[::-1]
    assert [item.logprob for item in again] == pytest.approx([item.logprob for item in found], rel=1e-9)
    assert [item.correct for item in again] == [item.correct for item in found]


def test_items_are_read_back_as_written(tmp_path: Path) -> None:
    items = [ItemScore("é", "f", 1900, "c", "forget", True, False, True, -1 / 3, 2)]
    write_items(tmp_path / "items.jsonl", items)
    assert read_items(tmp_path / "items.jsonl") == items


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="evaluate that run"):
        read_items(tmp_path / "items.jsonl")
    (tmp_path / "items.jsonl").write_text('{"id": "x"}\n')
    with pytest.raises(UserError, match="evaluate that run again"):
        read_items(tmp_path / "items.jsonl")


def test_recall_of_a_split_without_probes_is_none() -> None:
    item = ItemScore("a", "f", 1900, "c", "forget", True, False, True, -1.0, 2)
    assert recalls([item, replace(item, correct=False)]) == {
        "forget_recall": 0.5,
        "retain_recall": None,
        "heldout_forget_recall": None,
        "heldout_retain_recall": None,
    }


def test_references_are_matched_by_id_and_must_be_complete() -> None:
    a = ItemScore("a", "f", 1900, "c", "forget", True, False, True, -1.0, 2)
    b = replace(a, id="b")
    assert paired([a, b], [b, a], "base") == [a, b]
    with pytest.raises(UserError, match="base has no score of 1 of 2 probes"):
        paired([a, b], [a], "base")
