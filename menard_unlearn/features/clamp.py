"""Clamp features of a sparse autoencoder while a model is scored or generates (Scaling Monosemanticity, 2024).

    x' = decode(a with a_f := c) + (x − decode(a))  =  x + Σ_f (c_f − a_f) · W_dec[f],    c_f = k_f · max a_f

The right-hand side needs no reconstruction, so a feature that already stands at c changes nothing, to the bit.

Legend: B rows, T tokens, D width, S clamped features.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel

from menard_unlearn.errors import UserError
from menard_unlearn.features.hooks import Edit, Positions, editing, special_ids
from menard_unlearn.features.sae import Sae
from menard_unlearn.models.stump import decoder_layers

Where = Callable[[Positions], Tensor]
"""positions → where_BT, bool: the tokens at which the clamp holds."""


@contextmanager
def clamp(
    model: PreTrainedModel,
    sae: Sae,
    strengths: Mapping[int, float],
    *,
    where: Where | None = None,
    special: Collection[int] | None = None,
) -> Iterator[None]:
    """Within the block the features stand at k times their largest activation, `strengths` being feature → k.

    Special and padding positions are left alone, and with `where` all that it does not name. `special` is
    `special_ids` of the model alone unless given. An empty mapping is an exact no-op. A key-value cache must not cross
    the border of the block. Raises UserError for an SAE of another width or layer, a feature that it has not, and an
    SAE whose largest activations nobody measured.
    """
    sae = fitted(model, sae)
    edit = clamping(sae, strengths, where)
    with editing(model, sae.layer, edit, special_ids(model) if special is None else special):
        yield


def fitted(model: PreTrainedModel, sae: Sae) -> Sae:
    """The SAE on the model's device. Raises UserError where it was made for another width or layer."""
    weight = next(model.parameters())
    width = int(model.config.get_text_config(decoder=True).hidden_size)
    sae.refuse_unfit(width, len(decoder_layers(model)), type(model).__name__)
    return sae.to(weight.device)


def clamping(sae: Sae, strengths: Mapping[int, float], where: Where | None = None) -> Edit:
    """The edit of `clamp`."""
    features = list(strengths)
    sae.refuse_absent(features)
    if features and sae.max_F is None:
        raise UserError("the SAE's largest activations were not measured: they are a clamp's unit (menard features)")
    k_S = torch.tensor([strengths[feature] for feature in features], dtype=torch.float32)
    c_S = None if sae.max_F is None else k_S.to(sae.max_F.device) * sae.max_F[features]

    def edit(hidden_BTD: Tensor, positions: Positions) -> Tensor | None:
        if c_S is None or not features:
            return None
        delta_BTS = c_S - sae.encode_some(hidden_BTD, features)
        kept_BT = positions.kept_BT if where is None else positions.kept_BT & where(positions)
        return added(hidden_BTD, delta_BTS @ sae.W_dec_FD[features], kept_BT)

    return edit


def added(hidden_BTD: Tensor, change_BTD: Tensor, kept_BT: Tensor) -> Tensor:
    """The stream with a change in fp32 added where it is to hold; elsewhere it is what it was, to the bit."""
    changed_BTD = (hidden_BTD.float() + change_BTD).to(hidden_BTD.dtype)
    return torch.where(kept_BT[..., None], changed_BTD, hidden_BTD)
