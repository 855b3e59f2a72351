"""Files of an evaluation whose rows are worth a table: features, doses, tokens, conditions, lengths of context."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from menard_unlearn.tracking.tracker import Value

Found = Mapping[str, Any]


@dataclass(frozen=True)
class ResultTable:
    """A table under its name."""

    key: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]


def result_tables(found: Mapping[str, Found]) -> Iterator[ResultTable]:
    """Of each file that has one its table, in the order of `TABLES`; a table without rows is left out.

    Args:
        found: what each file of evaluation/ holds, by its name.
    """
    for name, (key, rows_of) in TABLES.items():
        rows = rows_of(found[name]) if name in found else []
        if rows:
            columns = list(dict.fromkeys(column for row in rows for column in row))
            yield ResultTable(key, columns, [[row.get(column) for column in columns] for row in rows])


def _rows(content: Found) -> list[dict[str, Value]]:
    return [_scalars(row) for row in content["rows"]]


def _scalars(row: Found) -> dict[str, Value]:
    return {key: value for key, value in row.items() if value is None or isinstance(value, int | float | str)}


def _tokens(content: Found) -> list[dict[str, Value]]:
    """A row a token: as the model is, under the clamp, and under the random controls. Words stand there only where the
    file has them, which is where the target is published."""
    names = ["unclamped", *(column["name"] for column in content["columns"][1:])]
    rows = []
    for number, token in enumerate(content["tokens"], start=1):
        row: dict[str, Value] = {"token": number, **({"text": token["text"]} if "text" in token else {})}
        for place, name in enumerate(names):
            row |= {f"{name}/logprob": token["logprob"][place], f"{name}/rank": token["rank_worst"][place]}
            if place:
                row[f"{name}/helped"] = token["helped"][place]
        rows.append(row | {key: token[key] for key in ("random_mean", "random_max")})
    return rows


def _lengths(content: Found) -> list[dict[str, Value]]:
    """A row a model, kind of context and length."""
    return [
        {"model": name, "context": kind, **_scalars(row)}
        for name, model in content["models"].items()
        for kind, curve in (("own", model["curve"]), *((kind, own["curve"]) for kind, own in model["placebos"].items()))
        for row in curve
    ]


TABLES: dict[str, tuple[str, Callable[[Found], list[dict[str, Value]]]]] = {
    "features": ("features/ranking", _rows),
    "dose_response": ("features/dose_response", _rows),
    "feature_tokens": ("features/tokens", _tokens),
    "joint": ("joint/table", _rows),
    "context": ("context/lengths", _lengths),
}
"""File → its table's name, and what makes its rows."""
