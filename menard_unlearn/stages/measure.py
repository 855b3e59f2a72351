"""One way to measure a model, whatever stage made it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from menard_unlearn.evaluation.compare import Reference, compare
from menard_unlearn.evaluation.suite import evaluate, evaluate_told
from menard_unlearn.models.load import LoadedModel
from menard_unlearn.stages.settings import Prepared


def score(prepared: Prepared, loaded: LoadedModel, base_tensors: Mapping[str, Tensor] | None, out: Path) -> None:
    """Measure a model on the study's material; `base_tensors` as in `evaluation.suite.evaluate`."""
    evaluate(
        loaded.model,
        loaded.tokenizer,
        material=prepared.material,
        base_tensors=base_tensors,
        config=prepared.settings.evaluation,
        out=out,
    )


def score_told(prepared: Prepared, base: LoadedModel, out: Path) -> None:
    """Ask the base what it answers when it is told that it lives at the cutoff."""
    evaluate_told(base.model, base.tokenizer, prepared.told_probes, prepared.settings.evaluation, out)


def judge(prepared: Prepared, out: Path, references: Mapping[str, Reference]) -> None:
    """Compare an evaluation with those of other models, by kind."""
    compare(out, references, prepared.material, prepared.settings.evaluation)
