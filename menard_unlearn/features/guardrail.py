"""A guardrail at inference time: where a text keeps activating forbidden features, they are clamped (arXiv 2504.08192).

    ρ_t = share of the tokens up to t at which a guarded feature is active
    x'_t = x_t + Σ_f (strength · max a_f − a_f) · W_dec[f]    where ρ_t > τ, t > warm-up and one is active at t

The error term of the SAE is kept. The paper's ρ is of the whole prompt, which no model that writes token by token can
know; here it runs with the text, and acts from some tokens on, since a share of three tokens says little. So a forward
pass, pieces from a key-value cache and `generate()` do the same.

What has been counted belongs to a row of the cache, and rows may be dropped or reordered between calls (finished texts,
beams). A row is known again by the last key that its deepest layer has cached: a moved row is a copy to the bit.

Legend: B rows, T tokens of this call, D width, S guarded features, E numbers of a row's last key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from menard_unlearn.errors import UserError
from menard_unlearn.features.clamp import added
from menard_unlearn.features.hooks import Positions
from menard_unlearn.features.sae import Sae
from menard_unlearn.features.steering import UNMEASURED, Intervention
from menard_unlearn.models.edited import edits_hold

FOREIGN = (
    "the key-value cache holds tokens that the guardrail has not seen: "
    "fill it inside the block, and do not go on from a copy of it"
)


@dataclass(frozen=True)
class Guardrail:
    """Which features are guarded, from when on, and where they are put."""

    features: tuple[int, ...]
    tau: float
    """Threshold of ρ, in [0, 1]: above it the guardrail acts."""
    strength: float
    """Clamp in units of a feature's largest activation: negative, or 0 to take the features out, which does little."""
    warm_up: int
    """Tokens of a text, special ones aside, that are read before the guardrail may act."""

    def __post_init__(self) -> None:
        if not self.features:
            raise UserError("a guardrail without features guards nothing: name at least one")
        if self.strength > 0:
            raise UserError(
                f"guardrail strength {self.strength} pushes towards what is to be forgotten: give 0 or less"
            )

    def acts(self, n_active: Tensor, n_kept: Tensor) -> Tensor:
        """Whether ρ = n_active / n_kept is above τ, the warm-up over; of any shape."""
        return (n_active.double() > self.tau * n_kept.double()) & (n_kept > self.warm_up)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "features": list(self.features)}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Guardrail:
        """What `to_dict` gave."""
        features = tuple(int(feature) for feature in found["features"])
        return cls(features, float(found["tau"]), float(found["strength"]), int(found["warm_up"]))

    def intervention(self, sae: Sae) -> Intervention:
        """For `steering.applied`, with an SAE on the model's device (`clamp.fitted`).

        Raises UserError for a feature that it has not, and where its largest activations are unknown.
        """
        return Intervention("guardrail", "guardrail", None, RunningGuard(self, sae))


class RunningGuard:
    """The edit of a guardrail, which remembers each row's counts from call to call; for one model at a time."""

    def __init__(self, guardrail: Guardrail, sae: Sae) -> None:
        sae.refuse_absent(guardrail.features)
        if sae.max_F is None:
            raise UserError(UNMEASURED)
        self._sae, self._guardrail, self._features = sae, guardrail, list(guardrail.features)
        self._clamp_S = guardrail.strength * sae.max_F[self._features]
        self._n_active_B = self._n_kept_B = torch.zeros(0, dtype=torch.long)
        self._last_key_BE: Tensor | None = None
        self._following = False

    def __call__(self, hidden_BTD: Tensor, positions: Positions) -> Tensor:
        """The stream as the guardrail leaves it. ValueError outside of `following`, which `applied` enters."""
        if not self._following:
            raise ValueError("a guardrail has to follow the cache: use steering.applied, not hooks.editing")
        if positions.n_past == 0:
            self._n_active_B = self._n_kept_B = torch.zeros(len(hidden_BTD), dtype=torch.long, device=hidden_BTD.device)
        a_BTS = self._sae.encode_some(hidden_BTD, self._features)
        active_BT = (a_BTS > 0).any(-1) & positions.kept_BT
        n_active_BT = self._n_active_B[:, None] + active_BT.cumsum(1)
        n_kept_BT = self._n_kept_B[:, None] + positions.kept_BT.cumsum(1)
        self._n_active_B, self._n_kept_B = n_active_BT[:, -1], n_kept_BT[:, -1]
        where_BT = active_BT & self._guardrail.acts(n_active_BT, n_kept_BT)
        return added(hidden_BTD, (self._clamp_S - a_BTS) @ self._sae.W_dec_FD[self._features], where_BT)

    @contextmanager
    def following(self, model: PreTrainedModel) -> Iterator[None]:
        """Within the block counts follow the rows of the cache."""

        def before(_module: nn.Module, _args: Any, kwargs: dict[str, Any]) -> None:
            cache = kwargs.get("past_key_values")
            if edits_hold(model) and cache is not None and cache.get_seq_length():
                order_B = _rows_again(last_key(cache), self._last_key_BE)
                self._n_active_B, self._n_kept_B = self._n_active_B[order_B], self._n_kept_B[order_B]

        def after(_module: nn.Module, _args: Any, output: Any) -> None:
            if not edits_hold(model):
                return
            cache = getattr(output, "past_key_values", None)
            self._last_key_BE = None if cache is None else last_key(cache)

        hooks = [
            model.base_model.register_forward_pre_hook(before, with_kwargs=True),
            model.base_model.register_forward_hook(after),
        ]
        self._following = True
        try:
            yield
        finally:
            self._following, self._last_key_BE = False, None
            for hook in hooks:
                hook.remove()


def last_key(cache: Any) -> Tensor | None:
    """A copy of each row's last key in the deepest layer that has keys, (B, E); None for a cache without any."""
    for layer in reversed(cache.layers):
        keys_BHTE = getattr(layer, "keys", None)
        if isinstance(keys_BHTE, Tensor) and keys_BHTE.numel():
            filled = min(int(cache.get_seq_length()), keys_BHTE.shape[2])  # a static cache has room behind
            return keys_BHTE[:, :, filled - 1].flatten(1).clone()
    return None


def _rows_again(now_BE: Tensor | None, then_BE: Tensor | None) -> Tensor:
    """order_B: where each row stood at the end of the call before. UserError for a row that was not there."""
    if now_BE is None or then_BE is None:
        raise UserError(FOREIGN)
    if now_BE.shape == then_BE.shape and torch.equal(now_BE, then_BE):
        return torch.arange(len(now_BE))
    if now_BE.shape[1:] != then_BE.shape[1:]:
        raise UserError(FOREIGN)
    same_BB = (now_BE[:, None] == then_BE[None]).all(-1)
    if not bool(same_BB.any(1).all()):
        raise UserError(FOREIGN)
    return same_BB.int().argmax(1).cpu()  # rows of equal keys have read equal texts
