"""A recipe's phases: how many steps each has, what is done to the weights before it, and whom it is seen against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from menard_unlearn.corpus.batches import TokenBatch
from menard_unlearn.corpus.encoding import Encoder
from menard_unlearn.corpus.pairs import PairedDataset
from menard_unlearn.errors import UserError
from menard_unlearn.methods.base import Edit, Frozen, Phase, Recipe, Weights
from menard_unlearn.models.delta import apply_delta
from menard_unlearn.training.config import TrainerConfig
from menard_unlearn.training.frozen import FrozenModel, MakeFrozen
from menard_unlearn.training.trained import copies


@dataclass(frozen=True)
class Part:
    """A phase's part of the run."""

    phase: Phase
    first: int
    """Steps that are planned before it."""
    steps: int
    """0 where nothing is descended."""


def plan(phases: Sequence[Phase], max_steps: int) -> tuple[Part, ...]:
    """Divide the steps by the phases' shares, rounded; a phase that descends has one at least, and none is left over.

    Raises UserError where there are fewer steps than such phases, ValueError for shares that do not add up to 1.
    """
    if abs(sum(phase.share for phase in phases) - 1) > 1e-6:
        raise ValueError(f"the shares of the phases add up to {sum(phase.share for phase in phases)}, not to 1")
    steps = [0 if phase.method is None else max(1, round(phase.share * max_steps)) for phase in phases]
    if any(steps):
        largest = steps.index(max(steps))
        steps[largest] += max_steps - sum(steps)
        if steps[largest] < 1:
            names = ", ".join(phase.name for phase in phases)
            raise UserError(f"trainer.max_steps {max_steps} are too few for the phases {names}: give more")
    return tuple(Part(phase, sum(steps[:i]), steps[i]) for i, phase in enumerate(phases))


def check_recipe(recipe: Recipe, config: TrainerConfig, dataset: PairedDataset, gold: nn.Module | None) -> None:
    """Refuse, before any work, a recipe that cannot be carried out."""
    name, phases = type(recipe).__name__, recipe.phases()
    if gold is None and recipe.needs_gold():
        raise UserError(f"{name} is taught by the gold model, and there is none: set model.gold")
    if recipe.alternates() is not None and dataset.alternates is None:
        raise UserError(f"{name} needs other answers to the forgotten prompts: give PairedDataset its alternates")
    if config.lora is not None and any(phase.before is not None for phase in phases):
        raise UserError(f"{name} edits the weights themselves, which adapters do not hold: set trainer.lora=null")
    if config.best_metric is not None and phases[-1].method is None:
        raise UserError(f"{name} ends with an edit, so no step's weights are its result: set trainer.best_metric=null")
    for part in plan(phases, config.max_steps):
        if part.steps and config.warmup_steps >= part.steps:
            raise UserError(
                f"warmup_steps {config.warmup_steps} must be fewer than the {part.steps} steps of phase "
                f"{part.phase.name!r}: lower trainer.warmup_steps or raise trainer.max_steps"
            )


def carry_out(
    edit: Edit, model: nn.Module, trained: Mapping[str, nn.Parameter], base: Mapping[str, Tensor], seed: int
) -> None:
    """Edit the trained tensors in place."""
    apply_delta(model, edit.edit(Weights(copies(trained), base, lambda: fresh(model, list(trained), seed))))


def fresh(model: nn.Module, names: Sequence[str], seed: int) -> dict[str, Tensor]:
    """The tensors of a newly initialised model of the same configuration, fp32 on the CPU, from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = type(model)(model.config)
    parameters = dict(made.named_parameters())
    return {name: parameters[name].detach().float() for name in names}


@dataclass(frozen=True, eq=False)
class Teachers:
    """Whose quantities the phases' losses may see."""

    model: nn.Module
    """What is trained."""
    base: dict[str, Tensor]
    """Its trained tensors before the recipe."""
    gold: nn.Module | None
    sample: TokenBatch
    """Retained text that norms are measured on."""
    encoder: Encoder
    make_frozen: MakeFrozen
    """Makes the base's, which a cache may share between runs; what other teachers say belongs to one run."""

    def of(self, phase: Phase, previous: Mapping[str, Tensor]) -> Frozen:
        """The reference of a phase; `previous` are the trained tensors before its edit."""
        if phase.reference == "base":
            return self.make_frozen(self.model, self.base, self.sample, self.encoder)
        if phase.reference == "previous":
            return FrozenModel(self.model, previous, self.sample, self.encoder)
        if self.gold is None:
            raise UserError("there is no gold model: set model.gold")
        return FrozenModel(self.gold, {}, self.sample, self.encoder)
