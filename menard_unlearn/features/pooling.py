"""What each feature does in each piece: one value a document, made while the tokens stream by.

A document's activations lie in memory while it is pooled, never those of all; no layer after the autoencoder's runs.

Legend: P pieces, B rows, T tokens, D width, N kept tokens of a piece, F features.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.tokens import context_length, in_batches
from menard_unlearn.features.clamp import fitted
from menard_unlearn.features.hooks import kept_hidden
from menard_unlearn.features.pieces import Piece, Pieces
from menard_unlearn.features.sae import Sae
from menard_unlearn.models.likelihood import evaluating


@dataclass(frozen=True, eq=False)
class PooledActivations:
    """A row a piece, in the order of the pieces."""

    mean_PF: NDArray[np.float32]
    """Mean activation over the piece's tokens, special ones left out."""
    active_PF: NDArray[np.float32]
    """Share of these tokens at which the feature is active."""
    tokens_P: NDArray[np.int64]
    """How many tokens these are."""
    max_F: NDArray[np.float32] | None
    """The autoencoder's own largest activations, the unit of a clamp; None where it has none."""

    def frequency(self, chosen_P: NDArray[np.bool_]) -> NDArray[np.float64]:
        """frequency_F: share of the tokens of these pieces at which a feature is active."""
        weight_P = self.tokens_P[chosen_P] / self.tokens_P[chosen_P].sum()
        return weight_P @ self.active_PF[chosen_P]


@torch.inference_mode()
def pooled(
    model: PreTrainedModel, sae: Sae, pieces: Pieces, special: Collection[int], batch_size: int
) -> PooledActivations:
    """Pool the activations of every piece; neither batch size nor padding changes a value by more than rounding.

    Raises UserError for an SAE of another width or layer, for pieces that the model's window does not hold, and for
    one that consists of special tokens.
    """
    sae = fitted(model, sae)
    refuse_long(pieces, context_length(model))
    _refuse_special(pieces, special)
    device = next(model.parameters()).device
    shape = (len(pieces.every), sae.n_features)
    mean_PF, active_PF = np.empty(shape, np.float32), np.empty(shape, np.float32)
    tokens_P = np.empty(shape[0], np.int64)
    with evaluating(model):
        for places, batch in in_batches([piece.item for piece in pieces.every], batch_size, padding=0):
            batch = batch.to(device)
            hidden_BTD, kept_BT = kept_hidden(model, batch, sae.layer, special)
            for place, hidden_TD, kept_T in zip(places, hidden_BTD, kept_BT, strict=True):
                mean_PF[place], active_PF[place] = _pool(sae, hidden_TD[kept_T])
                tokens_P[place] = int(kept_T.sum())
    max_F = None if sae.max_F is None else sae.max_F.cpu().numpy()
    return PooledActivations(mean_PF, active_PF, tokens_P, max_F)


def _pool(sae: Sae, hidden_ND: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and share of activity over the tokens of one piece."""
    a_NF = sae.encode(hidden_ND)
    mean_F = a_NF.sum(0, dtype=torch.float64) / len(a_NF)
    active_F = (a_NF > 0).sum(0) / len(a_NF)
    return mean_F.float().cpu().numpy(), active_F.float().cpu().numpy()


def refuse_long(pieces: Pieces, context: int | None) -> None:
    """Raise UserError for pieces that a model of this context, in tokens, does not hold; None sets no limit."""
    longest = max(len(piece.item.ids) for piece in pieces.every)
    if context is not None and longest > context:
        raise UserError(
            f"pieces have up to {longest} tokens, the model's window holds {context}: lower ranking.pieces.tokens"
        )


def _refuse_special(pieces: Pieces, special: Collection[int]) -> None:
    def bare(piece: Piece) -> bool:
        return all(token in special for token in piece.item.ids)

    if empty := [piece.id for piece in pieces.every if bare(piece)]:
        raise UserError(f"{empty[0]} has special tokens alone: remove them from the text, or the work")
