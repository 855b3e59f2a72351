"""The base's quantities, computed while every process still has the whole model, and only read afterwards.

A sharded model is run by all processes at once or not at all, and holds the trained values alone: neither lets one
process compute what it happens to lack. So what a method asks of the base is found out by asking the method, all of it
is put into the cache, and the model is divided after that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from menard_unlearn.corpus.batches import TokenBatch, TokenItem, UnlearnBatch, collate
from menard_unlearn.corpus.pairs import PairedDataset
from menard_unlearn.errors import UserError
from menard_unlearn.methods.base import Frozen
from menard_unlearn.models.predictions import Predictions, output_embeddings
from menard_unlearn.models.stump import Prefix, decoder_layers
from menard_unlearn.training.layout import Side
from menard_unlearn.training.objective import Objective
from menard_unlearn.training.sharding import KEY
from menard_unlearn.training.trained import mixed_precision

SIDES = ("forget", "retain", "alternate")


class NotKeptError(UserError):
    """A quantity would have to be computed anew."""


class Kept:
    """Another reference, of which it is noted what is asked; once closed it must not run the model.

    Implements `methods.base.Frozen`.
    """

    def __init__(self, frozen: Frozen, model: nn.Module) -> None:
        self._frozen = frozen
        self._asked: dict[tuple[Any, ...], Callable[[TokenBatch], object]] = {}
        self._asking = False
        self.closed = False
        for layer in decoder_layers(model):
            layer.register_forward_pre_hook(self._refuse, prepend=True)

    def _refuse(self, *_: Any) -> None:
        if self.closed and self._asking:
            raise NotKeptError(
                f"{KEY} needs all that this method asks of the base in the cache, and some of it is not kept: set "
                "cache.directory and a larger cache.max_gb; if that does not help, trainer.sharding=none"
            )

    def _ask(self, key: tuple[Any, ...], batch: TokenBatch, ask: Callable[[TokenBatch], Any]) -> Any:
        if not self.closed:
            self._asked.setdefault((*key, batch.name), ask)
        self._asking = True
        try:
            return ask(batch)
        finally:
            self._asking = False

    def prefix(self, batch: TokenBatch) -> Prefix | None:
        """None where it is not kept: it saves work and changes nothing."""
        try:
            return self._ask(("prefix",), batch, self._frozen.prefix)
        except NotKeptError:
            return None

    def predictions(self, batch: TokenBatch) -> Predictions:
        """Kept of no base, so that only those of another model can be had."""
        return self._ask(("predictions",), batch, self._frozen.predictions)

    def conditioned(self, batch: TokenBatch, text: str) -> Predictions:
        """Likewise."""
        return self._ask(("conditioned", text), batch, lambda some: self._frozen.conditioned(some, text))

    def sequence_logprob(self, batch: TokenBatch) -> Tensor:
        """logprob_B."""
        return self._ask(("logprob",), batch, self._frozen.sequence_logprob)

    def kl(self, own: Predictions, batch: TokenBatch) -> Tensor:
        """kl_N. The base's half of it is what is computed ahead, so nothing is compared with it then."""
        nothing = Predictions(own.states_ND[:0].detach(), own.target_N[:0], own.head)
        if not self.closed:
            self._asked.setdefault(("kl", batch.name), lambda some: self._frozen.kl(nothing, some))
        return self._ask(("kl",), batch, lambda some: self._frozen.kl(own, some))

    def states(self, batch: TokenBatch, layers: Sequence[int]) -> tuple[Tensor, ...]:
        """states_ND of each layer."""
        return self._ask(("states", *layers), batch, lambda some: self._frozen.states(some, layers))

    def mean_norm(self, layer: int) -> float:
        """Computed once, before."""
        return self._ask_number(layer)

    def _ask_number(self, layer: int) -> float:
        self._asking = True
        try:
            return self._frozen.mean_norm(layer)
        finally:
            self._asking = False

    def asked(self, side: str) -> list[Callable[[TokenBatch], object]]:
        """What was asked about a side."""
        return [ask for key, ask in self._asked.items() if key[-1] == side]


@torch.no_grad()
def keep(objective: Objective, dataset: PairedDataset, pad_id: int, device: torch.device) -> None:
    """Compute all that the method will ask of its reference, and put in its place one that only reads.

    The processes of a machine share the work. Raises UserError where the cache does not keep it.
    """
    kept = Kept(objective.frozen, objective.model)
    objective.frozen = kept
    sides = zip(SIDES, zip(dataset[0], dataset[min(1, len(dataset) - 1)], strict=True), strict=False)
    few = UnlearnBatch(*(collate(list(items), name, pad_id) for name, items in sides)).to(device)
    objective(few, few.counts)
    kept.closed = True
    objective(few, few.counts)  # refused here if at all, before hours of work
    kept.closed = False
    place, places = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    for name, items in _items(dataset).items():
        for block in Side(name, items).blocks[place::places] if kept.asked(name) else ():
            batch = collate(block, name, pad_id).to(device)
            with mixed_precision(objective.model, device.type):
                for ask in kept.asked(name):
                    ask(batch)
    kept.closed = True


def _items(dataset: PairedDataset) -> Mapping[str, Sequence[TokenItem]]:
    others = [] if dataset.alternates is None else list(dataset.alternates.values())
    return {"forget": dataset.forget, "retain": dataset.retain, "alternate": others}


def of_the_head(model: nn.Module, originals: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of those first values that are still needed: the head's, which turns kept states into distributions."""
    head = output_embeddings(model)
    own = {id(parameter) for parameter in head.parameters()} if head is not None else set()
    names = [name for name, parameter in model.named_parameters() if id(parameter) in own and name in originals]
    return {name: originals[name].clone() for name in names}
