"""What the candidates do: each is clamped, and the author's pieces must gain more than the others'.

    causal(f) = Δ log p(author's pieces) − Δ log p(others' pieces)    nats a token, Δ = clamped at k minus unclamped

The best of many candidates beats a few random features by luck alone. So the choice is made on the training side, and
whether what was chosen does more than random features do is asked of the held-out side, which had no part in it.

Legend: P pieces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from menard_unlearn.features.clamp import clamp, clamping
from menard_unlearn.features.pieces import SIDES, Pieces
from menard_unlearn.features.pooling import PooledActivations
from menard_unlearn.features.ranking import LEAST_RANDOM, FeatureRow, RankingConfig, live_features
from menard_unlearn.features.sae import Sae
from menard_unlearn.models.scores import score
from menard_unlearn.statistics.contrast import difference_interval, enough

LEVEL = 0.05
"""Largest p at which a feature counts as better than random ones."""
LEAST_FOR_LEVEL = math.ceil(1 / LEVEL) - 1
"""Random features without which p, of 1 / (1 + their number) at least, cannot be so small."""

KEYS = {
    "author": "whose feature is asked for",
    "status": "found: on the held-out side the clamp helps the author's text, and more than the others' (gain_own and "
    "causal above 0), with p at most 0.05 among random features; harms_less: the same but for gain_own: the clamp "
    "harms the author's text less than the others'; not_better_than_random: causal is not above 0, or p is larger; "
    "too_few_random: with fewer than 19 random features p cannot be so small, so nobody knows; no_candidate: no live "
    "feature leans to the author",
    "chosen": "index of the candidate with the largest causal effect on the training side, whatever the status; null "
    "without a candidate",
    "k": "strength of the clamp, in largest activations of the feature",
    "rows": "candidates, those that tell the author best first",
    "heldout": "the chosen feature on the held-out side, keys of HELDOUT_KEYS; null without a candidate",
    "random": "random live features other than the candidates, keys of RANDOM_KEYS",
    "n": "train and heldout: pieces, works and authors, the author's own and the others'",
    "left_out": "works that were not used, what could not be computed, and why",
}
"""Key of features.json → meaning and unit."""

EFFECT_KEYS = {
    "gain_own": "Δ log p of the author's pieces under the clamp, nats a token, over at most causal_per_work "
    "pieces of a work",
    "gain_others": "the same of the others' pieces",
    "causal": "gain_own minus gain_others",
    "causal_low": "lower end of its 95% interval, works of the author and other authors drawn with replacement; null "
    "with fewer than two of either, too narrow with few",
    "causal_high": "upper end of that interval",
    "random_at_least": "share of the random features whose causal effect is at least as large; null with fewer than "
    "10 of them",
}
"""Key of a clamped feature → meaning and unit; of a row beside the fields of `FeatureRow`, on the training side."""

HELDOUT_KEYS = EFFECT_KEYS | {
    "p": "(1 + random features that do as well) / (1 + all of them), on pieces that chose nothing; null likewise",
}
"""Key of `heldout` → meaning and unit."""

RANDOM_KEYS = {
    "feature": "its index",
    "causal": "its causal effect on the training side, nats a token",
    "causal_heldout": "the same on the held-out side",
}
"""Key of an entry of `random` → meaning and unit."""


@dataclass(frozen=True, eq=False)
class Bench:
    """Pieces on which features are tried, and what these score unclamped: made by `bench`."""

    pieces: Pieces
    logprob: Callable[[], NDArray[np.float64]]
    """ln p of each piece, nats, under whatever clamp holds."""
    base_P: NDArray[np.float64]
    """The same under none."""
    tokens_P: NDArray[np.float64]
    """Scored tokens of each."""
    clamped: Callable[[int], AbstractContextManager[None]]
    """feature → the block within which it is clamped."""

    def change(self, feature: int) -> NDArray[np.float64]:
        """change_P: what each piece gains in ln p while the feature is clamped, nats."""
        with self.clamped(feature):
            return self.logprob() - self.base_P

    def gains(self, change_P: NDArray[np.float64]) -> tuple[float, float]:
        """Nats a token of the author's pieces, and of the others'."""
        own_P = self.pieces.own_P
        own, others = (float(change_P[side_P].sum() / self.tokens_P[side_P].sum()) for side_P in (own_P, ~own_P))
        return own, others

    def causal(self, feature: int) -> float:
        """The causal effect alone."""
        own, others = self.gains(self.change(feature))
        return own - others

    def effect(self, feature: int, config: RankingConfig, null: Sequence[float]) -> dict[str, Any]:
        """Keys of `EFFECT_KEYS`; `null` are the causal effects of random features on the same pieces."""
        change_P = self.change(feature)
        own, others = self.gains(change_P)
        low, high = difference_interval(
            change_P,
            self.tokens_P,
            self.pieces.own_P,
            self.pieces.cluster_P,
            replicates=config.replicates,
            seed=config.seed,
        ) or (None, None)
        at_least = float(np.mean(np.array(null) >= own - others)) if len(null) >= LEAST_RANDOM else None
        effect = {"gain_own": own, "gain_others": others, "causal": own - others}
        return effect | {"causal_low": low, "causal_high": high, "random_at_least": at_least}


def bench(
    model: PreTrainedModel,
    sae: Sae,
    pieces: Pieces,
    k: float,
    *,
    special: Collection[int],
    batch_size: int,
    chunk: int,
) -> Bench:
    """Score the pieces unclamped, and make ready to score them clamped at k times a feature's largest activation."""
    items = [piece.item for piece in pieces.every]

    def logprob() -> NDArray[np.float64]:
        found = score(model, items, batch_size=batch_size, chunk=chunk, padding=0)
        return np.array([found.of(item).logprob for item in items])

    tokens_P = np.array([len(item.ids) - item.n_prompt for item in items], np.float64)
    return Bench(pieces, logprob, logprob(), tokens_P, lambda feature: clamp(model, sae, {feature: k}, special=special))


