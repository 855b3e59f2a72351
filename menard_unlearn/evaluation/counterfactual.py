"""C1 and C2: what a text gains in probability from having been seen, and how much of that was there without it.

IN is a model that may have seen the text, OUT one of the same recipe that saw all but the text, its translations,
quotations and near-duplicates (`model.without_target`). gold is no OUT: it lacks everything after the cutoff, and the
difference would be one of time. For the same reason no membership test (Min-K%, zlib) is computed here: across the
cutoff it tells dates apart and not members (arXiv 2406.06443).

Legend: T tokens, B bytes, K blocks, R replicates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from menard_unlearn.errors import UserError

KEYS = {
    "counterfactual_nats": "C1, ln P_IN(text) - ln P_OUT(text), mean over IN minus mean over OUT; null without OUT",
    "counterfactual_bits_per_byte": "C1 in bits, divided by the text's bytes",
    "counterfactual_spread_nats": "standard deviation of C1 over seeds; null where both sides have one",
    "n_in": "number of models IN",
    "n_out": "number of models OUT; 3 or more are wanted",
    "n_pairs": "number of pairs of an IN and an OUT that share no model",
    "bits_per_byte_in": "B_IN, bits/byte, mean over IN",
    "bits_per_byte_out": "B_OUT, bits/byte, mean over OUT; null without OUT",
    "bits_per_byte_ngram": "B0, bits/byte of the n-gram model; null without one",
    "menard_fraction": "C2, (B0 - B_OUT) / (B0 - B_IN): 1 written afresh, 0 memorized, below 0 where OUT loses to the "
    "n-gram model; null unless B_IN is 5% or more below B0",
    "menard_fraction_low": "lower end of C2's 95% interval, blocks of tokens drawn with replacement",
    "menard_fraction_high": "upper end of that interval; both null where B0 - B_IN is too small in a replicate, or "
    "there are fewer than 5 blocks",
    "left_out": "what could not be computed, and what it needs",
}
"""Key of counterfactual.json → meaning and unit."""

MARGIN = 0.05
"""C2 is undefined unless B0 − B_IN is at least this share of B0: a model that does not beat n-grams has no gain to
divide, and the ratio of two losses reads like a share of memory."""
MIN_BLOCKS = 5
"""Fewer say nothing of how the text varies."""


@dataclass(frozen=True, eq=False)
class TextScore:
    """How one model scored the text."""

    logprob_T: NDArray[np.float64]
    """Nats of each scored token."""
    bytes_T: NDArray[np.int64]
    """UTF-8 bytes that each adds."""

    @classmethod
    def of_tokens(cls, tokens: Sequence[Mapping[str, Any]]) -> TextScore:
        """From the entries of `tokens` in target_tokens.json."""
        return cls(
            np.array([token["logprob"] for token in tokens], np.float64),
            np.array([token["bytes"] for token in tokens], np.int64),
        )

    @property
    def nats(self) -> float:
        """ln P of the scored tokens."""
        return float(self.logprob_T.sum())

    @property
    def n_bytes(self) -> int:
        """Bytes of the scored tokens."""
        return int(self.bytes_T.sum())

    def bits_between(self, edge_K: NDArray[np.int64]) -> NDArray[np.float64]:
        """Bits from one byte to the next of these; within a token they are spread over its bytes."""
        place_T = np.concatenate([[0], self.bytes_T.cumsum()])
        spent_T = np.concatenate([[0.0], -self.logprob_T.cumsum() / math.log(2)])
        return np.diff(np.interp(edge_K, place_T, spent_T))


def against(
    own: Sequence[TextScore],
    out: Sequence[TextScore],
    ngram_B: NDArray[np.float64] | None,
    *,
    block: int,
    bootstrap: int,
    seed: int,
) -> dict:
    """C1 and C2 of the models IN (`own`, one a seed) against the models OUT; keys of `KEYS`.

    `ngram_B` is `ngram.bits` of the text, of which the last `n_bytes` are those of the scored tokens. Blocks hold about
    `block` tokens. C1 is the counterfactual memorization of arXiv 2112.12938 in log-probability; both fail where OUT
    differs from IN in anything but the text. Raises UserError where the models scored different texts.
    """
    if not own:
        raise UserError("no score of the text to compare: give one evaluation of it or more")
    n_bytes = own[0].n_bytes
    if lengths := {score.n_bytes for score in (*own, *out)} - {n_bytes}:
        raise UserError(f"scores are of texts of {n_bytes} and {lengths.pop()} bytes: evaluate all on the same target")
    if ngram_B is not None and len(ngram_B) < n_bytes:
        raise UserError(f"the n-gram model scored {len(ngram_B)} bytes, the model {n_bytes}: give both the same text")
    edge_K = _edges(own[0], block)
    in_K = np.mean([score.bits_between(edge_K) for score in own], axis=0)
    out_K = np.mean([score.bits_between(edge_K) for score in out], axis=0) if out else None
    ngram_K = None if ngram_B is None else _sums(ngram_B[len(ngram_B) - n_bytes :], edge_K)
    found, left_out = _fraction(in_K, out_K, ngram_K, bootstrap, seed)
    return {
        **_gain(own, out),
        "bits_per_byte_in": float(in_K.sum()) / n_bytes,
        "bits_per_byte_out": None if out_K is None else float(out_K.sum()) / n_bytes,
        "bits_per_byte_ngram": None if ngram_K is None else float(ngram_K.sum()) / n_bytes,
        **found,
        "left_out": ([] if out else ["C1: needs model.without_target"]) + left_out,
    }


def _gain(own: Sequence[TextScore], out: Sequence[TextScore]) -> dict:
    """C1, and its spread: the variances of both sides' seeds add up."""
    sides = [[score.nats for score in side] for side in (own, out)]
    nats = float(np.mean(sides[0]) - np.mean(sides[1])) if out else None
    variances = [float(np.var(side, ddof=1)) for side in sides if len(side) > 1]
    return {
        "counterfactual_nats": nats,
        "counterfactual_bits_per_byte": None if nats is None else nats / (math.log(2) * own[0].n_bytes),
        "counterfactual_spread_nats": math.sqrt(sum(variances)) if variances and out else None,
        "n_in": len(own),
        "n_out": len(out),
        "n_pairs": min(len(own), len(out)),
    }


