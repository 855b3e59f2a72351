"""The base model's quantities without a second model. Legend: B items, T tokens, V vocabulary, D width."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from menard_unlearn.corpus.batches import TokenBatch
from menard_unlearn.methods import base
from menard_unlearn.models import stump
from menard_unlearn.models.delta import swapped
from menard_unlearn.training.trained import mixed_precision


class FrozenModel:
    """Runs the model with the trained tensors' first values in place; implements `methods.base.Frozen`.

    Costs one copy of the trained tensors, kept on the CPU, and no state in between: the same batch always has the same
    quantities, in a resumed run too.
    """

    def __init__(self, model: nn.Module, originals: Mapping[str, Tensor], sample: TokenBatch) -> None:
        """`originals`: the trained tensors before the first step. `sample`: retained text for `mean_norm`."""
        self._model = model
        self._originals = originals
        self._sample = sample
        self._norms: dict[int, float] = {}

    @torch.no_grad()
    def logits(self, batch: TokenBatch) -> Tensor:
        """logits_BTV."""
        with swapped(self._model, self._originals):
            return base.logits(self._model, batch)

    @torch.no_grad()
    def sequence_logprob(self, batch: TokenBatch) -> Tensor:
        """logprob_B."""
        with swapped(self._model, self._originals):
            return base.sequence_logprob(self._model, batch)

    @torch.no_grad()
    def hidden(self, batch: TokenBatch, layer: int) -> Tensor:
        """hidden_BTD."""
        with swapped(self._model, self._originals):
            return stump.hidden(self._model, batch.input_ids_BT, batch.attention_mask_BT, layer)

    def mean_norm(self, layer: int) -> float:
        """Taken once a layer."""
        if layer not in self._norms:
            device = next(self._model.parameters()).device
            with mixed_precision(self._model, device.type):
                norm_BT = self.hidden(self._sample.to(device), layer).float().norm(dim=-1)
            # The first position's norm is an outlier, in large models hundreds of times that of the others.
            real_BT = self._sample.attention_mask_BT.to(device).bool()
            real_BT[:, 0] = False
            self._norms[layer] = norm_BT[real_BT].double().mean().item()
        return self._norms[layer]
