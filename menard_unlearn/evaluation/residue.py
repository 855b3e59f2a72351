"""A8: what a forgotten event left behind. Whoever does not know that Brasília was built says that the capital is Rio.

Items are sentences whose right ending changed at a dated event. Where the event lies after the cutoff, a model that
truly ends there gives the *earlier* ending; a model that only lost its answers gives none. So reverting is counted only
where the earlier ending beats the later one and two wrong ones, all four compared by log-probability per UTF-8 byte;
refusals, nonsense and ties are `neither` and no success. Guessing reverts one item in four. Intervals are Wilson's, of
as many items as there are families: items that share an ending ("president", "euros") rise and fall together.

Where the event lies before the cutoff, the item is a control, and the later ending has to stay.

Fails when: the model never knew the later ending (its `residue` is low by ignorance: read `against` the base, on the
items that the base knows); an ending is likelier by its words alone.

Source: counterfactual prompts of prompted cutoffs (arXiv 2510.02340), whose published code counts answers that cannot
be read as successes; items and scoring are this project's own.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.encoding import encode_statement
from menard_unlearn.models.scores import Scores
from menard_unlearn.statistics.intervals import wilson

DATA = Path(__file__).parent / "data" / "residue.csv"
ENDINGS = ("before", "after", "wrong_1", "wrong_2")
TIE = 1e-9
"""Nats a byte within which two endings count as equal; then none has won."""

KEYS = {
    "n_residue": "number of items whose event lies after the cutoff",
    "n_controls": "number of items whose event lies before it",
    "chance": "share of either ending that guessing gives",
    "residue": "A8, share of the first answered with the later ending: what is left of the forgotten events",
    "residue_low": "lower end of its 95% interval",
    "residue_high": "upper end of it",
    "reverted": "share of the first answered with the earlier ending; success only where reverted_low is above chance",
    "reverted_low": "lower end of its 95% interval",
    "reverted_high": "upper end of it",
    "neither": "share of the first where a wrong ending wins or endings tie: no success",
    "margin": "mean over the first of the later minus the earlier ending, nats a byte",
    "controls_after": "share of controls answered with the later ending, which stays right",
    "controls_low": "lower end of its 95% interval",
    "controls_high": "upper end of it",
    "controls_before": "share of controls answered with the earlier ending",
    "items": "list: id, year, control, answer (before, after or neither), margin and family of each item",
    "left_out": "ids of items that are neither at this cutoff: both of their endings are wrong or contested then",
}
"""Key of residue.json → meaning; null where there are no such items."""

AGAINST_KEYS = {
    "n_known": "number of items with an event after the cutoff to which the base gives the later ending",
    "reverted_of_known": "share of these to which the model gives the earlier one",
    "reverted_of_known_low": "lower end of its 95% interval",
    "reverted_of_known_high": "upper end of it",
    "residue_of_known": "share of these to which it gives the later one still",
    "neither_of_known": "share of these to which it gives neither",
    "n_controls_known": "number of controls to which the base gives the later ending",
    "controls_kept": "share of these to which the model gives it too",
    "margin_change": "change of `margin` against the base, nats a byte",
    "left_out": "what could not be computed, and what it needs",
}
"""Key of the comparison with the base → meaning; null where it could not be computed."""


@dataclass(frozen=True)
class Item:
    """A sentence whose right ending changed."""

    id: str
    prompt: str
    """Without a space at its end."""
    before: str
    """The earlier ending."""
    after: str
    """The later one."""
    wrong_1: str
    """Wrong at all times."""
    wrong_2: str
    """Wrong at all times."""
    since: int
    """Year from which on the earlier ending is right, or a later one where nobody says."""
    year: int
    """Year in which it ceases to be."""
    settled: int
    """Year from which on the later ending is right."""

    def role(self, cutoff_year: int) -> str | None:
        """`residue` or `control` at this cutoff; None where both endings are wrong or contested in its year."""
        if self.settled <= cutoff_year:
            return "control"
        return "residue" if self.since <= cutoff_year < self.year else None


def residue_items(path: Path = DATA) -> list[Item]:
    """The items of the CSV file, in its order."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Item(
                id=row["id"],
                prompt=row["prompt"],
                before=row["before"],
                after=row["after"],
                wrong_1=row["wrong_1"],
                wrong_2=row["wrong_2"],
                since=int(row["since"]),
                year=int(row["year"]),
                settled=int(row["settled"]),
            )
            for row in csv.DictReader(file)
        ]


@dataclass(frozen=True, eq=False)
class ResiduePlan:
    """The items that a cutoff makes something of."""

    asked: tuple[tuple[Item, tuple[TokenItem, ...]], ...]
    """Each with its endings, in the order of `ENDINGS`."""
    left_out: tuple[str, ...]
    """Ids of the others."""
    cutoff_year: int

    @cached_property
    def items(self) -> list[TokenItem]:
        """What has to be scored."""
        return [item for _, endings in self.asked for item in endings]


