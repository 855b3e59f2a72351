"""B0 of the Menard fraction: what a text costs by the letters of other texts alone.

A model of bytes: every text has a probability, nothing is unknown to it, and its bits are those of no tokenizer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from menard_unlearn.errors import UserError

if TYPE_CHECKING:
    from nltk.lm import WittenBellInterpolated

ALPHABET = 256
"""Bytes. Each is counted once before any text is, so that none is impossible."""


@dataclass(frozen=True, eq=False)
class NGram:
    """Byte n-grams with interpolated Witten-Bell smoothing."""

    model: WittenBellInterpolated
    """Its words are bytes, as integers."""
    order: int
    """A byte is predicted by the order − 1 bytes before it at most."""

    def probability(self, byte: int, context: bytes) -> float:
        """P(byte | context), of which the last order − 1 bytes count."""
        return float(self.model.unmasked_score(byte, tuple(context)))


def train(texts: Iterable[str], order: int) -> NGram:
    """Count the byte n-grams of texts; none reaches from one text into the next.

    P(b | c) = (n(cb) + N(c) · P(b | c′)) / (n(c) + N(c)), where n counts occurrences, N(c) the distinct bytes that
    follow c, and c′ is c without its first byte (Witten-Bell, as in Chen and Goodman, arXiv cmp-lg/9606011). After the
    empty context each of the 256 bytes counts once more, so probabilities sum to 1 after any context.

    Fails where the texts hold or quote the text that is scored: B0 is then memory too. Raises UserError for no texts.
    """
    if order < 1:
        raise UserError(f"n-gram order {order} is below 1: give the number of bytes that are counted together, as 5")
    counts_N = _counts(texts, order)
    if not counts_N[0]:
        raise UserError("the n-gram model has no text to learn from: give a corpus with texts up to the cutoff")
    # Not at the top: half of nltk comes with it, seconds that every command would wait for
    from nltk.lm import NgramCounter, WittenBellInterpolated

    counter: Any = NgramCounter()  # it is annotated as holding None
    for byte in range(ALPHABET):
        counter.unigrams[byte] = counts_N[0][bytes([byte])] + 1
    for counts in counts_N[1:]:
        for gram, count in counts.items():
            counter[gram[:-1]][gram[-1]] = count
    return NGram(WittenBellInterpolated(order, counter=counter), order)


def bits(ngram: NGram, text: str, prompt: str) -> NDArray[np.float64]:
    """−log2 P of each UTF-8 byte of the text given all bytes before it, the prompt's included: bits_B.

    P is the mixture of the models of order 1, 2, … up to `order`, alike in weight before the text and reweighted by
    what each has given the text so far: P(b) = Σₙ wₙ Pₙ(b), wₙ ∝ Pₙ(text before b). So its sum over the text, B0,
    exceeds that of the best order by log2(order) bits at most, while one order alone may be far off: long n-grams of a
    corpus of few sentence patterns mislead on prose. Divided by its bytes B0 is bits/byte, comparable with any model's.
    """
    raw, start = (prompt + text).encode(), len(prompt.encode())
    bits_BN = np.array(
        [
            [-math.log2(ngram.probability(raw[at], raw[max(0, at - reach) : at])) for reach in range(ngram.order)]
            for at in range(start, len(raw))
        ]
    ).reshape(-1, ngram.order)
    # P(text up to b) of the mixture is the mean of the orders' own, and bits of b what it falls by.
    total_B = -np.logaddexp2.reduce(-bits_BN.cumsum(axis=0), axis=1) + math.log2(ngram.order)
    return np.diff(total_B, prepend=0.0)


def _counts(texts: Iterable[str], order: int) -> list[Counter[bytes]]:
    """Occurrences of every run of 1 … order bytes."""
    counts_N: list[Counter[bytes]] = [Counter() for _ in range(order)]
    for text in texts:
        raw = text.encode()
        for length, counts in enumerate(counts_N, start=1):
            counts.update(raw[at : at + length] for at in range(len(raw) - length + 1))
    return counts_N
