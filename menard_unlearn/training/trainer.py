"""transformers.Trainer, told what an unlearning run is: steps of our own, deltas as checkpoints.

What is overridden, here and in `step`: how a loss is made of terms and normalised, what is logged, what a checkpoint
holds and when one is written. What is not: accumulation, distribution, optimizer, schedule, resuming at its batch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset
from transformers import TrainerState, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.models.delta import apply_delta, load_delta, save_delta
from menard_unlearn.models.stump import text_config
from menard_unlearn.training.checkpoints import DELTA, Checkpoint, Checkpoints, writing
from menard_unlearn.training.config import TrainerConfig
from menard_unlearn.training.objective import Objective
from menard_unlearn.training.preemption import Preemption
from menard_unlearn.training.sharding import divided_state, gathered, is_sharded, whole_state
from menard_unlearn.training.step import Place, StepTrainer
from menard_unlearn.training.trained import copies

STATE = "state.json"
"""A method's learned numbers, in a checkpoint."""


@dataclass(frozen=True)
class Hooks:
    """What happens around a step, apart from the step."""

    emit: Callable[[Mapping[str, Any]], None]
    """Takes each row of the history; called on the main process only."""
    evaluate: Callable[[int], Mapping[str, Any]] | None
    """Measures the model as it is after a step; called on every process."""
    evaluate_every: int
    """Steps between evaluations, the last step always among them; 0 for none."""


class UnlearnTrainer(StepTrainer):
    """A descent from its first step, or from a checkpoint, to its end."""

    def __init__(
        self,
        objective: Objective,
        args: TrainingArguments,
        dataset: Dataset[tuple[TokenItem, ...]],
        pad_id: int,
        config: TrainerConfig,
        trained: Mapping[str, nn.Parameter],
        checkpoints: Checkpoints,
        hooks: Hooks,
        preemption: Preemption,
        place: Place,
    ) -> None:
        super().__init__(objective, args, dataset, pad_id, config, trained, checkpoints, place)
        self.hooks = hooks
        self.preemption = preemption
        self.stopped: str | None = None
        self.interrupted = False
        self.begun = time.monotonic()
        self.earlier_seconds = 0.0
        self.vocabulary: int = text_config(objective.model).vocab_size

    @property
    def seconds(self) -> float:
        """Time spent training, over all sessions of the run."""
        return self.earlier_seconds + time.monotonic() - self.begun

    def run(self, checkpoint: Checkpoint | None) -> None:
        """Train to the end: from a checkpoint as if nothing had happened, and not at all where that is the end."""
        try:
            self._run(checkpoint)
        finally:
            if self.moments is not None:
                self.moments.remove()

    def _run(self, checkpoint: Checkpoint | None) -> None:
        if checkpoint is None:
            self.train()
            return
        self.earlier_seconds = checkpoint.seconds
        if checkpoint.stopped is None and checkpoint.step < self.config.max_steps:
            self.train(resume_from_checkpoint=str(checkpoint.path))
            return
        self.stopped = checkpoint.stopped
        self.state = TrainerState.load_from_json(str(checkpoint.path / "trainer_state.json"))
        self._load_from_checkpoint(str(checkpoint.path))

    def _maybe_log_save_evaluate(
        self,
        tr_loss: Tensor,
        grad_norm: Tensor | float | None,
        model: nn.Module,
        trial: Any,
        epoch: float,
        ignore_keys_for_eval: list[str] | None,
        start_time: float,
        learning_rate: float | None = None,
    ) -> None:
        if self.row is None:  # Called once more at the end of an epoch
            return
        row, self.row = self.row, None
        step = self.state.global_step
        self._emit(row)
        self.stopped = self._reason_to_stop()
        last = self.stopped is not None or step >= self.config.max_steps
        best = self._evaluate_if_due(self.step, last)
        self.interrupted = self._asked_to_end()
        every = self.config.checkpoint_every
        due = (last and self.place.followed) or (every > 0 and (last or step % every == 0))
        if best or due or self.interrupted:
            self._save_checkpoint(model, trial)
        self.control.should_training_stop = last or self.interrupted

    def _reason_to_stop(self) -> str | None:
        """By the rule, which of several phases holds for those that have its term."""
        rule = self.config.stop
        if rule is None or (self.place.phase is not None and rule.term not in self.terms):
            return None
        return rule.reason(self.terms, self.vocabulary, self.step)

    def _asked_to_end(self) -> bool:
        """Whether a signal reached any process, so that all leave after the same step."""
        received = torch.tensor(int(self.preemption.received is not None), device=self.args.device)
        return bool(self._over_processes(received).item())

    def _emit(self, row: Mapping[str, Any]) -> None:
        if self.is_world_process_zero():
            self.hooks.emit(row)

    def _evaluate_if_due(self, step: int, last: bool) -> bool:
        """Evaluate, and say whether these are the best weights so far."""
        every, evaluate = self.hooks.evaluate_every, self.hooks.evaluate
        if evaluate is None or every == 0 or not (last or step % every == 0):
            return False
        with gathered(self.objective):
            metrics = evaluate(step)
        phase = {} if self.place.phase is None else {"phase": self.place.phase}
        self._emit({"step": step, **phase, **{f"eval/{name}": value for name, value in metrics.items()}})
        value = self.config.metric(metrics)
        if value is None or not self.config.better(value, self.state.best_metric):
            return False
        self.state.best_metric, self.state.best_global_step = value, self.state.global_step
        return True

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Rows are made in `_clip_grad_norm`, every step one, and go to the history."""

    # Checkpoints

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Delta, optimizer, schedule, random states and trainer state; keeps this checkpoint and the best one."""
        step, main = self.state.global_step, self.is_world_process_zero()
        aside = self.checkpoints.aside(step)
        with writing(aside, self.checkpoints):
            if main:
                self.checkpoints.begin(step)
            self.accelerator.wait_for_everyone()
            self._save_rng_state(str(aside))
            weights, optimizer = copies(self.trained, keep=main), self._whole_optimizer(keep=main)
            if main:
                save_delta(aside / DELTA, weights, identity=f"checkpoint-{step}", dtype=torch.float32)
                torch.save(optimizer, aside / OPTIMIZER_NAME)
                torch.save(cast("LRScheduler", self.lr_scheduler).state_dict(), aside / SCHEDULER_NAME)
                self.state.save_to_json(str(aside / "trainer_state.json"))
                (aside / STATE).write_text(json.dumps(self.learned))
            self.accelerator.wait_for_everyone()
            if main:
                self.checkpoints.complete(step, self.seconds, self.stopped)
                self.checkpoints.keep(step, self.state.best_global_step)
            self.accelerator.wait_for_everyone()

    def _whole_optimizer(self, keep: bool) -> dict[str, Any]:
        """Its state, the same whatever the number of processes; sharded, all of them are needed to say it."""
        return whole_state(cast("Optimizer", self.optimizer).state_dict(), keep)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        folder, optimizer = Path(checkpoint), cast("Optimizer", self.optimizer)
        # Sharded, a process reads a part of the file and leaves the rest where it is
        lazily = is_sharded(self.objective)
        state = torch.load(folder / OPTIMIZER_NAME, map_location="cpu", weights_only=True, mmap=lazily)
        optimizer.load_state_dict(divided_state(state, optimizer))
        cast("LRScheduler", self.lr_scheduler).load_state_dict(torch.load(folder / SCHEDULER_NAME, weights_only=True))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        folder = Path(resume_from_checkpoint)
        apply_delta(self.objective.model, load_delta(folder / DELTA))
        self.learned = json.loads((folder / STATE).read_text())
