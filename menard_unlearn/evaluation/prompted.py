"""The cheapest rival of unlearning: the untouched model is told that it is the cutoff's day.

Prompted cutoffs (arXiv 2510.02340) hide some knowledge and none of it for good. What a method is worth is what it does
beyond that, so the share of forgetting that the prompt alone gives stands in every table, beside the damage that the
same prompt does to what came before the cutoff.

Only the recall of true answers counts. An answer that cannot be read, "I do not know" or nonsense is a true answer not
given, on *both* sides of the cutoff: it is no success of its own, and a prompt that merely confuses the model shows as
damage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from menard_unlearn.corpus.dating import PartialDate
from menard_unlearn.evaluation.distractors import chosen
from menard_unlearn.evaluation.items import ItemScore, Probe, paired

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
LEVEL = 0.95

_RATIOS = {
    "prompted_forgotten": "1 - prompted recall / base recall after the cutoff: the forgetting by the prompt alone",
    "prompted_damage": "the same up to the cutoff: what the prompt breaks",
    "prompted_selective": "prompted_forgotten - prompted_damage: 0 for a prompt that hides nothing or everything",
    "forgotten": "1 - the model's recall / base recall after the cutoff; null for the base itself",
    "damage": "the same up to the cutoff; null for the base itself",
    "selective": "forgotten - damage; null for the base itself",
    "prompted_share": "prompted_selective / selective, the share of forgetting that the prompt alone gives: 1 says "
    "that the model did no more; null for the base itself, or where selective_low is not above 0",
}
KEYS = {
    "prompted_n_before": "number of probes of the years up to the cutoff's",
    "prompted_n_after": "number of probes of later years",
    "prompted_recall_before": "share answered by the base under the prompt, years up to the cutoff's",
    "prompted_recall_after": "the same of later years",
    **{
        f"{key}{end}": f"{meaning}{of}"
        for key, meaning in _RATIOS.items()
        for end, of in (
            ("", ""),
            ("_low", "; lower end of the 95% bootstrap interval, facts resampled"),
            ("_high", "; upper end of it"),
        )
    },
    "left_out": "what could not be computed, and what it needs",
}
"""Key of prompted.json → meaning; shares lie at most at 1, null where the base answers nothing on that side."""


@dataclass(frozen=True)
class PromptedConfig:
    """What the model is told before each probe."""

    preamble: str | None
    """The words, without a space at their end; null makes them from the cutoff."""
    per_year: int
    """Facts a year that are asked for, each once, one of each category before a second of any; 0 asks for none."""
    seed: int
    """Together with a fact's id it says which."""

    def __post_init__(self) -> None:
        if self.per_year < 0:
            raise ValueError(f"per_year={self.per_year} must be 0 (none) or a number of facts, as 5")
        if self.preamble is not None and not self.preamble.strip():
            raise ValueError("preamble is empty: give words, or null for those made from the cutoff")


def preamble(config: PromptedConfig, cutoff: PartialDate) -> str:
    """The words put before each probe."""
    if config.preamble is not None:
        return config.preamble
    _, month, day = cutoff.latest
    today = f"{day} {MONTHS[month - 1]} {cutoff.year}"
    return f"Today is {today}. Nothing later has happened yet, and whoever speaks knows only what is known by now."


def sample(probes: Sequence[Probe], config: PromptedConfig) -> list[Probe]:
    """The probes that are asked under the words: the first of each chosen fact, one that does not state the year where
    there is one."""
    names = chosen({(p.fact_id, p.year, p.category) for p in probes}, config.per_year, config.seed)
    first: dict[str, Probe] = {}
    for probe in sorted(probes, key=lambda probe: probe.states_year):
        if probe.fact_id in names:
            first.setdefault(probe.fact_id, probe)
    ids = {probe.id for probe in first.values()}
    return [probe for probe in probes if probe.id in ids]


def prompted(probes: Sequence[Probe], preamble: str) -> list[Probe]:
    """The same probes, under the same ids, with the words and a space before each prompt.

    `states_year` stays that of the plain probe, so that both stand in the same part of every table, although the words
    name the cutoff's year.
    """
    return [replace(probe, prompt=f"{preamble} {probe.prompt}") for probe in probes]


