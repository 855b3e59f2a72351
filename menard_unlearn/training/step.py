"""One optimizer step of unlearning: named terms, global counts, and what a method or wrapper makes of the gradient."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainingArguments

from menard_unlearn.corpus.batches import TokenItem, UnlearnBatch, collate, pack
from menard_unlearn.errors import UserError
from menard_unlearn.methods.kinds import GradientTransform, WeightWrapper
from menard_unlearn.models.delta import whole
from menard_unlearn.training.checkpoints import Checkpoints, describe
from menard_unlearn.training.config import TrainerConfig
from menard_unlearn.training.moments import MomentTaker
from menard_unlearn.training.objective import Objective

Row = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a descent stands in its run."""

    phase: str | None
    """Its name, for a column of the history; None where it is the only one."""
    first: int
    """Steps of the run before it."""
    followed: bool
    """Whether another descent begins where this one ends."""


class StepTrainer(Trainer):
    """Descends Σ over terms of weight · total / global count."""

    # The counts are those of the whole accumulated step, so nothing is left to divide by.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        objective: Objective,
        args: TrainingArguments,
        dataset: Dataset[tuple[TokenItem, ...]],
        pad_id: int,
        config: TrainerConfig,
        trained: Mapping[str, nn.Parameter],
        checkpoints: Checkpoints,
        place: Place,
    ) -> None:
        def batch(items: list[tuple[TokenItem, ...]]) -> UnlearnBatch:
            lay = pack if config.packing else collate
            sides = zip(("forget", "retain", "alternate"), zip(*items, strict=True), strict=False)
            return UnlearnBatch(*(lay(side, name, pad_id) for name, side in sides))

        collator = cast("Any", batch)  # transformers expects collators to make dicts
        super().__init__(model=objective, args=args, train_dataset=dataset, data_collator=collator)
        self.remove_callback(PrinterCallback)
        self.objective = objective
        self.config = config
        self.trained = trained
        self.checkpoints = checkpoints
        self.place = place
        self.learned = objective.method.initial_state()
        transforms = isinstance(objective.method, GradientTransform) and objective.method.needs_moments()
        self.moments = MomentTaker(objective.model, trained) if transforms else None
        self.shares: dict[str, Tensor] = {}
        self.terms: dict[str, float] = {}
        self.row: Row | None = None

    @property
    def step(self) -> int:
        """Optimizer steps of the run that are done."""
        return self.place.first + self.state.global_step

    def _prepare_inputs(self, inputs: UnlearnBatch) -> UnlearnBatch:
        return inputs.to(self.args.device)

    def _get_num_items_in_batch(self, batch_samples: list[UnlearnBatch], device: torch.device) -> dict[str, int]:
        """What each kind of term is divided by: its count over the step's micro-batches on every process."""
        local: Counter[str] = Counter()
        for batch in batch_samples:
            local.update(batch.counts)
        names = sorted(local)
        totals = self._over_processes(torch.tensor([local[name] for name in names], device=device))
        counts = dict(zip(names, totals.tolist(), strict=True))
        if isinstance(self.objective.wrapper, WeightWrapper) and batch_samples:
            self.objective.offset = self._offset(self.objective.wrapper, batch_samples, counts)
        return counts

    def _offset(
        self, wrapper: WeightWrapper, batches: list[UnlearnBatch], counts: Mapping[str, int]
    ) -> dict[str, Tensor]:
        """Where the step's forget terms are taken: it needs their gradient over all micro-batches and processes."""
        total = {name: torch.zeros_like(parameter) for name, parameter in self.trained.items()}
        for batch in batches:
            on_device = batch.to(self.args.device)
            found = self.objective.forget_gradient(on_device, counts, self._factors(), self.trained)
            total = {name: total[name] + gradient for name, gradient in found.items()}
        return wrapper.offset({name: self._over_processes(gradient) for name, gradient in total.items()})

    def _factors(self) -> dict[str, float]:
        """What the method multiplies its terms by at this step."""
        return self.objective.method.weights(self.state.global_step, self.learned)

    def compute_loss(
        self, model: nn.Module, inputs: UnlearnBatch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """This micro-batch's share of the step's loss."""
        if self.moments is not None:
            self.moments.forget, self.moments.counting = inputs.forget, False
        shares: dict[str, Tensor] = model(inputs, num_items_in_batch)
        if self.moments is not None:
            self.moments.counting, self.moments.scale = True, float(self.accelerator.num_processes)
        factors = self._factors()
        for name, share in shares.items():
            self.shares[name] = (
                self.shares.get(name, torch.zeros((), dtype=torch.float64, device=share.device)) + share.detach()
            )
        weighted = [factors[name] * share if name in factors else share for name, share in shares.items()]
        # Gradients are averaged over processes, and each holds only its part of the sum.
        return sum(weighted, torch.zeros((), device=self.args.device)) * self.accelerator.num_processes

    def floating_point_ops(self, inputs: UnlearnBatch) -> int:
        """Not counted: the base class would look for input_ids."""
        return 0

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        """Between the last backward pass of a step and its update: the only moment to refuse the update."""
        names = sorted(self.shares)
        totals = self._over_processes(torch.stack([self.shares[name] for name in names])).tolist()
        self.shares = {}
        self._check_reached()
        self._transform()
        norm = whole(nn.utils.clip_grad_norm_(self.trained.values(), self.args.max_grad_norm))
        values, factors = dict(zip(names, totals, strict=True)), self._factors()
        self.terms = {name: factors.get(name, 1.0) * value for name, value in values.items()}
        self.row = {
            "step": self.step + 1,
            "loss": sum(self.terms.values()),
            **self.terms,
            "learning_rate": self._get_learning_rate(),
            "grad_norm": float(norm),
            **{f"state/{name}": value for name, value in self.learned.items()},
        }
        self._check_finite(values | self.terms | self.row)
        if self.place.phase is not None:
            self.row["phase"] = self.place.phase
        self.learned = self.objective.method.next_state(self.learned, values)
        return norm

    def _transform(self) -> None:
        """Replace the step's gradients, which all processes share by now, by what the method makes of them."""
        method = self.objective.method
        if not isinstance(method, GradientTransform):
            return
        moments = {} if self.moments is None else self.moments.collect(self._over_processes)
        gradients = {name: p.grad for name, p in self.trained.items() if p.grad is not None}
        for name, gradient in method.transform(gradients, moments).items():
            gradients[name].copy_(gradient)

    def _check_finite(self, values: Mapping[str, float]) -> None:
        """Terms come first: a loss is not finite because one of them is not."""
        for name, value in values.items():
            if not math.isfinite(value):
                raise UserError(
                    f"{name} is {value} at step {self.step + 1}, training stopped before the update; "
                    f"{describe(self.checkpoints)}: lower trainer.learning_rate or set trainer.stop"
                )

    def _defer_fsdp_gradient_reduction(self) -> AbstractContextManager[None]:
        """Not deferred: what a micro-batch adds to a sharded gradient is divided at once, and takes no more room."""
        return nullcontext()

    def _over_processes(self, values: Tensor) -> Tensor:
        """Their sum over all processes, in each."""
        return cast("Tensor", self.accelerator.reduce(values, reduction="sum"))

    def _check_reached(self) -> None:
        """A trained tensor without a gradient is a pattern that does not fit the method: say so at once."""
        unreached = [name for name, parameter in self.trained.items() if parameter.grad is None]
        if unreached and self.state.global_step == 0:
            raise UserError(
                f"the loss of {type(self.objective.method).__name__} does not depend on {len(unreached)} of the "
                f"{len(self.trained)} trained tensors, {', '.join(unreached[:3])} among them: "
                "set trainer.trained to what it reaches"
            )
