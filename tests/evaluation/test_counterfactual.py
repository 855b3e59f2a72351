"""C1 and C2 on models of which it is known whether they memorized: a Markov source, and counts of the string alone."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from toy import bigram, byte_tokenizer, successor
from transformers import PreTrainedModel

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.counterfactual import KEYS, TextScore, against
from menard_unlearn.evaluation.ngram import bits, train
from menard_unlearn.models.scores import score


def _states(table_VV: NDArray[np.float64], n: int, seed: int) -> list[int]:
    rng, states = np.random.default_rng(seed), [0]
    cumulative_VV = table_VV.cumsum(axis=1)
    for draw in rng.random(n - 1):
        states.append(min(int(np.searchsorted(cumulative_VV[states[-1]], draw)), len(table_VV) - 1))
    return states


def _counted(sequences: list[list[int]], smoothing: float) -> PreTrainedModel:
    """A bigram model of byte tokens as a corpus has them."""
    counts_VV = np.full((259, 259), smoothing)
    for sequence in sequences:
        for before, after in pairwise(sequence):
            counts_VV[before, after] += 1
    return bigram(torch.from_numpy(np.log(counts_VV / counts_VV.sum(axis=1, keepdims=True))))


def scored(model: PreTrainedModel, text: str, before: str = "") -> TextScore:
    tokenizer = byte_tokenizer()
    prompt = tokenizer.encode(before, add_special_tokens=False)
    ids = (1, *prompt, *tokenizer.encode(text, add_special_tokens=False))
    item = TokenItem("text", ids, 1 + len(prompt))
    found = score(model, [item], batch_size=1, chunk=256, padding=0).of(item)
    return TextScore.of_tokens([{"logprob": value, "bytes": 1} for value in found.logprob_T.tolist()])


@pytest.fixture(scope="module")
def source() -> tuple[list[int], str, str]:
    """A corpus, as ids of bytes and as letters, and a text, drawn from one Markov source of 40 letters."""
    rng = np.random.default_rng(1)
    table_VV = rng.dirichlet(np.full(40, 0.15), size=40)
    letters = [chr(code) for code in range(65, 105)]
    corpus, text = ("".join(letters[s] for s in _states(table_VV, n, seed)) for n, seed in ((60_000, 2), (450, 3)))
    return byte_tokenizer().encode(corpus, add_special_tokens=False), corpus, text


def test_a_model_that_knows_the_source_wrote_the_text_afresh(source: tuple[list[int], str, str]) -> None:
    corpus_ids, corpus, text = source
    text_ids = byte_tokenizer().encode(text, add_special_tokens=False)
    knows = [_counted([corpus_ids, text_ids], 0.01), _counted([corpus_ids], 0.01)]
    own, out = (scored(model, text[1:], text[0]) for model in knows)
    found = against([own], [out], bits(train([corpus], 1), text[1:], text[0]), block=50, bootstrap=400, seed=0)
    assert set(found) == set(KEYS) and found["left_out"] == []
    assert found["menard_fraction"] == pytest.approx(1, abs=0.1)
    assert found["menard_fraction_low"] <= found["menard_fraction"] <= found["menard_fraction_high"]
    assert found["menard_fraction_high"] - found["menard_fraction_low"] < 0.2
    assert 0 < found["counterfactual_bits_per_byte"] < 0.1


def test_a_model_that_was_over_fitted_on_the_text_did_not(source: tuple[list[int], str, str]) -> None:
    corpus_ids, corpus, text = source
    text_ids = byte_tokenizer().encode(text, add_special_tokens=False)
    # OUT knows how often letters occur and nothing of their order.
    frequency_V = np.bincount(corpus_ids, minlength=259) + 0.5
    by_letter = bigram(torch.from_numpy(np.log(frequency_V)).expand(259, 259))
    own, out = scored(_counted([text_ids], 1e-3), text[1:], text[0]), scored(by_letter, text[1:], text[0])
    ngram_B = bits(train([corpus], 1), text[1:], text[0])
    found = against([own], [out], ngram_B, block=50, bootstrap=400, seed=0)
    assert abs(found["menard_fraction"]) < 0.05 and found["menard_fraction_high"] < 0.3
    uniform = scored(bigram(torch.zeros(259, 259)), text[1:], text[0])
    found = against([own], [uniform], ngram_B, block=50, bootstrap=400, seed=0)
    assert found["menard_fraction"] < found["menard_fraction_high"] < -0.5
    assert found["bits_per_byte_out"] == pytest.approx(math.log2(259))


def test_a_softened_successor_of_a_text_without_repetition_is_memory() -> None:
    text = "".join(chr(33 + (37 * number) % 89) for number in range(89))
    ids = [1, *byte_tokenizer().encode(text, add_special_tokens=False)]
    rng = np.random.default_rng(0)
    seen = "".join(rng.choice(list(text), 5000))
    own, out = scored(successor(ids, strength=7), text), scored(successor(ids, strength=1), text)
    found = against([own], [out], bits(train([seen], 2), text, ""), block=10, bootstrap=400, seed=0)
    assert found["menard_fraction"] < 0.3 and found["bits_per_byte_in"] < 1
    assert found["counterfactual_nats"] == pytest.approx(own.nats - out.nats)


def test_the_fraction_by_hand_and_across_tokenizers() -> None:
    own = TextScore(np.full(400, -1.0 * math.log(2)), np.full(400, 1))
    coarse = TextScore(np.full(100, -12.0 * math.log(2)), np.full(100, 4))
    found = against([own], [coarse], np.full(410, 5.0), block=50, bootstrap=100, seed=0)
    assert found["menard_fraction"] == pytest.approx(0.5)
    assert found["menard_fraction_low"] == pytest.approx(0.5) == found["menard_fraction_high"]
    for side, expected in (("in", 1), ("out", 3), ("ngram", 5)):
        assert found[f"bits_per_byte_{side}"] == pytest.approx(expected)
    assert found["counterfactual_nats"] == pytest.approx(800 * math.log(2))
    assert found["counterfactual_bits_per_byte"] == pytest.approx(2)


def test_the_interval_covers_the_fraction_of_the_source() -> None:
    rng, covered = np.random.default_rng(0), 0
    for seed in range(60):
        # Bits a token are drawn anew: expectations are 5, 4 and 3, F is 1/2.
        b0_T, out_T, in_T = (rng.gamma(4, mean / 4, 1000) for mean in (5, 4, 3))
        own, out = (TextScore(-bits_T * math.log(2), np.ones(1000, int)) for bits_T in (in_T, out_T))
        found = against([own], [out], b0_T, block=50, bootstrap=200, seed=seed)
        covered += found["menard_fraction_low"] <= 0.5 <= found["menard_fraction_high"]
    assert 50 <= covered <= 60


def test_seeds_are_averaged_and_their_spread_is_told() -> None:
    own, out = (
        [TextScore(np.full(10, value), np.ones(10, int)) for value in values] for values in ((-1, -3), (-4, -6, -8))
    )
    found = against(own, out, None, block=50, bootstrap=10, seed=0)
    assert found["counterfactual_nats"] == pytest.approx(40)
    assert found["counterfactual_spread_nats"] == pytest.approx(math.sqrt(200 + 400))
    assert (found["n_in"], found["n_out"], found["n_pairs"]) == (2, 3, 2)
    assert against(own[:1], out[:1], None, block=50, bootstrap=10, seed=0)["counterfactual_spread_nats"] is None


def test_nothing_stands_in_for_what_is_not_there() -> None:
    own = TextScore(np.full(400, -1.0), np.ones(400, int))
    found = against([own], [], None, block=50, bootstrap=10, seed=0)
    assert set(found) == set(KEYS)
    assert found["counterfactual_nats"] is found["bits_per_byte_out"] is found["menard_fraction"] is None
    assert found["left_out"] == [
        "C1: needs model.without_target",
        "C2: needs model.without_target and the n-gram model",
    ]
    for b0 in (1.0, 1.45):  # the model's bits are 1.4427
        found = against([own], [own], np.full(400, b0), block=50, bootstrap=10, seed=0)
        assert found["menard_fraction"] is None and found["left_out"][0].startswith("C2: undefined")
    found = against([own], [own], np.full(400, 3.0), block=200, bootstrap=10, seed=0)
    assert found["menard_fraction"] == 1 and found["menard_fraction_low"] is None
    assert found["left_out"] == ["interval of C2: the text has 2 blocks, 5 are needed"]


def test_scores_of_other_texts_are_refused() -> None:
    own, other = (TextScore(np.full(n, -1.0), np.ones(n, int)) for n in (10, 11))
    with pytest.raises(UserError, match="10 and 11 bytes"):
        against([own], [other], None, block=5, bootstrap=10, seed=0)
    with pytest.raises(UserError, match="scored 9 bytes, the model 10"):
        against([own], [own], np.ones(9), block=5, bootstrap=10, seed=0)
    with pytest.raises(UserError, match="no score of the text"):
        against([], [own], None, block=5, bootstrap=10, seed=0)