def prompted_share(
    items: Sequence[ItemScore] | None,
    base: Sequence[ItemScore],
    prompted_items: Sequence[ItemScore],
    cutoff_year: int,
    *,
    replicates: int,
    seed: int,
) -> dict:
    """What goes into prompted.json: keys of `KEYS`.

    `items` are the model's answers to plain probes, None for the base itself, `base` the base's, `prompted_items` the
    base's to `prompted` ones: what is computed, is computed on these probes. The cutoff's own year is before it. Facts
    are resampled on either side of the cutoff by themselves. Raises UserError where a plain probe's score is missing.
    """
    asked = paired(prompted_items, base, "the base")
    own = None if items is None else paired(prompted_items, items, "the model")
    columns: dict[str, Sequence[ItemScore]] = {"base": asked, "prompted": prompted_items}
    if own is not None:
        columns["own"] = own
    sides = {
        side: _Side.of([i for i, item in enumerate(asked) if (item.year > cutoff_year) == (side == "after")], columns)
        for side in ("before", "after")
    }
    rng = np.random.default_rng(seed)
    drawn = {side: found.resampled(replicates, rng) for side, found in sides.items()}
    point = _ratios({side: found.totals(np.ones((1, found.n_facts))) for side, found in sides.items()})
    spread = _ratios(drawn)
    result: dict = {}
    for side, found in sides.items():
        result[f"prompted_n_{side}"] = found.n
        result[f"prompted_recall_{side}"] = found.recall("prompted")
    for key in _RATIOS:
        result |= _interval(key, float(point[key][0]), spread[key])
    left_out = (
        [] if items is not None else ["forgotten, damage, selective, prompted_share: need a model other than the base"]
    )
    low = result["selective_low"]
    if items is not None and (low is None or low <= 0):
        # dividing by what may be nothing gives any share at all
        result |= dict.fromkeys(("prompted_share", "prompted_share_low", "prompted_share_high"))
        left_out.append("prompted_share: the model's forgetting is not selective (selective_low is not above 0)")
    left_out += [f"years {side} the cutoff: the base answers none" for side in sides if not sides[side].recall("base")]
    ordered = {key: result[key] for key in KEYS if key != "left_out"}
    return ordered | {"left_out": left_out}


@dataclass(frozen=True, eq=False)
class _Side:
    """Correct answers by fact on one side of the cutoff."""

    correct_F: Mapping[str, NDArray]
    n: int
    """Number of probes."""
    n_facts: int

    @classmethod
    def of(cls, places: Sequence[int], columns: Mapping[str, Sequence[ItemScore]]) -> _Side:
        """Sums over the probes of each fact."""
        ids = [columns["base"][i].fact_id for i in places]
        numbers = {id: number for number, id in enumerate(dict.fromkeys(ids))}
        group_N = np.array([numbers[id] for id in ids], int)
        sums = {
            name: np.bincount(group_N, weights=[items[i].correct for i in places], minlength=len(numbers))
            for name, items in columns.items()
        }
        return cls(sums, len(places), len(numbers))

    def recall(self, name: str) -> float | None:
        """Share of the probes answered."""
        return float(self.correct_F[name].sum() / self.n) if self.n else None

    def totals(self, times_RF: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Numbers of correct answers, each fact taken so many times."""
        return {name: times_RF @ correct_F for name, correct_F in self.correct_F.items()}

    def resampled(self, replicates: int, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
        """The same of facts drawn with replacement."""
        if not self.n_facts:
            return self.totals(np.ones((replicates, 0)))
        chance_F = np.full(self.n_facts, 1 / self.n_facts)
        return self.totals(rng.multinomial(self.n_facts, chance_F, size=replicates).astype(float))


def _ratios(totals: dict[str, dict[str, NDArray[np.float64]]]) -> dict[str, NDArray[np.float64]]:
    """Values of `_RATIOS`, NaN where they are undefined."""

    def lost(side: str, name: str) -> NDArray[np.float64]:
        base_R = totals[side]["base"]
        after_R = totals[side].get(name, np.full_like(base_R, np.nan))
        return np.divide(base_R - after_R, base_R, out=np.full_like(base_R, np.nan), where=base_R > 0)

    told_R, told_damage_R = lost("after", "prompted"), lost("before", "prompted")
    own_R, own_damage_R = lost("after", "own"), lost("before", "own")
    told_net_R, own_net_R = told_R - told_damage_R, own_R - own_damage_R
    return {
        "prompted_forgotten": told_R,
        "prompted_damage": told_damage_R,
        "prompted_selective": told_net_R,
        "forgotten": own_R,
        "damage": own_damage_R,
        "selective": own_net_R,
        "prompted_share": np.divide(told_net_R, own_net_R, out=np.full_like(own_R, np.nan), where=own_net_R > 0),
    }


def _interval(key: str, value: float, values_R: NDArray[np.float64]) -> dict[str, float | None]:
    """The value and its percentile interval; None where undefined, an end also where any replicate is."""
    low, high = np.quantile(values_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    found = {key: value, f"{key}_low": float(low), f"{key}_high": float(high)}
    return {name: number if np.isfinite(number) else None for name, number in found.items()}
