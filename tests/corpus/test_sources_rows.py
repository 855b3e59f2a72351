"""Documents from rows: JSON lines, and whatever `datasets` loads."""

from __future__ import annotations

import dataclasses
import json
import logging
import random
from datetime import date, datetime
from pathlib import Path

import datasets
import pytest

from menard_unlearn.corpus.huggingface import HuggingFace
from menard_unlearn.corpus.jsonl import Jsonl
from menard_unlearn.errors import UserError

ROWS: list[dict[str, object]] = [
    {"text": "Before the war.", "date": 1930, "key": "a", "other": [1]},
    {"text": "In its first month.\nTwo lines.", "date": "1939-09", "key": "b", "other": [2]},
    {"text": "Long after.", "date": "1960-01-31", "key": "c", "other": [3]},
]


def write(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def jsonl(path: str, **changes: object) -> Jsonl:
    source = Jsonl(path, text_column="text", date_column="date", id_column=None)
    return dataclasses.replace(source, **changes)  # pyright: ignore[reportArgumentType]


def test_lines_become_documents(tmp_path: Path) -> None:
    data = jsonl(write(tmp_path / "x.jsonl", ROWS), id_column="key").load()
    assert [(d.id, d.text, str(d.date)) for d in data.documents] == [
        ("a", "Before the war.", "1930"),
        ("b", "In its first month.\nTwo lines.", "1939-09"),
        ("c", "Long after.", "1960-01-31"),
    ]
    assert data.documents[2].source.endswith("x.jsonl line 3")
    assert (data.facts, data.templates, data.neutral) == ((), None, ())


def test_other_names_of_the_columns(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"body": "Words.", "when": "44 BC"}]
    data = jsonl(write(tmp_path / "x.jsonl", rows), text_column="body", date_column="when").load()
    assert [(d.text, str(d.date)) for d in data.documents] == [("Words.", "-0043")]


def test_blank_lines_and_odd_separators_inside_a_text_are_no_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('\n{"text": "one\u2028two\x85", "date": 1930}\r\n\n', encoding="utf-8", newline="")
    assert [d.text for d in jsonl(str(path)).load().documents] == ["one\u2028two\x85"]


def test_order_of_the_lines_changes_nothing_where_ids_come_from_the_contents(tmp_path: Path) -> None:
    expected = jsonl(write(tmp_path / "x.jsonl", ROWS)).load()
    for seed in range(3):
        shuffled = ROWS.copy()
        random.Random(seed).shuffle(shuffled)
        found = jsonl(write(tmp_path / "x.jsonl", shuffled)).load()
        assert found.digest == expected.digest
        assert [d.id for d in found.documents] == [d.id for d in expected.documents]


def test_repeated_rows_are_one_document_and_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    again: dict[str, object] = {"text": "Long after.", "date": "1961"}
    with caplog.at_level(logging.WARNING):
        data = jsonl(write(tmp_path / "x.jsonl", [*ROWS, ROWS[0], ROWS[0], again])).load()
    assert len(data.documents) == 4
    assert "2 rows repeat the text and the date of another" in caplog.text


def test_repeated_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1 ids occur more than once \(a\)"):
        jsonl(write(tmp_path / "x.jsonl", [*ROWS, ROWS[0]]), id_column="key").load()


