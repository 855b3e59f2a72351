"""Divide dated items at the cutoff into what is forgotten and what is retained, and keep a part of both from training.

What is held out asks two questions that the trained part cannot: does forgetting reach what was never trained on, and
does the rest survive where nobody watched over it?
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Generic, Literal

from menard_unlearn.corpus.dating import Era, PartialDate, era, parse_date
from menard_unlearn.corpus.documents import Dated, T
from menard_unlearn.errors import UserError

SIDES = ("forget", "retain", "heldout_forget", "heldout_retain", "excluded")
WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class SplitConfig:
    """Where and how a corpus is divided. Raises UserError for a value that is not allowed."""

    cutoff: str | int
    """Last date that is retained: a day, a month or a year, of which the last day counts."""
    gap_years: int
    """Calendar years around the cutoff left out of both sides: 1 the cutoff's own year, 2 also the year after, 3 also
    the year before, and so on outwards; 0 leaves out none."""
    forget_target: bool
    """Whether the target, and what quotes it, is forgotten whatever its date."""
    heldout_fraction: float
    """Part of each side, at the least, that is not trained on; from 0 to below 1."""
    undated: Literal["error", "forget", "retain", "drop"]
    """What becomes of items without a date; error refuses them."""
    seed: int
    """Together with an item's id it says who is held out."""

    def __post_init__(self) -> None:
        if self.gap_years < 0:
            raise UserError(
                f"split.gap_years {self.gap_years} is negative: give 0, or 1 to leave out the cutoff's year"
            )
        if not 0 <= self.heldout_fraction < 1:
            raise UserError(
                f"split.heldout_fraction {self.heldout_fraction} is not from 0 to below 1: give 0.15 for 15%"
            )
        self.parsed_cutoff  # noqa: B018  a bad date is refused now rather than when the data has been read

    @property
    def parsed_cutoff(self) -> PartialDate:
        """The cutoff as a date; its last day is the last one retained."""
        try:
            cutoff = parse_date(self.cutoff)
        except ValueError as error:
            raise UserError(f"split.cutoff: {error}") from error
        if cutoff is None:
            raise UserError("split.cutoff is empty: give a date such as 1939-12-31 or 1939")
        return cutoff

    @property
    def gap(self) -> range:
        """The years that are left out of both sides."""
        first = self.parsed_cutoff.year - (self.gap_years - 1) // 2
        return range(first, first + self.gap_years)


@dataclass(frozen=True)
class Split(Generic[T]):
    """Each item in exactly one part; parts are in the order of ids, whatever the order of the data."""

    forget: tuple[T, ...]
    """Trained on, to be forgotten."""
    retain: tuple[T, ...]
    """Trained on, to be kept."""
    heldout_forget: tuple[T, ...]
    """To be forgotten as well, never trained on."""
    heldout_retain: tuple[T, ...]
    """To be kept as well, never trained on."""
    excluded: tuple[T, ...]
    """On neither side."""
    reasons: dict[str, int]
    """How many items are excluded because their date straddles the cutoff, lies in the gap, or is missing."""

    def by_decade(self) -> dict[str, dict[int, int]]:
        """Number of dated items by part and by first year of the decade, decades in order."""
        return {side: _decades(getattr(self, side)) for side in SIDES}

    def undated(self) -> dict[str, int]:
        """Number of items without a date by part: the ones that `by_decade` cannot show."""
        return {side: sum(item.date is None for item in getattr(self, side)) for side in SIDES}


def _decades(items: Iterable[Dated]) -> dict[int, int]:
    return dict(sorted(Counter(item.date.decade for item in items if item.date is not None).items()))


def split(items: Sequence[T], config: SplitConfig, *, is_target: Callable[[T], bool]) -> Split[T]:
    """Assign each item to a side by its date, then hold out a part of each side.

    With `forget_target`, items for which `is_target` holds are forgotten before their date is looked at, and are never
    held out: they are what the forgetting is for. Who else is held out depends on (seed, id): the items are ranked by
    that hash, and the first ones are taken until they are `heldout_fraction` of the whole side. A new item therefore
    moves at most one other.

    Raises UserError for repeated ids, undated items (unless `undated` says what to do), a cutoff outside the data, an
    empty side.
    """
    refuse_repeated_ids(items)
    targets = [item for item in items if config.forget_target and is_target(item)]
    target_ids = {item.id for item in targets}
    others = [item for item in items if item.id not in target_ids]
    _refuse_undated(others, config)
    _refuse_cutoff_outside(others, config)
    sides: dict[str, list[T]] = {"forget": [], "retain": [], "straddles": [], "gap": [], "undated": []}
    for item in others:
        sides[_side(item.date, config)].append(item)
    heldout_forget, forget = _hold_out(sides["forget"], len(targets), config)
    heldout_retain, retain = _hold_out(sides["retain"], 0, config)
    forget = [*forget, *targets]
    for name, trained, held in (("forget", forget, heldout_forget), ("retain", retain, heldout_retain)):
        if not trained:
            raise UserError(_empty_side(name, len(held), others, sides, config))
    reasons = {reason: len(sides[reason]) for reason in ("straddles", "gap", "undated")}
    excluded = [item for reason in reasons for item in sides[reason]]
    parts = (forget, retain, heldout_forget, heldout_retain, excluded)
    return Split(*(tuple(sorted(part, key=lambda item: item.id)) for part in parts), reasons=reasons)