def rerank(
    model: PreTrainedModel,
    sae: Sae,
    rows: Sequence[FeatureRow],
    pooled: PooledActivations,
    pieces: Pieces,
    config: RankingConfig,
    *,
    special: Collection[int],
    batch_size: int,
    chunk: int,
) -> dict:
    """Clamp each candidate and random features, and choose: what goes into features.json, keys of `KEYS`.

    A run of the model over some pieces for each candidate and two for each random feature: `causal_per_work` bounds
    their length. Raises UserError for an SAE whose largest activations nobody measured, or one made for another model.
    """
    features = [row.feature for row in rows]
    drawn = _random_features(pooled, pieces, features, config) if rows else []
    # Refuses before anything is run what would be refused after the first pass
    clamping(sae, dict.fromkeys([*features, *drawn], config.k))
    found = {"author": pieces.author, "k": config.k, "n": pieces.counts()}
    if not rows:
        reason = "candidates: no live feature has an AUROC above 0.5 and a larger mean in the author's pieces"
        nothing = {"status": "no_candidate", "chosen": None, "rows": [], "heldout": None, "random": []}
        return _in_order(found | nothing | {"left_out": [*pieces.left_out, reason]})
    some = [pieces.some(side, config.causal_per_work) for side in SIDES]
    settings = {"special": special, "batch_size": batch_size, "chunk": chunk}
    dev, held = (bench(model, sae, part, config.k, **settings) for part in some)
    random = [{"feature": f, "causal": dev.causal(f), "causal_heldout": held.causal(f)} for f in drawn]
    null, null_heldout = ([entry[key] for entry in random] for key in ("causal", "causal_heldout"))
    tried = [asdict(row) | dev.effect(row.feature, config, null) for row in rows]
    chosen = max(tried, key=lambda row: row["causal"])["feature"]
    judged = held.effect(chosen, config, null_heldout)
    judged["p"] = _p(judged["random_at_least"], len(random))
    status = _status(judged, len(random))
    results = {"status": status, "chosen": chosen, "rows": tried, "heldout": judged, "random": random}
    missing = _missing(dev.pieces, held.pieces, len(random))
    return _in_order(found | results | {"left_out": [*pieces.left_out, *missing]})


def _random_features(
    pooled: PooledActivations, pieces: Pieces, candidates: Collection[int], config: RankingConfig
) -> list[int]:
    live = [feature for feature in live_features(pooled, pieces, config) if feature not in candidates]
    rng = np.random.default_rng(config.seed)
    return rng.permutation(live)[: config.n_random].astype(int).tolist()


def _p(at_least: float | None, n_random: int) -> float | None:
    return None if at_least is None else (1 + round(at_least * n_random)) / (1 + n_random)


def _status(judged: Mapping[str, Any], n_random: int) -> str:
    if n_random < LEAST_FOR_LEVEL:
        return "too_few_random"
    if judged["causal"] <= 0 or judged["p"] > LEVEL:
        return "not_better_than_random"
    return "found" if judged["gain_own"] > 0 else "harms_less"


def _missing(dev: Pieces, held: Pieces, n_random: int) -> list[str]:
    """What could not be computed, and what it needs."""
    reasons = []
    for name, side in (("training", dev), ("held-out", held)):
        if not enough(side.own_P, side.cluster_P):
            own, others = (len({p.cluster for p in side.every if p.own is kind}) for kind in (True, False))
            reasons.append(
                f"intervals on the {name} side: need two works of the author and two other authors or more, there are "
                f"{own} and {others}; give more, or change ranking.pieces.heldout_share"
            )
    if n_random < LEAST_FOR_LEVEL:
        what = "random_at_least, p and status" if n_random < LEAST_RANDOM else "status"
        reasons.append(
            f"{what}: {n_random} random features were tried, p can be {LEVEL} with {LEAST_FOR_LEVEL} or more; raise "
            "ranking.n_random, lower ranking.n_candidates or ranking.min_frequency, or use a larger autoencoder"
        )
    return reasons


def _in_order(found: Mapping[str, object]) -> dict:
    return {key: found[key] for key in KEYS}
