"""The essay's question in one table: models × clamp × context, each scored on the same text.

Does a clamp unlock memory, or add style? With IN a model that saw the text and OUT one of the same recipe that did not,

    style    = ln P_OUT(text | clamp) − ln P_OUT(text)          what a clamp gives without memory
    unlocked = [ln P_IN(text | clamp) − ln P_IN(text)] − style    what it gives beyond that, a change of C1

Each with a 95% interval over blocks of tokens. A control by the same author that neither model saw shows style again.

Legend: T tokens, K blocks, R replicates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from menard_unlearn.evaluation import counterfactual
from menard_unlearn.evaluation.attribution import measure_attribution
from menard_unlearn.evaluation.attribution_plan import AttributionConfig, plan_attribution
from menard_unlearn.evaluation.config import EvaluationConfig
from menard_unlearn.evaluation.counterfactual import TextScore
from menard_unlearn.evaluation.reproduction import reproduce
from menard_unlearn.evaluation.target import Target
from menard_unlearn.evaluation.tokens import context_length, pad_id
from menard_unlearn.models.scores import score

OUT = "without_target"
"""Name of the model that never saw the text."""
PLAIN = "none"
"""Name of the condition without a clamp."""
QUANTILES = (0.025, 0.975)

KEYS = {
    "model": "base, without_target, or the name of a run",
    "clamp": "none, feature, difference_of_means, random_feature or random_direction, each at the same dose",
    "context_tokens": "tokens of the author's other works, undated or up to the cutoff, before the text",
    "n_tokens": "scored tokens of the text",
    "nats_per_token": "B1 divided by them",
    "bits_per_byte": "B1",
    "share_rank1": "share of tokens that are the only first choice",
    "greedy_prefix": "B4, tokens written by greedy decoding before the first that differs; null without a usable cache",
    "control_bits_per_byte": "mean of B1 over the controls; null without controls",
    "variant_z": "C3 against the controls' variants; null where it is undefined",
    "exposure": "C6, bits",
    "prefix_specificity": "C4, nats; of passages after the text alone, so that context does not change it",
    "counterfactual_nats": "C1 under this condition: against without_target under the same clamp and context",
    "menard_fraction": "C2 likewise, 1 written afresh, 0 memorized",
    "menard_fraction_low": "lower end of C2's 95% interval",
    "menard_fraction_high": "upper end",
    "gain": "nats a token above the same model and context without a clamp; null without a clamp",
    "gain_low": "lower end of its 95% interval over blocks of tokens",
    "gain_high": "upper end",
    "unlocked": "nats a token: gain minus that of without_target; null for that model, and without it",
    "unlocked_low": "lower end of its 95% interval",
    "unlocked_high": "upper end",
    "verdict": "what the intervals of `unlocked` and of without_target's gain say; rules in `verdict`",
    "left_out": "what could not be computed, and what it needs",
}
"""Key of a row of joint.json → meaning and unit."""

FROM_ATTRIBUTION = ("variant_z", "exposure", "prefix_specificity")
FROM_COUNTERFACTUAL = ("counterfactual_nats", "menard_fraction", "menard_fraction_low", "menard_fraction_high")
ERROR_BAR = "numerical error bar"
"""What no cell has: it would take each text two more passes."""
LEAST_BLOCKS = 5
"""Fewer blocks of tokens give no interval."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One model under one condition."""

    model: str
    clamp: str
    context_tokens: int
    figures: Mapping[str, Any]
    """Keys of `KEYS` that need no other cell."""
    text: TextScore
    """The target's tokens."""

    @property
    def place(self) -> tuple[str, str, int]:
        """Which cell this is."""
        return self.model, self.clamp, self.context_tokens


def after_context(target: Target, context: str) -> Target:
    """The target and its controls with a context before their prompts; editions are left out."""
    if not context:
        return replace(target, editions=())
    controls = tuple(replace(text, prompt=f"{context}\n\n{text.prompt}") for text in target.controls)
    return replace(target, prompt=f"{context}\n\n{target.prompt}", editions=(), controls=controls)


def measure_cell(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    target: Target,
    config: EvaluationConfig,
    *,
    name: str,
    clamp: str,
    context_tokens: int,
) -> Cell:
    """Reproduction and attribution of a model as it is now: call it within the clamp, on a target `after_context`.

    Raises UserError where context and text are longer than the model's window.
    """
    brief = replace(config.reproduction, numeric_tokens=0, free_controls=False)
    found, tokens = reproduce(model, tokenizer, target, prompt=target.prompt, chunk=config.chunk, config=brief)
    controls = [
        reproduce(model, tokenizer, c, prompt=c.prompt, chunk=config.chunk, config=brief, free_running=False)[0]
        for c in target.controls
    ]
    plan = plan_attribution(tokenizer, target, _beyond(tokenizer, target, config), context_length(model))
    scores = score(model, plan.items, batch_size=config.batch_size, chunk=config.chunk, padding=pad_id(tokenizer))
    attribution = measure_attribution(plan, scores)
    beside = [control["bits_per_byte"] for control in controls if control["bits_per_byte"] is not None]
    figures = {
        "n_tokens": found["n_tokens"],
        "nats_per_token": found["nats"] / found["n_tokens"],
        **{key: found[key] for key in ("bits_per_byte", "share_rank1", "greedy_prefix")},
        "control_bits_per_byte": float(np.mean(beside)) if beside else None,
        **{key: attribution[key] for key in FROM_ATTRIBUTION},
        "left_out": [*(line for line in found["left_out"] if not line.startswith(ERROR_BAR)), *attribution["left_out"]],
    }
    return Cell(name, clamp, context_tokens, figures, TextScore.of_tokens(tokens["tokens"]))