def _side(date: PartialDate | None, config: SplitConfig) -> str:
    if date is not None and date.year in config.gap:
        return "gap"
    match era(date, config.parsed_cutoff):
        case Era.BEFORE:
            return "retain"
        case Era.AFTER:
            return "forget"
        case Era.STRADDLES:
            return "straddles"
        case Era.UNDATED:
            return "undated" if config.undated == "drop" else config.undated


def _hold_out(candidates: Sequence[T], n_never: int, config: SplitConfig) -> tuple[list[T], list[T]]:
    """Those held out, and the rest. The fraction is also of the `n_never` items that cannot be held out."""
    # as a decimal number: 0.07 of 100 is 7, which floating point would round up to 8
    quota = math.ceil(Fraction(str(config.heldout_fraction)) * (len(candidates) + n_never))
    ranked = sorted(candidates, key=lambda item: (hash_of(f"held out {config.seed}", item.id), item.id))
    return ranked[:quota], ranked[quota:]


def hash_of(purpose: str, name: str) -> str:
    """64 hexadecimal digits to rank by, which depend on the arguments alone.

    Each use has a purpose of its own: drawn twice by the same numbers, the first draw would decide the second.
    """
    return hashlib.sha256(f"{purpose}/{name}".encode()).hexdigest()


def first_five(values: Sequence[object]) -> str:
    """The first five of a list, for a message."""
    return ", ".join(str(value) for value in values[:5]) + (", ..." if len(values) > 5 else "")


def refuse_repeated_ids(items: Iterable[Dated]) -> None:
    """Two items of the same id could not be told apart in any result."""
    repeated = [id for id, count in Counter(item.id for item in items).items() if count > 1]
    if repeated:
        raise UserError(
            f"{len(repeated)} ids occur more than once ({first_five(repeated)}): give each item an id of its own"
        )


def _refuse_undated(items: Sequence[Dated], config: SplitConfig) -> None:
    undated = [item.id for item in items if item.date is None]
    if undated and config.undated == "error":
        raise UserError(
            f"{len(undated)} items have no date ({first_five(undated)}): date them, or set split.undated to forget, "
            "retain or drop"
        )


def _range(items: Sequence[Dated]) -> tuple[PartialDate, PartialDate]:
    dates = [item.date for item in items if item.date is not None]
    if not dates:
        raise UserError("no item has a date, so nothing can be split at the cutoff: name a date column that is filled")
    return min(dates, key=lambda date: date.earliest), max(dates, key=lambda date: date.latest)


def _refuse_cutoff_outside(items: Sequence[Dated], config: SplitConfig) -> None:
    first, last = _range(items)
    if not first.earliest <= config.parsed_cutoff.latest < last.latest:
        raise UserError(
            f"cutoff {config.cutoff} lies outside the data, which runs from {first} to {last}: "
            "set split.cutoff between these"
        )


def _empty_side(name: str, n_held: int, items: Sequence[Dated], sides: dict[str, list[T]], config: SplitConfig) -> str:
    first, last = _range(items)
    left_out = ", ".join(f"{reason} {len(sides[reason])}" for reason in ("straddles", "gap", "undated"))
    return (
        f"the {name} side is empty at cutoff {config.cutoff} (held out {n_held}; left out: {left_out}); the data runs "
        f"from {first} to {last}: move split.cutoff, lower split.gap_years or split.heldout_fraction, or add data"
    )


def quotes_target(text: str, target: str, n: int = 8) -> bool:
    """Whether the text shares n consecutive words with the target, whatever their case, punctuation and line breaks.

    A target of fewer words is quoted by a text that holds all of it. Raises UserError for a target without words.
    """
    grams, vocabulary, size = _target_grams(target, n)
    found = words(text)
    run = 0
    for end, word in enumerate(found, start=1):
        # only a run of `size` words that all occur in the target can be one of its n-grams: most tuples are spared
        run = run + 1 if word in vocabulary else 0
        if run >= size and tuple(found[end - size : end]) in grams:
            return True
    return False


def words(text: str) -> list[str]:
    """Letters and digits in runs, casefolded: "Don't" is "don", "t"."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


@lru_cache(maxsize=4)
def _target_grams(target: str, n: int) -> tuple[frozenset[tuple[str, ...]], frozenset[str], int]:
    found = words(target)
    if not found:
        raise UserError("the target has no words: give a text to reproduce")
    size = min(n, len(found))
    grams = frozenset(tuple(found[at : at + size]) for at in range(len(found) - size + 1))
    return grams, frozenset(found), size