def _fraction(
    in_K: NDArray[np.float64],
    out_K: NDArray[np.float64] | None,
    ngram_K: NDArray[np.float64] | None,
    bootstrap: int,
    seed: int,
) -> tuple[dict, list[str]]:
    """C2 with its interval, and why there is none."""
    nothing = dict.fromkeys(("menard_fraction", "menard_fraction_low", "menard_fraction_high"))
    if out_K is None or ngram_K is None:
        needs = ["model.without_target"] * (out_K is None) + ["the n-gram model"] * (ngram_K is None)
        return nothing, [f"C2: needs {' and '.join(needs)}"]
    whole_1K = np.ones((1, len(in_K)))
    fraction, defined = _ratio(whole_1K, in_K, out_K, ngram_K)
    if not defined.all():
        return nothing, [f"C2: undefined, the model's bits are not {MARGIN:.0%} below the n-gram model's"]
    found = nothing | {"menard_fraction": float(fraction[0])}
    if len(in_K) < MIN_BLOCKS:
        return found, [f"interval of C2: the text has {len(in_K)} blocks, {MIN_BLOCKS} are needed"]
    drawn_RK = np.random.default_rng(seed).multinomial(len(in_K), np.full(len(in_K), 1 / len(in_K)), size=bootstrap)
    fraction_R, defined = _ratio(drawn_RK, in_K, out_K, ngram_K)
    if not defined.all():
        return found, [f"interval of C2: undefined in {(~defined).mean():.0%} of the replicates"]
    low, high = np.quantile(fraction_R, (0.025, 0.975))
    return found | {"menard_fraction_low": float(low), "menard_fraction_high": float(high)}, []


def _ratio(
    weight_RK: NDArray, in_K: NDArray, out_K: NDArray, ngram_K: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """F of each row of block weights, and where it is defined."""
    gain_R = weight_RK @ (ngram_K - in_K)
    defined_R = gain_R >= MARGIN * (weight_RK @ ngram_K)
    return weight_RK @ (ngram_K - out_K) / np.where(defined_R, gain_R, 1.0), defined_R


def _edges(score: TextScore, block: int) -> NDArray[np.int64]:
    """Bytes at which blocks of about `block` tokens begin and end."""
    n_tokens = len(score.bytes_T)
    token_K = np.linspace(0, n_tokens, max(1, round(n_tokens / block)) + 1).round().astype(int)
    return np.concatenate([[0], score.bytes_T.cumsum()])[token_K]


def _sums(bits_B: NDArray[np.float64], edge_K: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.diff(np.concatenate([[0.0], bits_B.cumsum()])[edge_K])
