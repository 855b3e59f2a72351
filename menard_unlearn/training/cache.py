"""The base model's quantities, computed once for all runs of a sweep and kept on the disk.

Legend: B items, T tokens, N scored tokens, D width, R tokens that a top-k reference lists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from menard_unlearn.corpus.batches import TokenBatch, TokenItem, collate
from menard_unlearn.corpus.encoding import Encoder
from menard_unlearn.errors import UserError
from menard_unlearn.files import canonical, digest_text
from menard_unlearn.methods.base import Frozen, token_kl
from menard_unlearn.models.cut import Cut, record, shallow
from menard_unlearn.models.predictions import Predictions, halves, with_head_of
from menard_unlearn.models.stump import Prefix, residuals, text_config
from menard_unlearn.training.frozen import FrozenModel, MakeFrozen
from menard_unlearn.training.layout import Column, Side, one, scored, tokens
from menard_unlearn.training.shelf import Shelf
from menard_unlearn.training.store import Store
from menard_unlearn.training.trained import mixed_precision

ANEW = "it is computed anew at every step"
ATTEMPTS = 3
"""At reading what was found or computed a moment ago."""


@dataclass(frozen=True)
class CacheConfig:
    """Where the frozen base's quantities are kept between steps, runs and seeds, and what of KL references is."""

    directory: str | None
    """Folder, shared by all runs that are to know of each other's work; null computes everything anew."""
    max_gb: float
    """What a run may keep there, 1 GB = 10⁹ bytes; what goes beyond is computed anew at every step."""
    kl_top_k: int | None
    """trainer.kl_top_k, which changes results: the base's k likeliest tokens and all others as one, or, where it is
    null, its final states, from which the head makes whole distributions."""

    def __post_init__(self) -> None:
        if self.max_gb < 0:
            raise ValueError(f"max_gb {self.max_gb} must not be below 0")
        if self.kl_top_k is not None and self.kl_top_k < 1:
            raise ValueError(f"kl_top_k {self.kl_top_k} must be at least 1, or null for whole distributions")


def caching(config: CacheConfig, identity: str, dtype: str, items: Mapping[str, Sequence[TokenItem]]) -> MakeFrozen:
    """What makes the base's quantities for a training.

    `identity` and `dtype`: of the base model's weights. `items`: all that may be trained on, by side ("forget",
    "retain", "alternate"), the same for every seed.
    """
    sides = {name: Side(name, side) for name, side in items.items()} if config.directory is not None else {}

    def make(model: nn.Module, originals: Mapping[str, Tensor], sample: TokenBatch, encoder: Encoder) -> Frozen:
        if config.directory is None:
            return FrozenModel(model, originals, sample, encoder, config.kl_top_k)
        name = f"{digest_text(identity)[:16]}-{dtype}"
        if dtype != "float32":
            # Trained tensors are in fp32, and so is what mixed precision makes of them
            name += f"-{digest_text(canonical(sorted(originals)))[:8]}"
        shelf = Shelf(Path(config.directory) / name, config.max_gb, sides, {"model": identity, "dtype": dtype})
        return CachedFrozen(model, originals, sample, encoder, config.kl_top_k, shelf)

    return make


