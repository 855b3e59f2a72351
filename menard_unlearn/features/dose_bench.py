"""The bench of a dose-response: one model, one target and its controls, scored and left to write under interventions.

Legend: T tokens of the target, J control texts, N tokens that doses are measured on, S features, D width.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.encoded import encode_target, in_context
from menard_unlearn.evaluation.tokens import context_length, pad_id
from menard_unlearn.features.coherence import coherence
from menard_unlearn.features.dose_config import DoseConfig, DoseTexts
from menard_unlearn.features.dose_effects import MIN_BLOCKS, MIN_CLUSTERS, Effect, Floats, Replicates
from menard_unlearn.features.sae import Sae
from menard_unlearn.features.steering import (
    NOTHING,
    Intervention,
    activations,
    applied,
    clamp_norm,
    difference_of_means,
    of_direction,
    of_feature,
    random_directions,
)
from menard_unlearn.features.token_scores import score_target
from menard_unlearn.models.scores import score


@dataclass(frozen=True, eq=False)
class Bench:
    """What every intervention is measured on. The SAE is on the model's device."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    sae: Sae
    feature: int
    texts: DoseTexts
    special: Collection[int]
    config: DoseConfig

    def refuse_unfit(self) -> None:
        """Raise UserError for what would be found wrong later."""
        self.sae.refuse_absent([self.feature])
        for name in ("controls", "own", "other"):
            if not getattr(self.texts, name):
                raise UserError(f"a dose-response needs {name} texts, there is none: give more works or authors")
        self.config.openings.refuse_unfit(context_length(self.model), self.tokenizer)
        _ = self._windows

    def doses(self, random: Sequence[int]) -> Iterator[tuple[Intervention, float]]:
        """Every intervention with the mean norm of its change. A negative k turns directions around."""
        sae, config = self.sae, self.config
        features = [self.feature, *random]
        pieces = [*self.texts.own, *self.texts.other]
        a_NS = activations(self.model, sae, features, pieces, self.special, config.batch_size)
        means_D = difference_of_means(
            self.model, sae.layer, self.texts.own, self.texts.other, self.special, config.batch_size
        )
        v_RD = random_directions(sae.n_in, config.n_random_directions, config.seed)
        for k in config.strengths:
            norms = [clamp_norm(sae, one, k, a_NS[:, place]) for place, one in enumerate(features)]
            yield of_feature(sae, self.feature, k), norms[0]
            kind, size = "difference_of_means", math.copysign(norms[0], k)
            yield of_direction(means_D, size, name=kind, kind=kind, k=k), norms[0]
            for one, norm in zip(random, norms[1:], strict=True):
                yield of_feature(sae, one, k, "random_feature"), norm
            for number, v_D in enumerate(v_RD):
                name = f"random_direction_{number}"
                yield of_direction(v_D, size, name=name, kind="random_direction", k=k), norms[0]

    def effect(self, intervention: Intervention, change_norm: float) -> Effect:
        """What it does to the target and the controls."""
        (plain_T, plain_J), (found_T, found_J) = self._plain, self._scored(intervention)
        return Effect(intervention, change_norm, found_T - plain_T, found_J - plain_J)

    def written(self, intervention: Intervention) -> dict:
        """How coherent what the model writes under it is; keys of `coherence.KEYS`."""
        config = self.config
        return coherence(
            self.model,
            self.tokenizer,
            self.sae.layer,
            intervention,
            self.special,
            config.openings,
            batch_size=config.batch_size,
            chunk=config.chunk,
        )

    def row(self, effect: Effect) -> dict:
        """An entry of `rows` in dose_response.json, but for what the model writes."""
        ends = [f"{name}_{end}" for name in ("delta", "steering") for end in ("low", "high")]
        return {
            "name": effect.intervention.name,
            "kind": effect.intervention.kind,
            "k": effect.intervention.k,
            "change_norm": effect.change_norm,
            "nats_per_token": -float(self._plain[0].mean()) - effect.delta,
            "delta": effect.delta,
            "controls_delta": effect.delta - effect.steering,
            "steering": effect.steering,
            **(dict.fromkeys(ends) if self._replicates is None else self._replicates.intervals(effect)),
        }

    def unclamped(self) -> dict:
        """Nats a token of the target and of the controls as the model is."""
        plain_T, plain_J = self._plain
        return {"nats_per_token": -float(plain_T.mean()), "controls_nats_per_token": -float(plain_J.mean())}

    def left_out(self, best_k: float | None, rows: Sequence[dict]) -> list[str]:
        """What is null in dose_response.json, and why."""
        where = "at any dose: none is within the limit" if best_k is None else f"but at best_k={best_k}"
        found = [f"what random controls write, {where}; generating costs the most"]
        if self._replicates is None:
            found.append(f"intervals: the target has fewer than {MIN_BLOCKS} blocks of {self.config.block} tokens")
        elif self._replicates.n_clusters < MIN_CLUSTERS:
            found.append(f"intervals of S: all control texts are by one author, give {MIN_CLUSTERS} authors or more")
        for row in rows:
            if row["n_empty"] is not None and row["coherence"] is None:
                found.append(f"coherence of {row['name']} at k={row['k']}: every text ended at once")
        return found

    @cached_property
    def _windows(self) -> Sequence[TokenItem]:
        encoded = encode_target(self.tokenizer, self.texts.target, self.texts.target.prompt)
        return in_context(self.model, encoded, self.config.stride)[0]

    @cached_property
    def _plain(self) -> tuple[Floats, Floats]:
        return self._scored(NOTHING)

    @cached_property
    def _replicates(self) -> Replicates | None:
        config, n_tokens = self.config, len(self._plain[0])
        return Replicates.of(
            n_tokens, self.texts.control_cluster, block=config.block, replicates=config.bootstrap, seed=config.seed
        )

    def _scored(self, intervention: Intervention) -> tuple[Floats, Floats]:
        """Log-probability of each token of the target, and a token of each control text, nats."""
        config, layer, controls = self.config, self.sae.layer, self.texts.controls
        target = score_target(
            self.model, self._windows, layer, intervention, self.special, piece=config.piece, chunk=config.chunk
        )
        with applied(self.model, layer, intervention, self.special):
            scores = score(
                self.model,
                controls,
                batch_size=config.batch_size,
                chunk=config.chunk,
                padding=pad_id(self.tokenizer),
            )
        found = [scores.of(item) for item in controls]
        return target.logprob_T, np.array([one.logprob / one.n_tokens for one in found])
