"""Token by token: log-probability and rank of the target as the model is, clamped, and under controls.

A feature is said to help a token where it raises its log-probability by more than every random control does. If the
feature were one of the random ones this would hold by chance at one token in n + 1: `chance` stands beside the share.

Legend: T scored tokens of the target, R random controls.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.encoded import EncodedTarget, encode_target, in_context
from menard_unlearn.evaluation.target import Target
from menard_unlearn.features.steering import NOTHING, RANDOM, Intervention, applied
from menard_unlearn.models.long import score_long

KEYS = {
    "target_name": "what the configuration calls the target",
    "target_sha256": "SHA-256 of the target",
    "layer": "decoder layer, from 0, after which the stream is changed",
    "n_tokens": "scored tokens, T",
    "columns": "what each column of `tokens` was scored under, the first being nothing: see COLUMN_KEYS",
    "controls": "the same of each random control, R of them; token by token they are told as a mean and a maximum",
    "tokens": "a row a token: see TOKEN_KEYS",
    "chance": "1 / (R + 1), the mean share of tokens that a random control raises by more than all others do",
    "left_out": "what is null, and why",
}
"""Key of feature_tokens.json → meaning and unit."""

COLUMN_KEYS = {
    "name": "name of the intervention",
    "kind": "none, feature, features, difference_of_means, guardrail, random_feature or random_direction",
    "k": "dose in units of the feature's largest activation; null for what has none",
    "nats": "−ln P(text | BOS, prompt) under it",
    "nats_saved": "nats unclamped minus these: above 0 the text has become likelier",
    "share_rank1": "share of tokens that are the only argmax (ties count against)",
    "share_raised": "share of tokens whose log-probability is above the unclamped one",
    "share_helped": "share of tokens raised, and by more than under every random control; null for these themselves, "
    "for nothing, and without them",
}
"""Key of an entry of `columns` and `controls` → meaning and unit."""

TOKEN_KEYS = {
    "bytes": "UTF-8 bytes that the token adds",
    "text": "the token's text; only where the target is published",
    "logprob": "nats given those before it, one for each of `columns`",
    "rank_best": "rank with ties in the model's favour, from 1; likewise",
    "rank_worst": "rank with ties against it; likewise",
    "helped": "whether it is raised, and by more than under every random control; one for each of `columns`, null for "
    "the unclamped one and without controls",
    "random_mean": "change of the log-probability under random controls, nats: their mean",
    "random_max": "the largest of these changes; both null without controls",
}
"""Key of an entry of `tokens` → meaning and unit."""

NO_CONTROL = "share_helped, helped, chance, random_mean and random_max: no random control was given"


@dataclass(frozen=True, eq=False)
class TargetScores:
    """The scored tokens of the target under one intervention."""

    logprob_T: NDArray[np.float64]
    """Nats."""
    rank_best_T: NDArray[np.int64]
    rank_worst_T: NDArray[np.int64]

    @property
    def nats(self) -> float:
        """−ln P of the text."""
        return -float(self.logprob_T.sum())


def score_target(
    model: PreTrainedModel,
    windows: Sequence[TokenItem],
    layer: int,
    intervention: Intervention,
    special: Collection[int],
    *,
    piece: int,
    chunk: int,
) -> TargetScores:
    """Score the target's windows (`encoded.in_context`) under an intervention, each with a cache of its own."""
    with applied(model, layer, intervention, special):
        found = [score_long(model, window, piece=piece, chunk=chunk) for window in windows]
    return TargetScores(
        np.concatenate([part.logprob_T for part in found]),
        np.concatenate([part.rank_best_T for part in found]),
        np.concatenate([part.rank_worst_T for part in found]),
    )


def score_tokens(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    target: Target,
    interventions: Sequence[Intervention],
    layer: int,
    special: Collection[int],
    *,
    piece: int,
    chunk: int,
    stride: int | None,
) -> dict:
    """feature_tokens.json: the target under nothing and under each intervention; keys of `KEYS`.

    Random controls among them are what the others are read against. Raises UserError for two interventions of a name,
    and for a target beyond the context without a `stride`, as reproduction does.
    """
    _refuse_twice([NOTHING, *interventions])
    encoded = encode_target(tokenizer, target, target.prompt)
    windows, _ = in_context(model, encoded, stride)
    scored = [
        score_target(model, windows, layer, own, special, piece=piece, chunk=chunk) for own in (NOTHING, *interventions)
    ]
    plain_T = scored[0].logprob_T
    pairs = list(zip((NOTHING, *interventions), scored, strict=True))
    random_RT = np.array([found.logprob_T - plain_T for own, found in pairs if own.kind in RANDOM])
    columns = [_Column(own, found, found.logprob_T - plain_T, random_RT) for own, found in pairs]
    told = [column for column in columns if column.own.kind not in RANDOM]
    return {
        "target_name": target.name,
        "target_sha256": target.sha256,
        "layer": layer,
        "n_tokens": len(plain_T),
        "columns": [column.summary() for column in told],
        "controls": [column.summary() for column in columns if column.own.kind in RANDOM],
        "tokens": _rows(target, encoded, told, random_RT),
        "chance": 1 / (len(random_RT) + 1) if len(random_RT) else None,
        "left_out": [] if len(random_RT) else [NO_CONTROL],
    }


def _refuse_twice(interventions: Sequence[Intervention]) -> None:
    names = [own.name for own in interventions]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two interventions are called {name!r}: give each a name of its own")


@dataclass(frozen=True, eq=False)
class _Column:
    own: Intervention
    found: TargetScores
    change_T: NDArray[np.float64]
    """Of the log-probability against the unclamped one."""
    random_RT: NDArray[np.float64]
    """The same of every random control."""

    @property
    def helped_T(self) -> NDArray[np.bool_] | None:
        """Tokens raised by more than by every random control; None for what is not read against them."""
        if self.own.kind in ("none", *RANDOM) or not len(self.random_RT):
            return None
        return (self.change_T > 0) & (self.change_T > self.random_RT.max(axis=0))

    def summary(self) -> dict:
        """An entry of `columns` or `controls`."""
        helped_T = self.helped_T
        return {
            "name": self.own.name,
            "kind": self.own.kind,
            "k": self.own.k,
            "nats": self.found.nats,
            "nats_saved": float(self.change_T.sum()),
            "share_rank1": float((self.found.rank_worst_T == 1).mean()),
            "share_raised": float((self.change_T > 0).mean()),
            "share_helped": None if helped_T is None else float(helped_T.mean()),
        }


def _rows(target: Target, encoded: EncodedTarget, told: Sequence[_Column], random_RT: NDArray) -> list[dict]:
    """A row a token, its text only where the target is published."""
    rows, helped = [], [column.helped_T for column in told]
    for t, n_bytes in enumerate(encoded.bytes_T):
        row = {
            "bytes": n_bytes,
            "logprob": [float(column.found.logprob_T[t]) for column in told],
            "rank_best": [int(column.found.rank_best_T[t]) for column in told],
            "rank_worst": [int(column.found.rank_worst_T[t]) for column in told],
            "helped": [None if helped_T is None else bool(helped_T[t]) for helped_T in helped],
            "random_mean": float(random_RT[:, t].mean()) if len(random_RT) else None,
            "random_max": float(random_RT[:, t].max()) if len(random_RT) else None,
        }
        rows.append(row | ({"text": encoded.pieces_T[t]} if target.publish else {}))
    return rows
