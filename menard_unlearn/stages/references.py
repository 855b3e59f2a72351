"""Base and gold: the rows that every method is read against, evaluated once for a study and kept as runs of their
own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.items import ItemScore, read_items
from menard_unlearn.memory import peak_memory_mb, reset_peak_memory
from menard_unlearn.models.load import LoadedModel, ModelSource, load
from menard_unlearn.run import RunDir, run_id
from menard_unlearn.stages.logging import track
from menard_unlearn.stages.measure import judge, score
from menard_unlearn.stages.settings import Prepared

EVALUATION_KEYS = ("corpus", "split", "wording", "target", "evaluation")
"""What a reference's scores depend on, beside the contents of data and model."""
POLL_SECONDS = 2.0


@dataclass(frozen=True)
class References:
    """Scores of base and gold, probe by probe."""

    base: tuple[ItemScore, ...]
    gold: tuple[ItemScore, ...] | None
    """None where the model has no gold reference: what needs one is then left out."""


def references(prepared: Prepared) -> References:
    """Scores of base and gold, from their run directories or computed now."""
    base_run = _run(prepared, "base")
    gold_run = _run(prepared, "gold") if prepared.settings.gold is not None else None
    if not (base_run.finished("evaluate") and (gold_run is None or gold_run.finished("evaluate"))):
        with waiting_lock(base_run):
            if not base_run.finished("evaluate"):
                _evaluate(prepared, base_run, gold_run)
    gold = None if gold_run is None else tuple(read_items(gold_run.evaluation_dir / "items.jsonl"))
    return References(tuple(read_items(base_run.evaluation_dir / "items.jsonl")), gold)


def _identity(prepared: Prepared, kind: str) -> tuple[str, dict[str, str]]:
    """Id and inputs of a reference: only what its scores depend on, so that all methods of a study share it."""
    config = {key: prepared.settings.plain[key] for key in EVALUATION_KEYS}
    inputs = {key: prepared.inputs[key] for key in ("data", "target", "model", "gold") if key in prepared.inputs}
    return run_id(config, {**inputs, "kind": kind}), inputs


def _run(prepared: Prepared, kind: str) -> RunDir:
    return RunDir(prepared.settings.study_dir / f"{kind}-{_identity(prepared, kind)[0][:8]}")


@contextlib.contextmanager
def waiting_lock(run: RunDir) -> Iterator[None]:
    """The run's lock, as soon as another process lets go of it: both need the same reference."""
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(run.lock())
                break
            except UserError:
                time.sleep(POLL_SECONDS)
        yield


def _evaluate(prepared: Prepared, base_run: RunDir, gold_run: RunDir | None) -> None:
    """Score both, then compare each with the other; the base's manifest comes last of all."""
    settings = prepared.settings
    base_items, base, base_cost = _score(prepared, "base", base_run, settings.model, None)
    if gold_run is not None and settings.gold is not None:
        gold_items, _, gold_cost = _score(prepared, "gold", gold_run, settings.gold, base)
        _finish(prepared, "gold", gold_run, gold_items, base_items, None, gold_cost)
        _finish(prepared, "base", base_run, base_items, None, gold_items, base_cost)
    else:
        _finish(prepared, "base", base_run, base_items, None, None, base_cost)


def _score(
    prepared: Prepared, kind: str, run: RunDir, source: ModelSource, base: LoadedModel | None
) -> tuple[tuple[ItemScore, ...], LoadedModel, tuple[float, float]]:
    print(f"evaluating {kind} ({source.path})")
    reset_peak_memory()
    started = time.perf_counter()
    loaded = load(source)
    run.path.mkdir(parents=True, exist_ok=True)
    run.write_config(_config(prepared, source))
    base_tensors = None if base is None else shared_parameters(base.model, loaded.model)
    found = score(prepared, loaded, base_tensors, run.evaluation_dir)
    return found.items, loaded, (time.perf_counter() - started, peak_memory_mb())


def _config(prepared: Prepared, source: ModelSource) -> dict[str, Any]:
    """What a reference is made of, and nothing of the method that happened to ask for it first."""
    plain = prepared.settings.plain
    model = {**plain["model"], "path": source.path, "gold": source.gold}
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


def _finish(
    prepared: Prepared,
    kind: str,
    run: RunDir,
    items: tuple[ItemScore, ...],
    base_items: tuple[ItemScore, ...] | None,
    gold_items: tuple[ItemScore, ...] | None,
    cost: tuple[float, float],
) -> None:
    settings = prepared.settings
    judge(prepared, items, base_items, gold_items, run.evaluation_dir)
    identity, inputs = _identity(prepared, kind)
    run.write_manifest("evaluate", config_hash=identity, inputs=inputs, seconds=cost[0], peak_memory_mb=cost[1])
    with track(settings, run, identity, kind, "evaluate", inputs) as tracking:
        tracking.results()
