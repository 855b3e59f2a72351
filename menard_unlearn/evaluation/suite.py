"""The evaluation of one model: score it, write what was found, and compare it with base and gold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.curves import BIN, curve
from menard_unlearn.evaluation.cutoff import measure
from menard_unlearn.evaluation.items import ItemScore, Probe, paired, score_probes, write_items
from menard_unlearn.evaluation.reproduction import reproduce
from menard_unlearn.evaluation.target import Target
from menard_unlearn.evaluation.utility import utility
from menard_unlearn.run import write_json
from menard_unlearn.statistics.cutoff import Rules


@dataclass(frozen=True)
class EvaluationConfig:
    """How models are evaluated."""

    batch_size: int
    """Sequences a forward pass."""
    chunk: int
    """Tokens that the head runs on at a time: chunk × vocabulary logits are held at once."""
    bootstrap: int
    """Replicates of a cutoff's interval, facts drawn with replacement."""
    null_bootstrap: int
    """Replicates of the test against steady drift; at least 1/alpha − 1, or nothing could ever be rejected."""
    alpha: float
    """Level of that test."""
    max_width: float
    """Widest interval, in years, of a cutoff that counts as pinned; also the fastest steady drift from 10% to 90%."""
    every: int
    """Steps between evaluations during training; 0 evaluates only at the end."""
    seed: int
    """Seed of the bootstraps."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "chunk", "bootstrap", "null_bootstrap", "max_width"):
            if getattr(self, name) <= 0:
                raise UserError(f"evaluation.{name}={getattr(self, name)} must be above 0")
        if self.every < 0:
            raise UserError(f"evaluation.every={self.every} must be 0 (only at the end) or a number of steps")
        if not 0 < self.alpha < 1:
            raise UserError(f"evaluation.alpha={self.alpha} must lie between 0 and 1, as 0.01")
        if 1 / (self.null_bootstrap + 1) > self.alpha:
            raise UserError(
                f"evaluation.null_bootstrap={self.null_bootstrap} can reject nothing at alpha={self.alpha}: "
                f"set it to {round(1 / self.alpha)} or more"
            )

    @property
    def rules(self) -> Rules:
        """What `statistics` needs of it."""
        return Rules(self.bootstrap, self.null_bootstrap, self.alpha, self.max_width, self.seed)


@dataclass(frozen=True)
class Evaluation:
    """What was found of one model by itself."""

    items: tuple[ItemScore, ...]
    """One score a probe."""
    reproduction: dict | None
    """Keys of `reproduction.KEYS`; None without a target."""
    utility: dict
    """Keys of `utility.KEYS`."""


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    probes: Sequence[Probe],
    retain_texts: Sequence[str],
    neutral_texts: Sequence[str],
    target: Target | None,
    base_tensors: Mapping[str, Tensor] | None,
    config: EvaluationConfig,
    out: Path,
) -> Evaluation:
    """Score a model and write items.jsonl, utility.json and, of a target, reproduction.json and target_tokens.json.

    `base_tensors` are the base's values of the tensors that differ from the model's; None for the base itself. The
    target comes first, so that one which is too long is refused before the long work.
    """
    reproduction = None
    if target is not None:
        reproduction, tokens = reproduce(model, tokenizer, target, prompt=target.prompt, chunk=config.chunk)
        write_json(out / "reproduction.json", reproduction)
        write_json(out / "target_tokens.json", tokens)
    items = score_probes(model, tokenizer, probes, batch_size=config.batch_size, chunk=config.chunk)
    write_items(out / "items.jsonl", items)
    kept = utility(
        model,
        tokenizer,
        retain_texts,
        neutral_texts,
        base_tensors,
        batch_size=config.batch_size,
        chunk=config.chunk,
    )
    write_json(out / "utility.json", kept)
    return Evaluation(tuple(items), reproduction, kept)


def compare(
    items: Sequence[ItemScore],
    base_items: Sequence[ItemScore] | None,
    gold_items: Sequence[ItemScore] | None,
    cutoff_year: int,
    config: EvaluationConfig,
    out: Path,
) -> dict:
    """Write cutoff.json (keys of `cutoff.MEASURES`), which is returned, and curve.json to `out`.

    curve.json holds `bins` of five years and `years`, rows with the columns of `curves.COLUMNS`. For base itself
    `base_items` is None, and so is `gold_items` for gold. Raises UserError where a reference was scored on other
    probes.
    """
    base = None if base_items is None else paired(items, base_items, "base")
    gold = None if gold_items is None else paired(items, gold_items, "gold")
    results = measure(items, base, gold, cutoff_year, config.rules)
    write_json(out / "cutoff.json", results)
    write_json(
        out / "curve.json", {"bins": curve(items, base, cutoff_year, BIN), "years": curve(items, base, cutoff_year, 1)}
    )
    return results
