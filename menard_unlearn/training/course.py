"""From a recipe's phases to descents, one after another."""

from __future__ import annotations

import atexit
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset
from transformers import TrainingArguments

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.pairs import PairedDataset
from menard_unlearn.methods.kinds import Wrapper
from menard_unlearn.run import RunDir
from menard_unlearn.training.ahead import keep, of_the_head
from menard_unlearn.training.checkpoints import Checkpoints
from menard_unlearn.training.config import TrainerConfig
from menard_unlearn.training.lora import adapters
from menard_unlearn.training.objective import Objective
from menard_unlearn.training.phases import Part, Teachers, carry_out
from menard_unlearn.training.preemption import Preemption
from menard_unlearn.training.sharding import shard
from menard_unlearn.training.step import Place
from menard_unlearn.training.trained import copies
from menard_unlearn.training.trainer import Hooks, UnlearnTrainer


@dataclass(frozen=True, eq=False)
class Course:
    """What all phases of a run have in common."""

    model: nn.Module
    trained: dict[str, nn.Parameter]
    dataset: PairedDataset
    pad_id: int
    config: TrainerConfig
    run: RunDir
    seed: int
    teachers: Teachers
    wrapper: Wrapper | None

    def follow(self, parts: Sequence[Part], hooks: Hooks, preemption: Preemption) -> list[UnlearnTrainer]:
        """Go through the phases until the end, or until a signal asks to leave; the descents that were made.

        A phase that was finished before is loaded from its last checkpoint, and edits are done anew, so that each phase
        finds the weights and the reference that it would have found without an interruption.
        """
        done: list[UnlearnTrainer] = []
        for part in parts:
            previous = copies(self.trained) if part.phase.reference == "previous" else {}
            if part.phase.before is not None:
                carry_out(part.phase.before, self.model, self.trained, self.teachers.base, self.seed)
            if part.phase.method is None:
                continue
            objective = Objective(self.model, part.phase.method, self.teachers.of(part.phase, previous), self.wrapper)
            if self.config.sharding == "fsdp2" and processes().use_distributed:
                self._divide(objective)
            first = done[-1].step if done else 0
            done.append(self._descent(objective, parts, part, first, hooks, preemption))
            done[-1].run(done[-1].checkpoints.newest())
            if done[-1].interrupted:
                break
        return done

    def _divide(self, objective: Objective) -> None:
        """Shard the model, after what needs it whole."""
        device, originals = next(self.model.parameters()).device, self.teachers.base
        keep(objective, self.dataset, self.pad_id, device)
        rest = of_the_head(self.model, originals)
        originals.clear()
        originals.update(rest)
        # No process trains before all have read and written what they need.
        processes().wait_for_everyone()
        shard(objective, self.trained, device)

    def _descent(
        self,
        objective: Objective,
        parts: Sequence[Part],
        part: Part,
        first: int,
        hooks: Hooks,
        preemption: Preemption,
    ) -> UnlearnTrainer:
        followed = any(other.steps for other in parts[parts.index(part) + 1 :])
        config = replace(self.config, max_steps=part.steps, best_metric=None if followed else self.config.best_metric)
        return UnlearnTrainer(
            objective,
            arguments(config, self.run, self.seed),
            self._items(parts, part),
            self.pad_id,
            config,
            self.trained,
            self._checkpoints(parts, part),
            hooks,
            preemption,
            Place(part.phase.name if len(parts) > 1 else None, first, followed),
        )

    def _items(self, parts: Sequence[Part], part: Part) -> Dataset[tuple[TokenItem, ...]]:
        """Each phase goes on in the data where the one before was planned to end."""
        if len(parts) == 1:
            return self.dataset
        begin, size = part.first * self.config.batch_size, part.steps * self.config.batch_size
        return Subset(self.dataset, range(begin, begin + size))

    def _checkpoints(self, parts: Sequence[Part], part: Part) -> Checkpoints:
        """One descent has the run's folder for itself; of several, each has a folder there."""
        folder = self.run.checkpoints_dir
        return Checkpoints(folder if len(parts) == 1 else folder / f"phase-{parts.index(part)}")

    def steps_kept(self, parts: Sequence[Part]) -> int:
        """Steps of the run that checkpoints hold: those of the finished phases, and of the one that was left."""
        found = [self._checkpoints(parts, part).newest() for part in parts if part.steps]
        return sum(checkpoint.step for checkpoint in found if checkpoint is not None)

    def delta(self) -> dict[str, Tensor]:
        """What was trained, as it is to be stored; of a sharded model the main process alone gets it."""
        values = copies(self.trained, keep=self.config.sharding == "none" or processes().is_main_process)
        return values if self.config.lora is None else adapters(self.model, self.config.lora, values)


def arguments(config: TrainerConfig, run: RunDir, seed: int) -> TrainingArguments:
    """Our configuration in transformers' words. Saving, logging and evaluating are the trainer's own."""
    args = TrainingArguments(
        output_dir=str(run.checkpoints_dir),
        max_steps=config.max_steps,
        per_device_train_batch_size=config.share(processes().num_processes),
        gradient_accumulation_steps=config.accumulation,
        learning_rate=config.learning_rate,
        # transformers' plain constant schedule passes over the warm-up
        lr_scheduler_type="constant_with_warmup" if config.schedule == "constant" else config.schedule,
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        # Infinity, because with 0 or None the hook would not be called in which the step is checked
        max_grad_norm=math.inf if config.max_grad_norm is None else config.max_grad_norm,
        optim="adamw_torch" if config.optimizer == "adamw" else "sgd",
        use_cpu=not torch.accelerator.is_available(),
        seed=seed,
        train_sampling_strategy="sequential",
        save_strategy="no",
        logging_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        logging_nan_inf_filter=False,
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
    )
    if args.n_gpu > 1:
        # One process drives one GPU; otherwise Trainer would split each batch by DataParallel, which cannot split ours.
        args._n_gpu = 1
    return args


def processes() -> PartialState:
    """The processes that train together; without an accelerator they are joined only if told that CPUs will train."""
    state = PartialState(cpu=not torch.accelerator.is_available())
    if state.use_distributed:
        # unregistered first, since every run of a sweep comes by here
        atexit.unregister(leave_processes)
        atexit.register(leave_processes)
    return state


def leave_processes() -> None:
    """Leave the process group before the interpreter ends: its threads, still running then, would abort the process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
