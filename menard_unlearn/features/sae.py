"""A sparse autoencoder as it is used: x ≈ decode(encode(x)), in fp32 whatever the model's dtype.

    a = activation((x − b_dec) · W_enc + b_enc)      x̂ = a · W_dec + b_dec

`jumprelu` keeps what exceeds a feature's threshold (arXiv 2407.14435), a plain ReLU is a threshold of 0; `topk` keeps
the k largest of a token (arXiv 2406.04093). A BatchTopK autoencoder (arXiv 2412.06410) is used as jumprelu.

Legend: N tokens, D width of the stream, F features, S some of the features.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from torch import Tensor

from menard_unlearn.errors import UserError

Architecture = Literal["jumprelu", "topk"]


@dataclass(frozen=True, eq=False)
class Sae:
    """Weights and what they were made for. Raises UserError where their shapes do not fit together."""

    architecture: Architecture
    W_enc_DF: Tensor
    b_enc_F: Tensor
    W_dec_FD: Tensor
    b_dec_D: Tensor
    threshold_F: Tensor | None
    """Of jumprelu; None for topk."""
    k: int | None
    """Active features a token, of topk; None for jumprelu."""
    apply_b_dec_to_input: bool
    """Whether b_dec is taken from x before encoding."""
    layer: int
    """Decoder layer, from 0, whose output it reads."""
    model_name: str
    """Which model it was made for, for people to read."""
    max_F: Tensor | None = None
    """Largest activation of each feature on the tokens that it was measured on, the unit of a clamp; None where nobody
    measured it."""

    def __post_init__(self) -> None:
        n_in, n_features = self.W_enc_DF.shape
        wanted = {
            "b_enc": (self.b_enc_F, (n_features,)),
            "W_dec": (self.W_dec_FD, (n_features, n_in)),
            "b_dec": (self.b_dec_D, (n_in,)),
            "threshold": (self.threshold_F, (n_features,)),
            "max": (self.max_F, (n_features,)),
        }
        for name, (tensor, shape) in wanted.items():
            if tensor is not None and tuple(tensor.shape) != shape:
                raise UserError(
                    f"the SAE's {name} is {tuple(tensor.shape)}, W_enc asks for {shape}: its file is damaged"
                )
        if (self.threshold_F is None) == (self.architecture == "jumprelu") or (self.k is None) == (
            self.architecture == "topk"
        ):
            raise UserError(f"an SAE of architecture {self.architecture} needs threshold (jumprelu) or k (topk)")

    @property
    def n_in(self) -> int:
        """D."""
        return self.W_enc_DF.shape[0]

    @property
    def n_features(self) -> int:
        """F."""
        return self.W_enc_DF.shape[1]

    def to(self, device: torch.device | str) -> Sae:
        """The same in fp32 on a device."""
        moved = {
            field.name: value.to(device=device, dtype=torch.float32)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)

    def encode(self, x_ND: Tensor) -> Tensor:
        """a_NF; any leading shape will do."""
        pre_NF = self._centred(x_ND) @ self.W_enc_DF + self.b_enc_F
        if self.threshold_F is not None:
            return pre_NF.relu() * (pre_NF > self.threshold_F)
        values_Nk, places_Nk = pre_NF.topk(self._k, dim=-1)
        return torch.zeros_like(pre_NF).scatter_(-1, places_Nk, values_Nk.relu())

    def encode_some(self, x_ND: Tensor, features: Sequence[int]) -> Tensor:
        """a_NS of these features alone, equal to those columns of `encode`; for jumprelu much less work."""
        if self.threshold_F is None:
            return self.encode(x_ND)[..., list(features)]
        chosen = list(features)
        pre_NS = self._centred(x_ND) @ self.W_enc_DF[:, chosen] + self.b_enc_F[chosen]
        return pre_NS.relu() * (pre_NS > self.threshold_F[chosen])

    def decode(self, a_NF: Tensor) -> Tensor:
        """x̂_ND."""
        return a_NF @ self.W_dec_FD + self.b_dec_D

    def refuse_absent(self, features: Sequence[int]) -> None:
        """Raise UserError for an index that no feature has."""
        for feature in features:
            if not 0 <= feature < self.n_features:
                raise UserError(f"feature {feature} asked for, the SAE has features 0 to {self.n_features - 1}")

    def refuse_unfit(self, width: int, n_layers: int, model: str) -> None:
        """Raise UserError where a model of so many layers of this width cannot be read with it."""
        if self.n_in != width:
            raise UserError(
                f"the SAE reads vectors of {self.n_in} numbers, the model {model} has {width}: "
                f"it was made for {self.model_name or 'another model'}"
            )
        if not 0 <= self.layer < n_layers:
            raise UserError(
                f"the SAE reads layer {self.layer}, the model {model} has layers 0 to {n_layers - 1}: "
                f"it was made for {self.model_name or 'another model'}"
            )

    def refuse_other_layer(self, asked: int | None) -> None:
        """Raise UserError where it reads another layer than the one asked for; None asks for none."""
        if asked is not None and asked != self.layer:
            raise UserError(
                f"layer={asked} asked for, the SAE reads layer {self.layer}: set layer={self.layer} or layer=null"
            )

    @property
    def _k(self) -> int:
        if self.k is None:  # checked when it was made
            raise ValueError("only topk has k")
        return self.k

    def _centred(self, x_ND: Tensor) -> Tensor:
        x_ND = x_ND.float()
        return x_ND - self.b_dec_D if self.apply_b_dec_to_input else x_ND


def layer_of(hook_name: str) -> int:
    """The decoder layer whose output a hook's name means: `model.layers.3`, `blocks.3.hook_resid_post`, and
    `blocks.4.hook_resid_pre`, which is the same place. Raises UserError for any other place."""
    if match := re.search(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)(?:\.hook_resid_post)?$", hook_name):
        return int(match[1])
    if (match := re.search(r"blocks\.(\d+)\.hook_resid_pre$", hook_name)) and int(match[1]) > 0:
        return int(match[1]) - 1
    raise UserError(
        f"the SAE reads {hook_name!r}: only the residual stream after a layer is supported "
        "(model.layers.<n>, blocks.<n>.hook_resid_post, blocks.<n>.hook_resid_pre with n > 0)"
    )
