"""What `find` left: the autoencoder, the chosen feature, its dose, and the controls of the same dose."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from menard_unlearn.errors import UserError
from menard_unlearn.features.clamp import fitted
from menard_unlearn.features.hooks import special_ids
from menard_unlearn.features.interchange import load_sae
from menard_unlearn.features.pooling import pooled
from menard_unlearn.features.ranking import live_features
from menard_unlearn.features.sae import Sae
from menard_unlearn.features.steering import (
    Intervention,
    activations,
    clamp_norm,
    difference_of_means,
    of_direction,
    of_feature,
    of_features,
    random_directions,
    random_features,
)
from menard_unlearn.models.load import LoadedModel
from menard_unlearn.stages.features import find
from menard_unlearn.stages.features.find import sae_folder
from menard_unlearn.stages.features.job import FeaturesJob


@dataclass(frozen=True, eq=False)
class Chosen:
    """A feature, or several, and how strongly they are clamped."""

    sae: Sae
    """On the base model's device."""
    features: tuple[int, ...]
    k: float
    """In units of a feature's largest activation."""
    special: frozenset[int]

    @property
    def layer(self) -> int:
        """Decoder layer that is edited."""
        return self.sae.layer

    def clamp(self) -> Intervention:
        """The clamp of the feature, or of all of them."""
        if len(self.features) == 1:
            return of_feature(self.sae, self.features[0], self.k)
        return of_features(self.sae, dict.fromkeys(self.features, self.k), name="features", k=self.k)


def chosen(job: FeaturesJob, loaded: LoadedModel) -> Chosen:
    """What `find` left, which `find_first` sees to; `feature` and `strength` win where they are given.

    Raises UserError where nothing was found and nothing is given, or a feature that the autoencoder has not.
    """
    run = find.place(job)
    sae = fitted(loaded.model, load_sae(sae_folder(run)))
    features = _features(job, run.evaluation_dir)
    sae.refuse_absent(features)
    if sae.max_F is not None and (dead := [feature for feature in features if not sae.max_F[feature] > 0]):
        raise UserError(
            f"feature {dead[0]} never fired where it was measured, and a clamp would do nothing: name another"
        )
    return Chosen(sae, features, _strength(job, run.evaluation_dir), special_ids(loaded.model, loaded.tokenizer))


def find_first(job: FeaturesJob) -> None:
    """Do `find` where it is missing. It loads the model itself: do it before another copy is loaded."""
    if not find.place(job).finished("features"):
        find.do(job)


def refuse_bad_choice(job: FeaturesJob) -> None:
    """Raise UserError for a `feature` or a `strength` that will not do, before anything is found."""
    plain = job.settings.plain
    features, strength = given_features(plain["feature"]), plain["strength"]
    if job.n_features is not None and features is not None and max(features) >= job.n_features:
        raise UserError(f"feature {max(features)} asked for, the SAE has features 0 to {job.n_features - 1}")
    number = isinstance(strength, int | float) and not isinstance(strength, bool) and math.isfinite(strength)
    if strength is not None and not number:
        raise UserError(f"strength={strength!r} is no number: give strength=0.5, or null for the best one")


def given_features(plain: Any) -> tuple[int, ...] | None:
    """`feature=` as a tuple; None where it is null. Raises UserError for anything else than numbers."""
    if plain is None:
        return None
    listed = plain if isinstance(plain, list) else [plain]
    if not listed or not all(type(one) is int and one >= 0 for one in listed) or len(set(listed)) < len(listed):
        raise UserError(f"feature={plain} must be a feature's number, several as [3,17], or null for the chosen one")
    return tuple(listed)


def _features(job: FeaturesJob, evaluation_dir: Any) -> tuple[int, ...]:
    given = given_features(job.settings.plain["feature"])
    if given is not None:
        return given
    found = json.loads((evaluation_dir / "features.json").read_text(encoding="utf-8"))["chosen"]
    if found is None:
        raise UserError(f"{evaluation_dir.parent} chose no feature: name one, feature=<number>")
    return (int(found),)


def _strength(job: FeaturesJob, evaluation_dir: Any) -> float:
    given = job.settings.plain["strength"]
    if given is not None:
        return float(given)
    path = evaluation_dir / "dose_response.json"
    best = json.loads(path.read_text(encoding="utf-8"))["best_k"] if path.is_file() else None
    if best is None:
        raise UserError(f"{evaluation_dir.parent} found no dose within the limit of coherence: name one, strength=0.5")
    return float(best)


def controls(
    job: FeaturesJob, model: PreTrainedModel, found: Chosen, *, n_features: int, n_directions: int
) -> list[Intervention]:
    """Difference of means, random features and random directions at the dose of the clamp; a negative one turns
    directions around, as in a dose-response.

    Beside several features directions are as long as the sum of their changes is on the mean, and a random control
    clamps as many features at once; two of these may have features in common.
    """
    batch_size = job.activations.batch_size
    own, other = (job.pieces.items("train", own=side) for side in (True, False))
    a_NS = activations(model, found.sae, found.features, [*own, *other], found.special, batch_size)
    size = math.copysign(_clamp_norm(found, a_NS), found.k)
    v_D = difference_of_means(model, found.layer, own, other, found.special, batch_size)
    made = [of_direction(v_D, size, name="difference_of_means", kind="difference_of_means", k=found.k)]
    seed = job.dose.seed
    if n_features:
        live = live_features(pooled(model, found.sae, job.pieces, found.special, batch_size), job.pieces, job.ranking)
        made += _random_clamps(found, live, n_features, seed)
    for number, v_RD in enumerate(random_directions(found.sae.n_in, n_directions, seed)):
        name = f"random_direction_{number}"
        made.append(of_direction(v_RD, size, name=name, kind="random_direction", k=found.k))
    return made


def _clamp_norm(found: Chosen, a_NS: Tensor) -> float:
    """Mean norm of the change that all clamped features make together, at tokens where they stand at a_NS."""
    features = list(found.features)
    if len(features) == 1 or found.sae.max_F is None or not len(a_NS):  # the last two are refused there
        return clamp_norm(found.sae, features[0], found.k, a_NS[:, 0])
    delta_NS = found.k * found.sae.max_F[features].double().cpu() - a_NS.double()
    W_SD = found.sae.W_dec_FD[features].double().cpu()
    # ‖δ W‖² = δ (W Wᵀ) δᵀ needs no table of N tokens by D
    squared_N = ((delta_NS @ (W_SD @ W_SD.T)) * delta_NS).sum(1).clamp(min=0)
    return float(squared_N.sqrt().mean())


def _random_clamps(found: Chosen, live: Sequence[int], n: int, seed: int) -> list[Intervention]:
    """So many clamps, each of as many random live features as are clamped."""
    n_together = len(found.features)
    if n_together == 1:
        drawn = random_features(live, found.features, n, seed)
        return [of_feature(found.sae, one, found.k, "random_feature") for one in drawn]
    made = []
    for number in range(n):
        strengths = dict.fromkeys(random_features(live, found.features, n_together, seed + number), found.k)
        name = f"random_features_{number}"
        made.append(of_features(found.sae, strengths, name=name, kind="random_feature", k=found.k))
    return made
