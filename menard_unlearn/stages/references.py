"""The rows that every method is read against, evaluated once for a study and kept as runs of their own.

base            the model as it is
gold            one of the same recipe that never saw what is to be forgotten
without_target  one of the same recipe that saw everything but the target
prompted        the base, told at the head of every probe that it lives at the cutoff
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from menard_unlearn.evaluation.compare import Reference, write_ngram
from menard_unlearn.memory import peak_memory_mb, reset_peak_memory
from menard_unlearn.models.load import LoadedModel, ModelSource, load
from menard_unlearn.run import RunDir, run_id
from menard_unlearn.stages.logging import track
from menard_unlearn.stages.measure import judge, score, score_told
from menard_unlearn.stages.settings import Prepared

PROMPTED = "prompted"
EVALUATION_KEYS = ("corpus", "split", "wording", "target", "evaluation")
"""What a reference's scores depend on, beside the contents of data and models."""
INPUTS = ("data", "target", "model", "gold", "without_target")


@dataclass(frozen=True)
class References:
    """Where the scores of the references lie; one that a model does not have is not there, and what needs it is left
    out by name."""

    found: Mapping[str, Reference]
    """By kind."""

    def without(self, kind: str) -> References:
        """What this reference itself is compared with."""
        return References({name: reference for name, reference in self.found.items() if name != kind})


def sources(prepared: Prepared) -> dict[str, ModelSource]:
    """The models of the references, by kind, the base first."""
    settings = prepared.settings
    found = {"base": settings.model, "gold": settings.gold, "without_target": settings.without_target}
    return {kind: source for kind, source in found.items() if source is not None}


def references(prepared: Prepared) -> References:
    """The references' scores, from their run directories or computed now."""
    kinds = [*sources(prepared), *([PROMPTED] if prepared.told_probes else [])]
    runs = {kind: _run(prepared, kind) for kind in kinds}
    known = References({kind: Reference(run.evaluation_dir) for kind, run in runs.items()})
    if not all(run.finished("evaluate") for run in runs.values()):
        with runs["base"].waiting_lock():
            if not all(run.finished("evaluate") for run in runs.values()):
                _evaluate(prepared, runs, known)
    return known


def base_run(prepared: Prepared) -> RunDir:
    """Where the base's evaluation lies; its manifest is written after those of all other references."""
    return _run(prepared, "base")


def _identity(prepared: Prepared, kind: str) -> tuple[str, dict[str, str]]:
    """Id and inputs of a reference: only what its scores depend on, so that all methods of a study share it."""
    config = {key: prepared.settings.plain[key] for key in EVALUATION_KEYS}
    inputs = {key: prepared.inputs[key] for key in INPUTS if key in prepared.inputs}
    return run_id(config, {**inputs, "kind": kind}), inputs


def _run(prepared: Prepared, kind: str) -> RunDir:
    return RunDir(prepared.settings.study_dir / f"{kind}-{_identity(prepared, kind)[0][:8]}")


def _evaluate(prepared: Prepared, runs: Mapping[str, RunDir], known: References) -> None:
    """Score all, then compare each with the others; the base's manifest comes last of all."""
    base: LoadedModel | None = None
    costs: dict[str, tuple[float, float]] = {}
    for kind, source in sources(prepared).items():
        loaded, costs[kind] = _score(prepared, kind, runs[kind], source, base)
        base = base or loaded
    write_ngram(runs["base"].evaluation_dir, prepared.material, prepared.settings.evaluation)
    if PROMPTED in runs and base is not None:
        costs[PROMPTED] = _score_told(prepared, runs[PROMPTED], base)
    for kind, run in reversed(list(runs.items())):
        _finish(prepared, kind, run, known.without(kind) if kind != PROMPTED else known, costs[kind])


def _score(
    prepared: Prepared, kind: str, run: RunDir, source: ModelSource, base: LoadedModel | None
) -> tuple[LoadedModel, tuple[float, float]]:
    print(f"evaluating {kind} ({source.path})", flush=True)
    reset_peak_memory()
    started = time.perf_counter()
    loaded = load(source)
    _begin(prepared, run, source)
    base_tensors = None if base is None else shared_parameters(base.model, loaded.model)
    score(prepared, loaded, base_tensors, run.evaluation_dir)
    return loaded, (time.perf_counter() - started, peak_memory_mb())


def _score_told(prepared: Prepared, run: RunDir, base: LoadedModel) -> tuple[float, float]:
    print(f"evaluating {PROMPTED} ({prepared.settings.model.path})", flush=True)
    reset_peak_memory()
    started = time.perf_counter()
    _begin(prepared, run, prepared.settings.model)
    score_told(prepared, base, run.evaluation_dir)
    return time.perf_counter() - started, peak_memory_mb()


def _begin(prepared: Prepared, run: RunDir, source: ModelSource) -> None:
    run.path.mkdir(parents=True, exist_ok=True)
    run.write_config(_config(prepared, source))


def _config(prepared: Prepared, source: ModelSource) -> dict[str, Any]:
    """What a reference is made of, and nothing of the method that happened to ask for it first."""
    plain = prepared.settings.plain
    model = {**plain["model"], "path": source.path, "gold": source.gold, "without_target": source.without_target}
    return {
        "stage": "evaluate",
        "study": plain["study"],
        "model": model,
        **{key: plain[key] for key in EVALUATION_KEYS},
    }


def shared_parameters(base: nn.Module, model: nn.Module) -> dict[str, Tensor] | None:
    """The base's parameters under the model's names, or None where the two are built differently."""
    own, others = dict(model.named_parameters()), dict(base.named_parameters())
    alike = own.keys() == others.keys() and all(own[name].shape == others[name].shape for name in own)
    return {name: parameter.detach() for name, parameter in others.items()} if alike else None


def _finish(prepared: Prepared, kind: str, run: RunDir, known: References, cost: tuple[float, float]) -> None:
    judge(prepared, run.evaluation_dir, known.found)
    identity, inputs = _identity(prepared, kind)
    # before its manifest: of a run that is finished and was never begun there, `menard sync` would not know
    with track(prepared.settings, run, identity, kind, "evaluate", inputs, prepared.data) as tracking:
        run.write_manifest("evaluate", config_hash=identity, inputs=inputs, seconds=cost[0], peak_memory_mb=cost[1])
        tracking.results()