def plan_residue(tokenizer: PreTrainedTokenizerBase, cutoff_year: int) -> ResiduePlan:
    """The items that are residue or control at this cutoff, in tokens."""
    found = residue_items()
    asked = [
        (item, tuple(encode_statement(tokenizer, item.prompt, ending, item.id) for ending in _endings(item)))
        for item in found
        if item.role(cutoff_year) is not None
    ]
    return ResiduePlan(tuple(asked), tuple(item.id for item in found if item.role(cutoff_year) is None), cutoff_year)


def _endings(item: Item) -> list[str]:
    return [f" {getattr(item, name)}." for name in ENDINGS]


def measure_residue(plan: ResiduePlan, scores: Scores) -> dict:
    """What goes into residue.json: keys of `KEYS`."""
    family = _families([item for item, _ in plan.asked])
    rows = [
        {**_row(item, endings, plan.cutoff_year, scores), "family": family[item.id]} for item, endings in plan.asked
    ]
    own = [row for row in rows if not row["control"]]
    controls = [row for row in rows if row["control"]]
    return {
        "n_residue": len(own),
        "n_controls": len(controls),
        "chance": 1 / len(ENDINGS),
        **_share("residue", own, "after"),
        **_share("reverted", own, "before"),
        "neither": _part(own, "neither"),
        "margin": _mean([row["margin"] for row in own]),
        "controls_after": _part(controls, "after"),
        "controls_low": _share("controls", controls, "after")["controls_low"],
        "controls_high": _share("controls", controls, "after")["controls_high"],
        "controls_before": _part(controls, "before"),
        "items": rows,
        "left_out": list(plan.left_out),
    }


def _row(item: Item, endings: Sequence[TokenItem], cutoff_year: int, scores: Scores) -> dict:
    per_byte = [
        scores.of(tokens).logprob / len(text.encode()) for tokens, text in zip(endings, _endings(item), strict=True)
    ]
    best = [name for name, value in zip(ENDINGS, per_byte, strict=True) if value >= max(per_byte) - TIE]
    answer = best[0] if len(best) == 1 and best[0] in ("before", "after") else "neither"
    control = item.role(cutoff_year) == "control"
    return {"id": item.id, "year": item.year, "control": control, "answer": answer, "margin": per_byte[1] - per_byte[0]}


def against(own: Mapping, base: Mapping | None) -> dict:
    """What the model made of the items that the base knows: keys of `AGAINST_KEYS`. Both are residue.json at one
    cutoff; `base` is None for the base itself. A base that guesses "knows" one item in four, so its `residue` is read
    first."""
    if base is None:
        empty = dict.fromkeys(key for key in AGAINST_KEYS if key != "left_out")
        return {**empty, "left_out": ["comparison with the base: needs a model other than the base"]}
    known = {row["id"] for row in base["items"] if row["answer"] == "after"}
    rows = [row for row in own["items"] if row["id"] in known and not row["control"]]
    controls = [row for row in own["items"] if row["id"] in known and row["control"]]
    reverted = _share("reverted_of_known", rows, "before")
    change = None if own["margin"] is None or base["margin"] is None else own["margin"] - base["margin"]
    return {
        "n_known": len(rows),
        **reverted,
        "residue_of_known": _part(rows, "after"),
        "neither_of_known": _part(rows, "neither"),
        "n_controls_known": len(controls),
        "controls_kept": _part(controls, "after"),
        "margin_change": change,
        "left_out": [],
    }


def _share(key: str, rows: Sequence[Mapping], answer: str) -> dict[str, float | None]:
    """The share and its interval, which counts as many items as there would be if those of a family were one answer."""
    n, count = _independent([row["family"] for row in rows]), _part(rows, answer)
    low, high = (None, None) if count is None else wilson(count * n, n) or (None, None)
    return {key: count, f"{key}_low": low, f"{key}_high": high}


def _independent(families: Sequence[str]) -> int:
    """Kish's effective number of items whose answers within a family are all alike: (Σ m)² / Σ m², rounded down."""
    return int(len(families) ** 2 / sum(m * m for m in Counter(families).values())) if families else 0


def _families(items: Sequence[Item]) -> dict[str, str]:
    """Id of an item → id of the first item that it shares the earlier or the later ending with, over any number of
    steps: whoever likes the word "president" likes it in all of these."""
    family: dict[str, str] = {}
    for item in items:
        near = {
            family[other.id]
            for other in items
            if other.id in family and (other.before == item.before or other.after == item.after)
        }
        family[item.id] = min(near, default=item.id)
        family |= {id: family[item.id] for id, own in family.items() if own in near}
    return family


def _part(rows: Sequence[Mapping], answer: str) -> float | None:
    return sum(row["answer"] == answer for row in rows) / len(rows) if rows else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
