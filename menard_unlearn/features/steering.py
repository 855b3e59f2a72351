"""What is done to the residual stream: a clamped feature, and the controls that it is read against.

    feature       x' = x + (k · max a_f − a_f) · W_dec[f]                    (features.clamp)
    direction     x' = x + s(k) · v / ‖v‖,   s(k) = ‖W_dec[f]‖ · mean |k · max a_f − a_f|

so at the same k a direction changes a token by as much, on the mean, as the feature's clamp does: their doses compare.
Difference of means is such a direction, and a strong baseline (AxBench, arXiv 2501.17148).

Legend: N tokens, D width of the stream, F features, S some of the features, R random ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.tokens import in_batches
from menard_unlearn.features.clamp import added, clamping
from menard_unlearn.features.hooks import Edit, Positions, editing, kept_hidden
from menard_unlearn.features.sae import Sae
from menard_unlearn.models.likelihood import evaluating

Kind = Literal["none", "feature", "features", "difference_of_means", "random_feature", "random_direction", "guardrail"]
RANDOM: tuple[Kind, ...] = ("random_feature", "random_direction")
"""The kinds that say what a change of this size does by itself."""

UNMEASURED = "the SAE's largest activations were not measured: they are a clamp's unit (menard features)"


@runtime_checkable
class Remembering(Protocol):
    """An edit that knows what came before: it must see the key-value cache, whose rows may be dropped or reordered."""

    def __call__(self, hidden_BTD: Tensor, positions: Positions, /) -> Tensor | None:
        """As every `Edit`."""
        ...

    def following(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """Within the block it sees every call of the model."""
        ...


@dataclass(frozen=True, eq=False)
class Intervention:
    """A change of the residual stream after one layer."""

    name: str
    """What tables and columns call it."""
    kind: Kind
    k: float | None
    """Its dose, in units of the feature's largest activation; None for what has none."""
    edit: Edit | None
    """None changes nothing, to the bit: the model is not even hooked."""


NOTHING = Intervention("none", "none", None, None)


@contextmanager
def applied(model: PreTrainedModel, layer: int, intervention: Intervention, special: Collection[int]) -> Iterator[None]:
    """Within the block the model is scored and generates with this change.

    Special and padding positions are left alone. A key-value cache must not cross the border of the block. Raises
    UserError as `hooks.editing` does.
    """
    edit = intervention.edit
    if edit is None:
        yield
        return
    follows = edit.following(model) if isinstance(edit, Remembering) else nullcontext()
    with follows, editing(model, layer, edit, special):
        yield


def of_features(
    sae: Sae, strengths: Mapping[int, float], *, name: str, kind: Kind = "features", k: float | None = None
) -> Intervention:
    """The clamp of several features, feature → k. Raises UserError as `clamp.clamping` does."""
    return Intervention(name, kind, k, clamping(sae, strengths))


def of_feature(sae: Sae, feature: int, k: float, kind: Kind = "feature") -> Intervention:
    """The clamp of one feature at k times its largest activation."""
    return of_features(sae, {feature: k}, name=f"{kind}_{feature}", kind=kind, k=k)


def of_direction(v_D: Tensor, size: float, *, name: str, kind: Kind, k: float) -> Intervention:
    """`size` along a direction at every token: `clamp_norm` of the feature at the same k makes the doses comparable.

    Raises UserError for a direction of no length, as the difference of equal means is.
    """
    norm = float(v_D.double().norm())
    if not norm > 0:
        raise UserError(f"the direction {name} has length {norm}: it needs two sides that differ")
    step_D = (v_D.double() * (size / norm)).float()

    def edit(hidden_BTD: Tensor, positions: Positions) -> Tensor:
        return added(hidden_BTD, step_D.to(hidden_BTD.device), positions.kept_BT)

    return Intervention(name, kind, k, edit)


@torch.inference_mode()
def kept_states(
    model: PreTrainedModel, items: Sequence[TokenItem], layer: int, special: Collection[int], batch_size: int
) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """(item_N, states_ND) a batch: the stream after a layer at all but special and padding tokens, and whose it is.

    `item_N` are places in `items`. The forward pass ends at the layer. The model is in eval mode for the call.
    """
    device = next(model.parameters()).device
    with evaluating(model):
        for places, batch in in_batches(items, batch_size, padding=0):
            batch = batch.to(device)
            hidden_BTD, kept_BT = kept_hidden(model, batch, layer, special)
            yield np.array(places)[batch.item_BT[kept_BT].cpu().numpy()], hidden_BTD[kept_BT]


def activations(
    model: PreTrainedModel,
    sae: Sae,
    features: Sequence[int],
    items: Sequence[TokenItem],
    special: Collection[int],
    batch_size: int,
) -> Tensor:
    """a_NS of some features at all but special tokens of the items, on the CPU."""
    found = [
        sae.encode_some(states_ND, features).cpu()
        for _, states_ND in kept_states(model, items, sae.layer, special, batch_size)
    ]
    return torch.cat(found) if found else torch.zeros(0, len(features))


def clamp_norm(sae: Sae, feature: int, k: float, a_N: Tensor) -> float:
    """Mean norm of the change that the clamp of a feature at k makes at tokens where it stands at a_N.

    Raises UserError for no tokens, and where the SAE's largest activations are unknown.
    """
    if not len(a_N):
        raise UserError("no token to measure a clamp's size on: give texts with words")
    if sae.max_F is None:
        raise UserError(UNMEASURED)
    clamped = k * float(sae.max_F[feature])
    return float((clamped - a_N.double()).abs().mean() * sae.W_dec_FD[feature].double().norm())


def difference_of_means(
    model: PreTrainedModel,
    layer: int,
    own: Sequence[TokenItem],
    other: Sequence[TokenItem],
    special: Collection[int],
    batch_size: int,
) -> Tensor:
    """v_D: mean of the stream over the tokens of one side minus that over the other's, summed in float64.

    Give the pieces that the feature was chosen on, none that it is judged on. Raises UserError for a side without
    tokens.
    """
    means = []
    for name, items in (("the author's", own), ("the controls'", other)):
        total_D, n = torch.zeros((), dtype=torch.float64), 0
        for _, states_ND in kept_states(model, items, layer, special, batch_size):
            total_D, n = total_D + states_ND.double().sum(0).cpu(), n + len(states_ND)
        if not n:
            raise UserError(f"no text on {name} side: a difference of means needs texts of both")
        means.append(total_D / n)
    return (means[0] - means[1]).float()


def random_directions(width: int, n: int, seed: int) -> Tensor:
    """v_RD, unit vectors in no particular direction."""
    rows_RD = np.random.default_rng([seed, 0]).standard_normal((n, width))
    return torch.tensor(rows_RD / np.linalg.norm(rows_RD, axis=1, keepdims=True), dtype=torch.float32)


def random_features(live: Sequence[int], exclude: Collection[int], n: int, seed: int) -> tuple[int, ...]:
    """`n` different features among the live ones, for a dead one has no dose. UserError where there are fewer."""
    pool = sorted(set(live) - set(exclude))
    if len(pool) < n:
        raise UserError(f"{n} random features asked for, {len(pool)} others are live: use an SAE with more live ones")
    return tuple(int(feature) for feature in np.random.default_rng([seed, 1]).choice(pool, n, replace=False))
