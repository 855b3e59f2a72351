"""Train a model by a method: what a stage calls."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from tqdm import tqdm

from menard_unlearn.corpus.batches import collate
from menard_unlearn.corpus.encoding import Encoder
from menard_unlearn.corpus.pairs import PairedDataset
from menard_unlearn.errors import UserError
from menard_unlearn.methods.base import Recipe
from menard_unlearn.methods.kinds import Wrapper
from menard_unlearn.models.delta import apply_delta, load_delta
from menard_unlearn.run import RunDir
from menard_unlearn.training.checkpoints import DELTA, Checkpoints, writing
from menard_unlearn.training.config import TrainerConfig
from menard_unlearn.training.course import Course, processes
from menard_unlearn.training.frozen import FrozenModel
from menard_unlearn.training.phases import MakeFrozen, Teachers, check_recipe, plan
from menard_unlearn.training.preemption import Preemption
from menard_unlearn.training.sharding import refuse_unshardable
from menard_unlearn.training.trained import copies, prepare
from menard_unlearn.training.trainer import Hooks, UnlearnTrainer

NORM_SAMPLE = 64
"""Retain items that a mean activation norm is taken over; the norm of a token varies little, so this is plenty."""


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What a training left; the model itself holds the same weights."""

    steps: int
    """Optimizer steps done, in all sessions."""
    seconds: float
    """Time spent in them."""
    stopped: str | None
    """Why it ended before max_steps, or None."""
    best_step: int | None
    """The step whose weights these are, where trainer.best_metric chose one, else None: the last step's."""
    delta: dict[str, Tensor]
    """The trained tensors, fp32 on the CPU; of a run with trainer.lora the adapters (`models.delta.Adapters`)."""


def train(
    model: nn.Module,
    recipe: Recipe,
    dataset: PairedDataset,
    encoder: Encoder,
    config: TrainerConfig,
    run: RunDir,
    *,
    seed: int,
    on_log: Callable[[dict[str, Any]], None] | None,
    on_evaluate: Callable[[int], Mapping[str, Any]] | None,
    evaluate_every: int,
    wrapper: Wrapper | None = None,
    gold: nn.Module | None = None,
    make_frozen: MakeFrozen | None = None,
    preemption: Preemption | None = None,
) -> TrainResult:
    """Carry out the recipe in place, resuming from the run's newest complete checkpoint where there is one.

    `model` is the base, freshly loaded; its weights now are what a method's reference quantities are taken from. With
    trainer.lora it leaves with adapters in it. Rows of the history go to `history.jsonl` and to `on_log`;
    `on_evaluate(step)` returns numbers by name, logged as eval/<name>. `gold` is a model that recipes of distillation
    learn from, on the same device. `make_frozen` makes the base's quantities, by default a `FrozenModel`.
    `preemption` is one that others can tell to end. Raises UserError for what cannot be trained, for a term that is not
    finite and for a full disk; on SIGTERM or SIGUSR2 saves and raises SystemExit(128 + n), on Ctrl-C saves and raises
    KeyboardInterrupt.
    """
    if config.sharding == "fsdp2":
        refuse_unshardable(recipe, wrapper)
    check(config, dataset, evaluate_every if on_evaluate is not None else 0)
    check_recipe(recipe, config, dataset, gold)
    trained = prepare(model, config.trained, config.frozen, config.lora, seed)
    sample = collate([dataset[i][1] for i in range(min(NORM_SAMPLE, len(dataset)))], "retain", encoder.pad_id)
    teachers = Teachers(model, first_values(trained, config), gold, sample, encoder, make_frozen or FrozenModel)
    course = Course(model, trained, dataset, encoder.pad_id, config, run, seed, teachers, wrapper)
    parts = plan(recipe.phases(), config.max_steps)
    begun_at, main = course.steps_kept(parts), processes().is_main_process
    if main:
        run.truncate_history(begun_at)
    with preemption or Preemption() as told, progress(config.max_steps, begun_at, main) as bar:
        emit = emitter(run, Checkpoints(run.checkpoints_dir), on_log, bar)
        done = course.follow(parts, Hooks(emit, on_evaluate, evaluate_every), told)
    if done and done[-1].interrupted:
        if told.received is None:
            told.note(signal.SIGTERM)  # another process was told, and all leave together
        told.obey()
    return result(course, done)


def first_values(trained: Mapping[str, nn.Parameter], config: TrainerConfig) -> dict[str, Tensor]:
    """Copies; of what will be sharded the tensors themselves, which are given up before they change."""
    if config.sharding == "fsdp2" and processes().use_distributed:
        return {name: parameter.detach() for name, parameter in trained.items()}
    return copies(trained)


def check(config: TrainerConfig, dataset: PairedDataset, evaluate_every: int) -> None:
    """Refuse, before any work, what could not be carried out."""
    config.share(processes().num_processes)
    needed = config.max_steps * config.batch_size
    if len(dataset) < needed:
        raise UserError(
            f"{config.max_steps} steps of {config.batch_size} pairs need {needed}, the dataset has {len(dataset)}: "
            "give PairedDataset a length of max_steps * batch_size"
        )
    if config.best_metric is not None and evaluate_every == 0:
        raise UserError(
            f"best_metric {config.best_metric!r} needs evaluations during training: "
            "set evaluation.every, or trainer.best_metric=null"
        )


def progress(total: int, done: int, main: bool) -> tqdm:
    """One line on a terminal, nothing in a log file."""
    return tqdm(total=total, initial=done, unit="step", disable=not (main and sys.stderr.isatty()), dynamic_ncols=True)


def emitter(
    run: RunDir, checkpoints: Checkpoints, on_log: Callable[[dict[str, Any]], None] | None, bar: tqdm
) -> Callable[[Mapping[str, Any]], None]:
    """Where a row goes: the history, the caller, and the progress bar."""

    def emit(row: Mapping[str, Any]) -> None:
        with writing(run.history_path, checkpoints):
            run.append_history(row)
        if on_log is not None:
            on_log(dict(row))
        if "loss" in row:
            bar.set_postfix(loss=f"{row['loss']:.4g}", refresh=False)
            bar.update(int(row["step"]) - bar.n)

    return emit


def result(course: Course, done: Sequence[UnlearnTrainer]) -> TrainResult:
    """The weights of the best evaluation where a rule was given and one was found, else the last ones."""
    steps, best = (done[-1].step, done[-1].state.best_global_step) if done else (0, None)
    if best is not None:
        if best != done[-1].state.global_step:
            apply_delta(course.model, load_delta(done[-1].checkpoints.path(best) / DELTA))
        best += done[-1].place.first
    stopped = [trainer.stopped for trainer in done if trainer.stopped is not None]
    seconds = sum(trainer.seconds for trainer in done)
    return TrainResult(steps, seconds, stopped[-1] if stopped else None, best, course.delta())
