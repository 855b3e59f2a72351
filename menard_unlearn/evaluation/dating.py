"""Which year a model takes it to be (A6): the years that it puts after sentences about the present.

Legend: P prompts, Y years.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import entr
from transformers import PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.encoding import encode_statement
from menard_unlearn.models.scores import Scores
from menard_unlearn.statistics.clusters import Floats

ABOVE_CHANCE = 2.0
"""How many times the mass of a uniform model a prompt must put on years."""
QUANTILES = {"median": 0.5, "low": 0.05, "high": 0.95}

KEYS = {
    "status": "parsed, or unparseable: no prompt is answered by a year; the years are then null",
    "n_prompts": "number of prompts",
    "n_prompts_used": "those after which enough probability lies on years",
    "first_year": "first year that is asked for",
    "last_year": "last one",
    "mass": "probability of all these years together, before normalising, mean over all prompts",
    "chance_mass": "the same of a uniform model",
    "median": "A6, median year, of the distributions of the prompts used, averaged",
    "low": "5% quantile of it",
    "high": "95% quantile of it",
    "mode": "likeliest year",
    "after": "P(year > the cutoff's)",
    "entropy": "bits; log2 of the number of years where all are alike",
    "median_spread": "largest - smallest median of a prompt used: how much of the answer is the prompt's, years",
    "prompts": "one row a prompt, in the order of the settings, columns in PROMPT_KEYS",
}
"""Key of the result → meaning and unit."""

PROMPT_KEYS = {
    "mass": "probability of all years together after this prompt",
    "used": "whether that is enough",
    "median": "median year; null unless used",
    "after": "P(year > the cutoff's); null unless used",
}
"""Column of a row of `prompts` → meaning and unit."""


@dataclass(frozen=True)
class DatingConfig:
    """How a model is asked what year it is."""

    prompts: tuple[str, ...]
    """What a year would follow, without a space at its end."""
    first: int
    """First year that may follow."""
    last: int
    """Last year."""
    min_mass: float
    """Probability on years below which a prompt counts as not answered. Twice a uniform model's is asked for anyway."""

    def __post_init__(self) -> None:
        if not self.prompts or not all(prompt.strip() for prompt in self.prompts):
            raise ValueError("prompts must hold at least one sentence, and none without words")
        if not 1000 <= self.first < self.last <= 9999:
            raise ValueError(f"first {self.first} and last {self.last} must be years of four digits, first before last")
        if not 0 < self.min_mass < 1:
            raise ValueError(f"min_mass {self.min_mass} must lie between 0 and 1, as 0.1")


@dataclass(frozen=True)
class DatingPlan:
    """Every year after every prompt."""

    items_PY: tuple[tuple[TokenItem, ...], ...]
    """All years after one prompt share their unscored tokens."""
    year_Y: tuple[int, ...]
    chance: float
    """Mass of a uniform model on the years, mean over prompts."""

    @property
    def items(self) -> list[TokenItem]:
        """What has to be scored; years of one token cost one row a prompt."""
        return [item for items_Y in self.items_PY for item in items_Y]


def plan_dating(tokenizer: PreTrainedTokenizerBase, config: DatingConfig) -> DatingPlan:
    """Encode each year after each prompt, as the tokenizer spells it there."""
    years = tuple(range(config.first, config.last + 1))
    items_PY = tuple(_after(tokenizer, prompt, years, number) for number, prompt in enumerate(config.prompts))
    size = len(tokenizer)
    chance_P = [math.fsum(float(size) ** -(len(item.ids) - item.n_prompt) for item in items) for items in items_PY]
    return DatingPlan(items_PY, years, math.fsum(chance_P) / len(chance_P))


def measure_dating(plan: DatingPlan, scores: Scores, config: DatingConfig, cutoff_year: int) -> dict:
    """A6: P(y) = mean over prompts of P(y | prompt) / Σ_y' P(y' | prompt), over the prompts whose sum is large enough.
    Keys are `KEYS`.

    Never the headline: it is what one sentence makes of a model (`median_spread`), a prompt can move it without any
    fact being forgotten, and breaking the year tokens moves it too. A model that puts almost nothing on years does not
    date itself, and gets no year. A year whose digits are several tokens is the product of these; the years exclude
    each other, so their sum is a probability. Sources: asking for the year, 2402.16797; prompted cutoffs, 2510.02340.
    """
    logprob_PY = np.array([[scores.of(item).logprob for item in items_Y] for items_Y in plan.items_PY])
    year_Y = np.array(plan.year_Y)
    mass_P = np.exp(logprob_PY).sum(1)
    used_P = mass_P >= max(config.min_mass, ABOVE_CHANCE * plan.chance)
    share_PY = _normalised(logprob_PY)
    rows = [_row(*row, year_Y, cutoff_year) for row in zip(mass_P, used_P, share_PY, strict=True)]
    return {
        "status": "parsed" if used_P.any() else "unparseable",
        "n_prompts": len(rows),
        "n_prompts_used": int(used_P.sum()),
        "first_year": plan.year_Y[0],
        "last_year": plan.year_Y[-1],
        "mass": float(mass_P.mean()),
        "chance_mass": plan.chance,
        **_years(share_PY[used_P], year_Y, cutoff_year),
        "median_spread": _spread([row["median"] for row in rows if row["used"]]),
        "prompts": rows,
    }


def _after(tokenizer: PreTrainedTokenizerBase, prompt: str, years: Sequence[int], number: int) -> tuple[TokenItem, ...]:
    found = [encode_statement(tokenizer, prompt, f" {year}", f"dating/{number}/{year}") for year in years]
    # What some year merges with the prompt is scored for all: else they would be answers to different questions.
    n_prompt = min(item.n_prompt for item in found)
    return tuple(TokenItem(item.id, item.ids, n_prompt) for item in found)


def _normalised(logprob_PY: Floats) -> Floats:
    # By the largest first: after a broken prompt all of them may underflow.
    share_PY = np.exp(logprob_PY - logprob_PY.max(1, keepdims=True))
    return share_PY / share_PY.sum(1, keepdims=True)


def _row(mass: float, used: bool, share_Y: Floats, year_Y: Floats, cutoff_year: int) -> dict:
    return {
        "mass": float(mass),
        "used": bool(used),
        "median": quantile(share_Y, year_Y, QUANTILES["median"]) if used else None,
        "after": _sum_after(share_Y, year_Y, cutoff_year) if used else None,
    }


def _years(share_PY: Floats, year_Y: Floats, cutoff_year: int) -> dict:
    if not len(share_PY):
        return dict.fromkeys((*QUANTILES, "mode", "after", "entropy"))
    share_Y = share_PY.mean(0)
    return {
        **{name: quantile(share_Y, year_Y, level) for name, level in QUANTILES.items()},
        "mode": int(year_Y[share_Y.argmax()]),
        "after": _sum_after(share_Y, year_Y, cutoff_year),
        "entropy": float(entr(share_Y).sum() / math.log(2)),
    }


def quantile(share_Y: Floats, year_Y: Floats, level: float) -> int:
    """The first year up to which at least `level` of the probability lies."""
    # What is exactly half in the mathematics may come out a rounding below.
    return int(year_Y[np.searchsorted(share_Y.cumsum(), level - 1e-12)])


def _sum_after(share_Y: Floats, year_Y: Floats, cutoff_year: int) -> float:
    return min(1.0, math.fsum(share_Y[year_Y > cutoff_year]))


def _spread(medians: Sequence[int]) -> int | None:
    return max(medians) - min(medians) if medians else None
