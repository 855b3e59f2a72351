"""Byte n-grams: counts by hand, proper probabilities, and a source whose entropy is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.ngram import bits, train


def test_first_order_counts_are_raised_by_one() -> None:
    ngram = train(["aab"], 1)
    assert ngram.probability(ord("a"), b"") == pytest.approx(3 / 259)
    assert ngram.probability(ord("b"), b"zz") == pytest.approx(2 / 259)
    assert ngram.probability(0, b"") == pytest.approx(1 / 259)


def test_second_order_is_witten_bell_by_hand() -> None:
    ngram = train(["abac"], 2)
    # After a: b once, c once, two kinds.
    assert ngram.probability(ord("b"), b"a") == pytest.approx((1 + 2 * 2 / 260) / 4)
    assert ngram.probability(ord("x"), b"a") == pytest.approx((0 + 2 * 1 / 260) / 4)
    assert ngram.probability(ord("b"), b"?") == pytest.approx(2 / 260)


def test_no_run_reaches_from_one_text_into_the_next() -> None:
    assert train(["a", "b"], 2).probability(ord("b"), b"a") == pytest.approx(2 / 258)
    assert train(["ab"], 2).probability(ord("b"), b"a") > 0.5


def test_probabilities_of_all_bytes_sum_to_one_after_any_context() -> None:
    ngram = train(["the cat and the hat", "é è ñ", "theatre"], 4)
    for context in (b"", b"the", b"th", "é".encode(), b"\xff\x00\x01", b"and the"):
        assert sum(ngram.probability(byte, context) for byte in range(256)) == pytest.approx(1, abs=1e-12)


def test_bits_are_of_the_text_alone_and_given_the_prompt() -> None:
    ngram = train(["quixote " * 20], 3)
    whole, after = bits(ngram, "quixote é", ""), bits(ngram, "xote é", "qui")
    assert len(whole) == 10 and len(after) == 7
    assert after[0] < 1 < bits(ngram, "xote é", "")[0]
    assert np.isfinite(bits(ngram, "\N{SNOWMAN}\x00", "")).all()


def test_the_mixture_of_orders_is_nearly_as_good_as_the_best_of_them() -> None:
    texts, text = ["he said that the bell was his. " * 30], "she heard what a bell it was"
    models = [train(texts, order) for order in (1, 2, 3, 4)]
    raw = text.encode()
    alone = [-sum(math.log2(model.probability(raw[at], raw[:at])) for at in range(len(raw))) for model in models]
    mixed = bits(models[-1], text, "")
    assert min(alone) <= mixed.sum() <= min(alone) + 2
    # P(text) is the mean of the orders' own, at each length of the text.
    assert 2.0 ** -mixed.sum() == pytest.approx(np.mean([2.0**-total for total in alone]), rel=1e-9)
    first = np.mean([model.probability(raw[0], b"") for model in models])
    assert mixed[0] == pytest.approx(-math.log2(first))


def test_a_known_markov_source_costs_its_entropy() -> None:
    rng = np.random.default_rng(0)
    table_VV = rng.dirichlet(np.full(8, 0.4), size=8)
    states = [0]
    for _ in range(22_000):
        states.append(int(rng.choice(8, p=table_VV[states[-1]])))
    letters = "".join("abcdefgh"[state] for state in states)
    seen, text = letters[:20_000], letters[20_000:]
    places = [(states[at - 1], states[at]) for at in range(20_000, len(states))]
    expected = -np.mean([math.log2(table_VV[before, after]) for before, after in places])
    assert bits(train([seen], 2), text, seen[-1]).mean() == pytest.approx(expected, rel=0.01)
    assert bits(train([seen], 5), text, seen[-1]).mean() == pytest.approx(expected, rel=0.02)
    assert bits(train([seen], 1), text, "").mean() > 1.2 * expected


def test_bad_input_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="has no text to learn from"):
        train(["", ""], 3)
    with pytest.raises(UserError, match="order 0 is below 1"):
        train(["a"], 0)
