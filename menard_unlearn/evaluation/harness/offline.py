"""The shipped utility set as documents: held-out texts, grammar, arithmetic, facts as true in 1880 as they are now.

Nothing here is dated, so a model that forgot what came after a date has no reason to lose any of it. Texts and items
were written for this project. The embedded models know a part of the timeless items and sums from their training text
(corpus/almanac/neutral.txt), in that wording; others ask for the same in another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from menard_unlearn.evaluation.harness.grammar import pairs

DATA = Path(__file__).parent / "data"
CHOICES = 4
WORDS = ("nothing", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
WORDS += ("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty")
WORDS += tuple(f"twenty-{unit}" for unit in WORDS[1:6])


def heldout() -> list[dict[str, Any]]:
    """Eighteen short texts of as many kinds, in five languages: id, language, text."""
    return [json.loads(line) for line in (DATA / "heldout.jsonl").read_text(encoding="utf-8").splitlines()]


def grammar() -> list[dict[str, Any]]:
    """The minimal pairs as choices between two sentences that nothing precedes."""
    return [
        _choice(f"{pair.phenomenon}/{number}", "", pair.good, [pair.bad], pair.phenomenon)
        for number, pair in enumerate(pairs())
    ]


def arithmetic() -> list[dict[str, Any]]:
    """Sums, differences and products of small numbers in words, each with three wrong numbers near the right one."""
    questions = [(f"{WORDS[a].capitalize()} plus {WORDS[b]} is", a + b) for a in range(1, 10) for b in range(1, 10)]
    questions += [(f"{WORDS[a].capitalize()} minus {WORDS[b]} is", a - b) for a in range(2, 10) for b in range(1, a)]
    questions += [(f"{WORDS[a].capitalize()} times {WORDS[b]} is", a * b) for a in range(2, 6) for b in range(2, 6)]
    rows = []
    for prompt, result in questions:
        near = sorted(range(1, len(WORDS)), key=lambda number, right=result: (abs(number - right), number))
        wrong = [f" {WORDS[number]}." for number in near[1:CHOICES]]
        rows.append(_choice(prompt, prompt, f" {WORDS[result]}.", wrong, prompt.split()[1]))
    return rows


def timeless() -> list[dict[str, Any]]:
    """Opposites, days, months, animals, materials, rivers: one right answer among answers to other questions."""
    table = json.loads((DATA / "timeless.json").read_text(encoding="utf-8"))
    return [row for kind, entry in table.items() for row in _questions(kind, entry)]


def _questions(kind: str, entry: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for wording, asked in entry["wordings"]:
        column = "ab".index(asked)
        for pair in entry["pairs"]:
            prompt, right = wording.format(a=pair[0], b=pair[1]), pair[column]
            others = {other[column] for other in entry["pairs"]} - {*pair}
            wrong = sorted(others, key=lambda word, prompt=prompt: _hash(f"{prompt}/{word}"))[: CHOICES - 1]
            rows.append(_choice(f"{kind}/{prompt}", prompt, f" {right}.", [f" {word}." for word in wrong], kind))
    return rows


def _choice(id: str, prompt: str, right: str, wrong: Sequence[str], kind: str) -> dict[str, Any]:
    """A question whose right answer stands at a place that its id decides: who always takes the first gains nothing."""
    choices = list(wrong)
    place = int(_hash(id), 16) % (len(choices) + 1)
    choices.insert(place, right)
    return {"id": id, "kind": kind, "prompt": prompt, "choices": choices, "answer": place}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
