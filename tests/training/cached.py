"""Runs on a tiny model that share a cache, and the items that they train on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from tiny_training import ENCODER, PAD, items, tiny_model

from menard_unlearn.corpus.batches import TokenBatch, UnlearnBatch, collate, pack
from menard_unlearn.methods.base import Method
from menard_unlearn.methods.kinds import LossWrapper
from menard_unlearn.methods.npo import NPO
from menard_unlearn.methods.rmu import RMU
from menard_unlearn.models.stump import Prefix
from menard_unlearn.training.cache import CacheConfig, CachedFrozen, caching
from menard_unlearn.training.frozen import FrozenModel
from menard_unlearn.training.lora import LoraConfig, inject
from menard_unlearn.training.trained import copies, prepare

DOWN = (r"\.layers\.[567]\.mlp\.down_proj\.weight$",)
SIDES = {"forget": items(9, "forget"), "retain": items(11, "retain")}
SIDES["alternate"] = [
    dataclasses.replace(other, id=item.id) for item, other in zip(SIDES["forget"], items(9, "other"), strict=True)
]
RMU_7, NPO_KL = RMU(7, 5.0, 1200.0, 0), NPO(0.1, 1.0, "kl")
SMALL_BLOCKS = "menard_unlearn.training.layout.BLOCK_TOKENS", 16
"""Blocks of one item or a few, of which a batch needs several."""


def config(folder: Path | None, max_gb: float = 1.0, kl_top_k: int | None = None) -> CacheConfig:
    return CacheConfig(None if folder is None else str(folder), max_gb, kl_top_k)


def pair(seed: int, n: int = 4, packing: bool = True) -> UnlearnBatch:
    """Some items of each side, the same of forget and alternate, in an order of the seed's."""
    generator = torch.Generator().manual_seed(seed)
    lay = pack if packing else collate
    forget, retain = (torch.randperm(len(SIDES[s]), generator=generator)[:n].tolist() for s in ("forget", "retain"))
    chosen = {"forget": forget, "retain": retain, "alternate": forget}
    return UnlearnBatch(*(lay([SIDES[side][i] for i in places], side, PAD) for side, places in chosen.items()))


class Run:
    """A model whose trained tensors have moved, and the base's quantities."""

    def __init__(
        self,
        settings: CacheConfig,
        trained: Sequence[str] | LoraConfig = DOWN,
        seed: int = 0,
        moved: float = 0.02,
        wide: bool = False,
    ) -> None:
        self.model = tiny_model()
        if isinstance(trained, LoraConfig):
            self.trained = inject(self.model, trained, (), 0)
        else:
            self.trained = prepare(self.model, trained)
        if wide:
            self.model.double()
        make = caching(settings, "base", "float32", SIDES)
        originals = copies(self.trained)
        # Another seed draws another sample
        self.frozen = make(self.model, originals, collate(SIDES["retain"][: 8 - seed], "retain", PAD), ENCODER)
        generator = torch.Generator().manual_seed(5 + seed)
        with torch.no_grad():
            for parameter in self.trained.values():
                parameter += moved * torch.randn(parameter.shape, generator=generator)

    @property
    def filled(self) -> int:
        assert isinstance(self.frozen, CachedFrozen)
        return self.frozen.filled

    def step(self, method: Method, batch: UnlearnBatch, wrapper: LossWrapper | None = None) -> dict[str, torch.Tensor]:
        """Loss and gradients; the weights stay."""
        self.model.zero_grad()
        terms = (
            method.loss(self.model, batch, self.frozen)
            if wrapper is None
            else wrapper.loss(method, self.model, batch, self.frozen)
        )
        loss = torch.stack([term.total / term.count for term in terms.values()]).sum()
        loss.backward()
        gradients = {name: p.grad for name, p in self.trained.items() if p.grad is not None}
        return {"loss": loss.detach()} | gradients


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and float((one - other).detach().norm()) <= 1e-5 * float(other.detach().norm())


def near(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    assert one.keys() == other.keys() and len(one) > 1
    return all(close(value, other[name]) for name, value in one.items())


def equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(value, other[name]) for name, value in one.items())


class Bare(FrozenModel):
    """Without a prefix."""

    def prefix(self, batch: TokenBatch) -> Prefix | None:
        return None
