"""Versions of a text that mean the same and are chosen by a key: what a reader of the text alone could not have known.

A key picks places to edit by HMAC-SHA256, so whoever has the key can make the version again and nobody else can tell it
from the others. Planted in a corpus before a model is trained on it, such a version is a canary: see `exposure`.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Sequence

from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.edits import Edits, Site

ATTEMPTS = 50
"""Keys that are tried for each version before a text counts as having no more."""


def variant(text: str, key: str, positions: int, edits: Edits) -> str:
    """The text edited at `positions` of its places, which the key picks. Raises UserError where it has fewer."""
    return _variant(text, key, positions, edits.sites(text))


def plant(text: str, key: str, positions: int, edits: Edits) -> str:
    """A canary: `variant`, to be put in the place of the text in a corpus that a model will be trained on.

    Keep the key secret and the text as it was. Evaluate with the version as the target and the text as
    `attribution.original`: all candidates are then as far from the text, and C6 has an exact null.
    """
    return variant(text, key, positions, edits)


def variants(text: str, key: str, n: int, positions: int, edits: Edits) -> list[str]:
    """`n` versions that differ from each other, by keys made from this one; fewer where the text has no more.

    They do not depend on `n`: the first of many are those of few.
    """
    sites = edits.sites(text)
    found: dict[str, None] = {}
    for number in range(ATTEMPTS * n):
        found.setdefault(_variant(text, f"{key}/{number}", positions, sites))
        if len(found) == n:
            break
    return list(found)


def exposure(logprob: float, others: Sequence[float]) -> float:
    """C6 in bits: log2 |R| − log2 rank of a text's log-probability among R, itself and those of other keys.

    log2 |R| where no other is as likely; a tie counts against the text. For a text that was picked by a key which the
    model never saw the rank is uniform, so exposure is at least x with probability 2^−x (Carlini et al.,
    arXiv 1802.08232). A text that was *not* picked by a key is no such draw: edits of good prose are worse prose, and
    exposure is high without memory. Read that one beside the controls'.
    """
    rank = 1 + sum(other >= logprob for other in others)
    return math.log2((1 + len(others)) / rank)


def _variant(text: str, key: str, positions: int, sites: Sequence[Site]) -> str:
    if not 1 <= positions <= len(sites):
        raise UserError(
            f"{positions} edits are asked of a text that the rules can edit at {len(sites)} places: "
            "set attribution.positions lower, or add rules with attribution.edits=<csv>"
        )
    order = sorted(range(len(sites)), key=lambda number: _number(key, "place", number))
    edited = text
    for number in sorted(order[:positions], reverse=True):
        site = sites[number]
        option = site.options[_number(key, "option", number) % len(site.options)]
        edited = edited[: site.start] + option + edited[site.end :]
    return edited


def _number(key: str, purpose: str, number: int) -> int:
    """A number that only the key's owner can tell in advance."""
    return int.from_bytes(hmac.new(key.encode(), f"{purpose}/{number}".encode(), hashlib.sha256).digest())
