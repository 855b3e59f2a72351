"""What the reference of results is made of: sections, each a file with the tables of its keys."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """A file and the tables of its keys."""

    file: str
    about: str
    """What it is, how it fails, and where the idea is from."""
    tables: Mapping[str, Mapping[str, str]]
    """Title of a table, empty for the file's own keys → key → meaning."""


def fields_of(kind: type) -> dict[str, str]:
    """Field of a dataclass, those that it inherits first → the string beneath it, or its name in words."""
    found: dict[str, str] = {}
    for cls in reversed(kind.__mro__[:-1]):
        (tree,) = ast.parse(inspect.getsource(cls)).body
        body = tree.body if isinstance(tree, ast.ClassDef) else []
        for own, following in zip(body, [*body[1:], None], strict=True):
            if isinstance(own, ast.AnnAssign) and isinstance(own.target, ast.Name):
                name = own.target.id
                told = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                found[name] = _told(following.value.value) if told else WORDS.get(name, name)
    return found


def _told(docstring: object) -> str:
    return " ".join(str(docstring).split())


WORDS = {
    "id": "of the probe or question",
    "fact_id": "of the fact that it is made of; probes of one fact rise and fall together",
    "year": "of the fact",
    "category": "of the fact",
    "split": "forget, retain, heldout_forget or heldout_retain",
    "states_year": "whether the year stands in prompt or answer",
    "question": "whether it is worded as a question",
    "kind": "statement, cloze, choice or year",
    "n_candidates": "answers that are compared",
}
"""Fields that have no string beneath them."""
ASKED = {
    "correct": "whether the true candidate alone is likeliest",
    "logprob": "nats of the true candidate; in cloze of the rest of the sentence, in choice of the letter",
    "n_tokens": "tokens of these",
}
"""Inherited fields that mean something else of a question."""