def _beyond(tokenizer: PreTrainedTokenizerBase, target: Target, config: EvaluationConfig) -> AttributionConfig:
    """C3 to C6 on as many tokens of the text itself whatever stands before it."""
    limit = config.attribution.max_tokens
    if limit is None:
        return config.attribution
    before = tokenizer.encode(target.prompt, add_special_tokens=False, verbose=False)
    return replace(config.attribution, max_tokens=limit + len(before))


def table(cells: Sequence[Cell], ngram_B: NDArray[np.float64] | None, config: EvaluationConfig) -> list[dict]:
    """All cells as rows of `KEYS`, each compared with the cells that differ from it in one thing.

    `ngram_B` is `evaluation.ngram.bits` of the target. Cells may come in any order.
    """
    at = {cell.place: cell for cell in cells}
    return [_row(cell, at, ngram_B, config) for cell in cells]


def _row(
    cell: Cell,
    at: Mapping[tuple[str, str, int], Cell],
    ngram_B: NDArray[np.float64] | None,
    config: EvaluationConfig,
) -> dict:
    block, replicates, seed = config.attribution.block, config.attribution.bootstrap, config.seed
    out = at.get((OUT, cell.clamp, cell.context_tokens)) if cell.model != OUT else None
    against = counterfactual.against(
        [cell.text], [] if out is None else [out.text], ngram_B, block=block, bootstrap=replicates, seed=seed
    )
    reasons = [] if cell.model == OUT else against["left_out"]
    gain = unlocked = style = None
    if cell.clamp != PLAIN and (plain := at.get((cell.model, PLAIN, cell.context_tokens))):
        gain_T = cell.text.logprob_T - plain.text.logprob_T
        gain = block_mean(gain_T, block=block, replicates=replicates, seed=seed)
        out_plain = at.get((OUT, PLAIN, cell.context_tokens))
        if out is not None and out_plain is not None:
            style_T = out.text.logprob_T - out_plain.text.logprob_T
            style = block_mean(style_T, block=block, replicates=replicates, seed=seed)
            unlocked = block_mean(gain_T - style_T, block=block, replicates=replicates, seed=seed)
    row = {
        "model": cell.model,
        "clamp": cell.clamp,
        "context_tokens": cell.context_tokens,
        **cell.figures,
        **{key: against[key] if cell.model != OUT else None for key in FROM_COUNTERFACTUAL},
        **_named("gain", gain),
        **_named("unlocked", unlocked),
        "verdict": None if unlocked is None or style is None else verdict(unlocked, style),
        "left_out": [*cell.figures["left_out"], *reasons],
    }
    return {key: row[key] for key in KEYS}


@dataclass(frozen=True)
class Mean:
    """A mean over tokens."""

    value: float
    low: float | None
    """Lower end of its 95% interval; None with fewer than 5 blocks."""
    high: float | None


def block_mean(values_T: NDArray[np.float64], *, block: int, replicates: int, seed: int) -> Mean:
    """Mean over tokens, with an interval over blocks of `block` neighbours drawn with replacement.

    A last block of less than half that length belongs to the one before it.
    """
    n_blocks = max(1, math.floor(len(values_T) / block + 0.5))
    parts = np.array_split(values_T, n_blocks)
    total_K, size_K = (np.array([measure(part) for part in parts], float) for measure in (np.sum, len))
    mean = float(values_T.mean())
    if n_blocks < LEAST_BLOCKS:
        return Mean(mean, None, None)
    drawn_RK = np.random.default_rng(seed).multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=replicates)
    low, high = np.quantile((drawn_RK @ total_K) / (drawn_RK @ size_K), QUANTILES)
    return Mean(mean, float(low), float(high))


def verdict(unlocked: Mean, style: Mean) -> str:
    """What a clamp does, by whether intervals lie above or below 0.

    memory: unlocked above 0; style: the gain of the model without memory above 0; both; neither; and where an interval
    lies below 0, "hides memory" or "spoils style". "undetermined" without intervals.
    """
    if None in (unlocked.low, unlocked.high, style.low, style.high):
        return "undetermined"
    found = []
    for mean, up, down in ((unlocked, "unlocks memory", "hides memory"), (style, "adds style", "spoils style")):
        if mean.low is not None and mean.low > 0:
            found.append(up)
        elif mean.high is not None and mean.high < 0:
            found.append(down)
    return ", ".join(found) or "neither"


def _named(name: str, mean: Mean | None) -> dict[str, float | None]:
    if mean is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    return {name: mean.value, f"{name}_low": mean.low, f"{name}_high": mean.high}


def order(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows as a reader wants them: by context, then by model as they came, the plain condition first."""
    listed = list(rows)
    names = list(dict.fromkeys(row["model"] for row in listed))
    return sorted(listed, key=lambda r: (r["context_tokens"], names.index(r["model"]), r["clamp"] != PLAIN))
