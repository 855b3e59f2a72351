"""One way to measure a model, whatever stage made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from menard_unlearn.evaluation.items import ItemScore
from menard_unlearn.evaluation.suite import Evaluation, compare, evaluate
from menard_unlearn.models.load import LoadedModel
from menard_unlearn.stages.settings import Prepared


def score(prepared: Prepared, loaded: LoadedModel, base_tensors: Mapping[str, Tensor] | None, out: Path) -> Evaluation:
    """Score a model on the study's probes, texts and target; `base_tensors` as in `evaluation.suite.evaluate`."""
    return evaluate(
        loaded.model,
        loaded.tokenizer,
        probes=prepared.probes,
        retain_texts=prepared.heldout_retain_texts,
        neutral_texts=prepared.data.corpus.neutral,
        target=prepared.target,
        base_tensors=base_tensors,
        config=prepared.settings.evaluation,
        out=out,
    )


def judge(
    prepared: Prepared,
    items: Sequence[ItemScore],
    base_items: Sequence[ItemScore] | None,
    gold_items: Sequence[ItemScore] | None,
    out: Path,
) -> None:
    """Compare scores with base and gold; the cutoff's own year counts as retained."""
    year = prepared.settings.split.parsed_cutoff.year
    compare(items, base_items, gold_items, year, prepared.settings.evaluation, out)