class CachedFrozen(FrozenModel):
    """Quantities are read from stores where a batch holds items that the stores know, else computed.

    What is missing is computed in whole blocks, each as the same batch whatever the run's own batches are: values do
    not depend on seed, process or order, and a resumed run reads the same bits.
    """

    def __init__(
        self,
        model: nn.Module,
        originals: Mapping[str, Tensor],
        sample: TokenBatch,
        encoder: Encoder,
        kl_top_k: int | None,
        shelf: Shelf,
    ) -> None:
        super().__init__(model, originals, sample, encoder, kl_top_k)
        self._shelf = shelf
        self._known: WeakKeyDictionary[TokenBatch, Side | None] = WeakKeyDictionary()
        self._streams: dict[int, Column] = {}
        self.filled = 0
        """Blocks that this process has computed."""

    def _make_prefix(self, batch: TokenBatch) -> Prefix:
        """The deepest that there is room for."""
        side = self._side(batch)
        if side is None:
            return super()._make_prefix(batch)
        for cut in self._cuts():
            columns = [Column(form.width, form.dtype) for _, form in cut.pieces]
            store = self._shelf.store(side, _name(cut), tokens, columns, "a smaller prefix, or none, is kept")
            if store is not None:
                (found,) = self._kept(
                    [store], batch, lambda block, cut=cut: [_real(record(self._model, block.inputs, cut), block)]
                )
                return cut.prefix(spread(found, batch))
        return super()._make_prefix(batch)

    def _cuts(self) -> list[Cut]:
        deep = self.cut()
        return [deep] if not deep.spared else [deep, shallow(deep)]

    def sequence_logprob(self, batch: TokenBatch) -> Tensor:
        """logprob_B."""
        store = self._store(batch, "logprob", one, [Column(1, torch.float64)])
        if store is None:
            return super().sequence_logprob(batch)
        ((logprob_B1,),) = self._kept(
            [store], batch, lambda block: [[super(CachedFrozen, self).sequence_logprob(block)[:, None]]]
        )
        return logprob_B1[:, 0].to(torch.float64 if self._wide else torch.float32)

    def kl(self, own: Predictions, batch: TokenBatch) -> Tensor:
        """kl_N; of whole distributions the base's final states are kept, D numbers a token where logits are V."""
        if self._top_k is not None:
            return super().kl(own, batch)
        store = self._store(batch, "final", scored, [Column(own.states_ND.shape[-1], own.states_ND.dtype)])
        if store is None:
            return super().kl(own, batch)
        ((states_ND,),) = self._kept(
            [store], batch, lambda block: [[super(CachedFrozen, self).predictions(block).states_ND]]
        )
        found = Predictions(states_ND, batch.target_N, halves(self._model).head)
        return own.map(token_kl, with_head_of(self._model, found, self._originals))

    def top_k(self, batch: TokenBatch) -> tuple[Tensor, Tensor, Tensor]:
        """token_NR, logprob_NR and rest_N."""
        size = min(self._top_k or 1, text_config(self._model).vocab_size)
        number = torch.float64 if self._wide else torch.float32
        columns = [Column(size, torch.int32), Column(size, number), Column(1, number)]
        store = self._store(batch, f"kl-top{size}", scored, columns)
        if store is None:
            return super().top_k(batch)
        ((token_NR, logprob_NR, rest_N1),) = self._kept(
            [store], batch, lambda block: [super(CachedFrozen, self).top_k(block)]
        )
        return token_NR.long(), logprob_NR, rest_N1[:, 0]

    def states(self, batch: TokenBatch, layers: Sequence[int]) -> tuple[Tensor, ...]:
        """states_ND of each layer."""
        stores = [self._store(batch, f"states-L{layer}", scored, [self._stream(layer)]) for layer in layers]
        kept = [store for store in stores if store is not None]
        if len(kept) < len(stores):
            return super().states(batch, layers)
        found = self._kept(
            kept, batch, lambda block: [[states_ND] for states_ND in super(CachedFrozen, self).states(block, layers)]
        )
        return tuple(states_ND.float() for (states_ND,) in found)

    @property
    def _wide(self) -> bool:
        """Whether the model computes in float64."""
        return next(self._model.parameters()).dtype == torch.float64

    def _stream(self, layer: int) -> Column:
        """The form of the states after a layer."""
        if layer not in self._streams:
            with torch.no_grad(), mixed_precision(self._model, self._device.type):
                (hidden_BTD,) = residuals(self._model, self._few_tokens, [layer], None)
            self._streams[layer] = Column(hidden_BTD.shape[-1], hidden_BTD.dtype)
        return self._streams[layer]

    def _store(
        self, batch: TokenBatch, quantity: str, rows: Callable[[TokenItem], int], columns: Sequence[Column]
    ) -> Store | None:
        side = self._side(batch)
        return None if side is None else self._shelf.store(side, quantity, rows, columns, ANEW)

    def _side(self, batch: TokenBatch) -> Side | None:
        """The side whose items the batch holds, tokens and prompts alike; a method may have changed either."""
        if batch not in self._known:
            side = self._shelf.sides.get(batch.name)
            self._known[batch] = side if side is not None and side.holds(batch) else None
        return self._known[batch]

    @torch.no_grad()
    def _kept(
        self, stores: Sequence[Store], batch: TokenBatch, compute: Callable[[TokenBatch], Sequence[Sequence[Tensor]]]
    ) -> list[list[Tensor]]:
        """values_ND of each store's columns: the rows of the batch's items, one item after another, on its device.

        Blocks that a store lacks are computed first; `compute` gives the columns of each store.
        """
        side, device = stores[0].layout.side, batch.input_ids_BT.device

        def missing() -> list[int]:
            return sorted({block for store in stores for block in store.missing(batch.ids)})

        def work(number: int) -> None:
            block = collate(side.blocks[number], side.name, self._encoder.pad_id).to(device)
            with mixed_precision(self._model, device.type):
                values = compute(block)
            for store, columns in zip(stores, values, strict=True):
                store.write(number, columns)
            self.filled += 1

        for _ in range(ATTEMPTS):
            self._shelf.claims(side).settle(missing, work)
            read = [store.read(batch.ids) for store in stores]
            found = [columns for columns in read if columns is not None]
            if len(found) == len(stores):
                return [[values_ND.to(device) for values_ND in columns] for columns in found]
        folder = next(store.folder for store, columns in zip(stores, read, strict=True) if columns is None)
        raise UserError(
            f"{folder} does not keep what is written there: set cache.directory to another disk, or to null"
        )


def spread(columns: Sequence[Tensor], batch: TokenBatch) -> list[Tensor]:
    """values_BTD of each column: its values_ND where the batch has the items' tokens, 0 on padding."""
    real_BT = batch.attention_mask_BT.bool()
    found = []
    for values_ND in columns:
        values_BTD = values_ND.new_zeros(*real_BT.shape, values_ND.shape[-1])
        values_BTD[real_BT] = values_ND
        found.append(values_BTD)
    return found


def _real(values_BTD: Sequence[Tensor], batch: TokenBatch) -> list[Tensor]:
    return [value_BTD[batch.attention_mask_BT.bool()] for value_BTD in values_BTD]


def _name(cut: Cut) -> str:
    """Of the store; cuts of one layer differ by what they keep."""
    kept = [name for name, _ in cut.pieces]
    return f"prefix-L{cut.layer}" + (f"-{digest_text(canonical(kept))[:8]}" if len(kept) > 1 else "")