@pytest.mark.parametrize("undated", [{"text": "x"}, {"text": "x", "date": None}, {"text": "x", "date": " "}])
def test_undated_lines_are_left_to_the_split(tmp_path: Path, undated: dict[str, object]) -> None:
    data = jsonl(write(tmp_path / "x.jsonl", [*ROWS, undated])).load()
    assert sum(document.date is None for document in data.documents) == 1


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        (ROWS, {"text_column": "body"}, r"no column body; its columns are: text, date, key, other"),
        (ROWS, {"date_column": "year"}, r"no column year; its columns are: text, date"),
        (ROWS, {"id_column": "id"}, r"no column id; its columns are"),
        ([], {}, r"no column text, date; its columns are: none"),
        (
            [{"text": "x", "date": "long ago"}] * 7,
            {},
            r"7 dates cannot be read \(line 1: 'long ago', .*line 5: 'long ago', \.\.\.\)",
        ),
        ([{"text": "x", "date": 1939.5}], {}, r"1 dates cannot be read \(line 1: '1939.5'\)"),
        ([{"text": "x", "date": True}], {}, r"1 dates cannot be read"),
        (
            [{"text": " ", "date": 1}, {"text": 5, "date": 1}, {"date": 1}],
            {},
            r"3 rows have no text in column text \(line 1, line 2, line 3\)",
        ),
        ([{"text": "\ud83d", "date": 1}], {}, r"1 rows have half a character .*\(line 1\)"),
        ([*ROWS, {"text": "x", "date": 1}], {"id_column": "key"}, r"1 rows have no id in column key \(line 4\)"),
    ],
)
def test_bad_rows_are_refused(
    tmp_path: Path, rows: list[dict[str, object]], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        jsonl(write(tmp_path / "x.jsonl", rows), **changes).load()


def test_lines_that_are_no_objects_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "x", "date": 1930}\n{"text": "tor\n[1]\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"2 lines are not JSON objects \(line 2: .*, line 3: not an object\)"):
        jsonl(str(path)).load()
    with pytest.raises(UserError, match=r"corpus.path .* does not exist"):
        jsonl(str(tmp_path / "none.jsonl")).load()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` keeps what it prepares; in a test, nowhere but in the test's folder."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def hub(path: str, *files: str, **changes: object) -> HuggingFace:
    source = HuggingFace(
        path=path,
        name=None,
        data_files=files,
        revision=None,
        split="train",
        streaming=False,
        text_column="text",
        date_column="date",
        id_column=None,
        limit=None,
    )
    return dataclasses.replace(source, **changes)  # pyright: ignore[reportArgumentType]


DATED = [{"text": row["text"], "date": str(row["date"]), "key": row["key"]} for row in ROWS]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_a_dataset_gives_what_the_same_lines_give(tmp_path: Path, kind: str, streaming: bool) -> None:
    expected = jsonl(write(tmp_path / "x.jsonl", DATED), id_column="key").load()
    if kind == "parquet":
        datasets.Dataset.from_list(DATED).to_parquet(str(tmp_path / "x.parquet"))
    file = str(tmp_path / f"x.{'jsonl' if kind == 'json' else 'parquet'}")
    data = hub(kind, file, streaming=streaming, id_column="key").load()
    assert data.digest == expected.digest
    assert hub(kind, file, streaming=streaming, limit=2, id_column="key").load().documents == data.documents[:2]


def test_a_folder_is_a_dataset(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder / "train.jsonl", DATED)
    write(folder / "test.jsonl", DATED[:1])
    assert len(hub(str(folder)).load().documents) == 3
    assert len(hub(str(folder), split="test").load().documents) == 1
    assert len(hub(str(folder), split="train[:2]").load().documents) == 2


@pytest.mark.parametrize("value", [date(1939, 5, 1), datetime(1939, 5, 1, 23, 30)])
@pytest.mark.parametrize("streaming", [False, True])
def test_columns_of_dates_are_read_to_the_day(tmp_path: Path, value: date, streaming: bool) -> None:
    rows = [{"text": "x", "date": value}, {"text": "y", "date": None}]
    datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / "x.parquet"))
    found = hub("parquet", str(tmp_path / "x.parquet"), streaming=streaming).load().documents
    assert {d.text: str(d.date) for d in found} == {"x": "1939-05-01", "y": "None"}


@pytest.mark.parametrize("streaming", [False, True])
def test_a_missing_column_of_a_dataset_is_named(tmp_path: Path, streaming: bool) -> None:
    path = write(tmp_path / "x.jsonl", DATED)
    with pytest.raises(UserError, match="json/train has no column body; its columns are: text, date, key"):
        hub("json", path, streaming=streaming, text_column="body").load()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"path": "nobody/nothing"}, "nobody/nothing"),
        ({"split": "unknown"}, "unknown"),
        ({"data_files": ("/nonexistent/x.jsonl",)}, "nonexistent"),
    ],
)
def test_a_dataset_that_cannot_be_loaded_says_what_to_type(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    source = dataclasses.replace(hub("json", write(tmp_path / "x.jsonl", DATED)), **changes)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match=rf"cannot be loaded .*{reason}.*: check corpus.path") as refused:
        source.load()
    assert "\n" not in str(refused.value)


def test_torn_rows_of_a_stream_are_refused_too(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "x", "date": "1930"}\n{"text": tor\n', encoding="utf-8")
    with pytest.raises(UserError, match="cannot be loaded"):
        hub("json", str(tmp_path / "x.jsonl"), streaming=True).load()


def test_code_of_a_dataset_is_never_run(tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be loaded"):
        hub(str(folder)).load()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit: int) -> None:
    with pytest.raises(UserError, match=f"corpus.limit {limit} is not allowed"):
        hub("json", limit=limit)
