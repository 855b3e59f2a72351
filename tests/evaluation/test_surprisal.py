"""Surprisal by year, on models and texts whose bits are known."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import bigram, byte_tokenizer, llama

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.dating import PartialDate
from menard_unlearn.corpus.documents import Document
from menard_unlearn.corpus.encoding import encode_statement
from menard_unlearn.evaluation.dated_texts import (
    DatedText,
    SurprisalConfig,
    SurprisalPlan,
    dated_texts,
    plan_surprisal,
)
from menard_unlearn.evaluation.items import Probe
from menard_unlearn.evaluation.surprisal import AGAINST_KEYS, KEYS, YEAR_KEYS, against, measure_surprisal
from menard_unlearn.models.scores import ItemTokens, Scores, score

CONFIG = SurprisalConfig(
    reference_first=1900, reference_last=1930, characters=100, texts_a_year=4, replicates=100, seed=0
)
CUTOFF = 1939


def probe(year: int, number: int, *, question: bool = False) -> Probe:
    return Probe(
        id=f"f{year}-{number}/{question}",
        fact_id=f"f{year}-{number}",
        year=year,
        category="c",
        split="retain",
        prompt=f"Number {number} came about in",
        answer=f" {year}.",
        states_year=True,
        question=question,
    )


def planted(
    bits_of_year: dict[int, float], *, noise: float, texts_a_year: int = 4, seed: int = 1
) -> tuple[SurprisalPlan, Scores]:
    """Texts of ten tokens and ten bytes that cost so many bits a byte, give or take."""
    rng = np.random.default_rng(seed)
    texts, windows, found = [], [], {}
    for year, bits in bits_of_year.items():
        for number in range(texts_a_year):
            item = TokenItem(f"{year}/{number}", (1, year, number, *range(8)), 1)
            logprob_T = -math.log(2) * (bits + noise * rng.standard_normal(10))
            none_T = np.ones(10, np.int64)
            found[item.ids, 1] = ItemTokens(logprob_T, none_T, none_T, np.zeros(10), none_T)
            texts.append(DatedText(item.id, item.id, year, "x" * 10))
            windows.append((item,))
    return SurprisalPlan(tuple(texts), tuple(windows), (10,) * len(texts)), Scores(found, 0, 0)


def test_a_uniform_model_spends_the_same_on_every_year_and_has_no_excess() -> None:
    tokenizer = byte_tokenizer()
    texts = dated_texts([], [probe(year, n) for year in range(1900, 1960) for n in range(2)], CONFIG)
    plan = plan_surprisal(tokenizer, texts, CONFIG, 64)
    scores = score(bigram(torch.zeros(259, 259)), plan.items, batch_size=8, chunk=64, padding=0)
    found = measure_surprisal(plan, scores, CONFIG, CUTOFF)
    assert found["level"] == pytest.approx(math.log2(259), rel=1e-12)
    assert found["excess_after"] == pytest.approx(0, abs=1e-9)
    assert {row["n_texts"] for row in found["years"]} == {2} and len(found["years"]) == 60
    assert found["n_bytes"] == sum(len(text.text.encode()) for text in texts)
    assert all(row["excess"] == pytest.approx(0, abs=1e-9) for row in found["years"])


def test_keys_are_those_that_are_documented_and_all_numbers_are_finite() -> None:
    plan, scores = planted(dict.fromkeys(range(1900, 1960), 1.0), noise=0.1)
    found = measure_surprisal(plan, scores, CONFIG, CUTOFF)
    assert list(found) == list(KEYS) and found["left_out"] == []
    assert all(list(row) == list(YEAR_KEYS) for row in found["years"])
    assert list(against(found, found, CONFIG)) == list(AGAINST_KEYS) == list(against(found, None, CONFIG))
    json.dumps([found, against(found, found, CONFIG)], allow_nan=False)


def test_a_planted_jump_is_found_with_its_year_and_its_size() -> None:
    plan, scores = planted({year: 1.0 + 0.5 * (year > CUTOFF) for year in range(1900, 1980)}, noise=0.2)
    found = measure_surprisal(plan, scores, CONFIG, CUTOFF)
    assert found["change_year"] == 1939.5 and found["change_p_value"] <= 0.02
    assert found["change_low"] <= 1939.5 <= found["change_high"]
    assert found["excess_after"] == pytest.approx(0.5, abs=0.05)
    assert found["excess_after_low"] < found["excess_after"] < found["excess_after_high"]


def test_the_interval_of_the_excess_covers_the_truth_as_often_as_it_says() -> None:
    covered, config = 0, replace(CONFIG, replicates=1000)
    for seed in range(200):
        plan, scores = planted({y: 1.0 + 0.2 * (y > CUTOFF) for y in range(1910, 1960)}, noise=0.3, seed=seed)
        found = measure_surprisal(plan, scores, config, CUTOFF)
        covered += found["excess_after_low"] < 0.2 < found["excess_after_high"]
    assert 181 <= covered <= 198  # the 99% interval of a binomial of 200 at 0.95


def test_wordings_of_one_fact_count_once_in_the_bootstrap() -> None:
    plan, scores = planted(dict.fromkeys(range(1900, 1980), 1.0), noise=0.3)
    alone = measure_surprisal(plan, scores, CONFIG, CUTOFF)
    twice = replace(
        plan,
        texts=plan.texts + tuple(replace(text, id=f"again {text.id}") for text in plan.texts),
        windows=plan.windows * 2,
        n_bytes=plan.n_bytes * 2,
    )
    found = measure_surprisal(twice, scores, CONFIG, CUTOFF)
    for key in ("excess_after", "excess_after_low", "excess_after_high"):
        assert found[key] == pytest.approx(alone[key], rel=1e-9)


def test_differences_to_a_reference_cancel_what_is_hard_about_a_year() -> None:
    bumps = {year: 1 + math.sin(year) for year in range(1900, 1980)}
    own = measure_surprisal(
        *planted({y: b + 0.4 * (y > CUTOFF) + 0.1 for y, b in bumps.items()}, noise=0.05), CONFIG, 1939
    )
    base = measure_surprisal(*planted(bumps, noise=0.0), CONFIG, CUTOFF)
    found = against(own, base, CONFIG)
    assert found["level_difference"] == pytest.approx(0.1, abs=0.02)
    assert found["excess_after_difference"] == pytest.approx(0.4, abs=0.02)
    assert found["distance_signed"] == pytest.approx(0.4 / 2, abs=0.02) and found["n_years"] == 80
    assert found["change_year"] == 1939.5 and found["change_p_value"] <= 0.02


def test_a_model_does_not_differ_from_itself() -> None:
    own = measure_surprisal(*planted(dict.fromkeys(range(1900, 1980), 1.0), noise=0.3), CONFIG, CUTOFF)
    found = against(own, own, CONFIG)
    assert (found["distance"], found["distance_signed"], found["level_difference"]) == (0, 0, 0)
    assert found["change_year"] is None and found["change_p_value"] is None


def test_what_cannot_be_computed_is_null_and_named() -> None:
    plan, scores = planted(dict.fromkeys(range(1935, 1940), 1.0), noise=0.1)
    found = measure_surprisal(plan, scores, CONFIG, CUTOFF)
    nothing = {"level", "after", "excess_after", "excess_after_low", "excess_after_high"}
    nothing |= {"change_year", "change_low", "change_high", "change_p_value"}
    assert {key for key in KEYS if found[key] is None} == nothing
    assert len(found["left_out"]) == 3 and "1900-1930" in found["left_out"][0]
    assert all(row["excess"] is None and row["bits_per_byte"] is not None for row in found["years"])
    assert against(found, found, CONFIG)["distance"] is None
    empty = measure_surprisal(SurprisalPlan((), (), ()), Scores({}, 0, 0), CONFIG, CUTOFF)
    assert empty["years"] == [] and empty["n_texts"] == 0


def test_statements_share_the_rows_of_their_probes() -> None:
    tokenizer, probes = byte_tokenizer(), [probe(1900 + n, n) for n in range(8)]
    asked = [encode_statement(tokenizer, p.prompt, p.answer, p.id) for p in probes]
    plan = plan_surprisal(tokenizer, dated_texts([], probes, CONFIG), CONFIG, 64)
    assert {item.ids for item in plan.items} == {item.ids for item in asked}
    assert score(llama(), [*asked, *plan.items], batch_size=4, chunk=64, padding=0).n_rows == len(asked)


@pytest.mark.parametrize("bos", [True, False])
def test_figures_depend_neither_on_windows_of_the_batch_nor_on_order(bos: bool) -> None:
    tokenizer, model = byte_tokenizer(bos), llama()
    texts = dated_texts([], [probe(year, n) for year in range(1900, 1960, 5) for n in range(2)], CONFIG)
    found = []
    for order, batch_size, chunk, padding in ((texts, 3, 7, 0), (texts[::-1], 50, 999, 5)):
        plan = plan_surprisal(tokenizer, order, CONFIG, 64)
        scores = score(model, plan.items, batch_size=batch_size, chunk=chunk, padding=padding)
        found.append(measure_surprisal(plan, scores, CONFIG, CUTOFF))
    for key in set(KEYS) - {"years", "left_out"}:
        assert found[0][key] == pytest.approx(found[1][key], rel=1e-9), key
    assert [row["n_bytes"] for row in found[0]["years"]] == [row["n_bytes"] for row in found[1]["years"]]


def test_documents_win_over_statements_and_are_read_from_their_beginning() -> None:
    dated = [Document(str(n), f"{n} " * 80, PartialDate(1920, None, None), "") for n in range(9)]
    undated = Document("u", "text", None, "")
    texts = dated_texts([*dated, undated], [probe(1950, 0)], CONFIG)
    assert len(texts) == CONFIG.texts_a_year and {text.year for text in texts} == {1920}
    assert all(len(text.text) == CONFIG.characters for text in texts)
    assert [t.id for t in dated_texts(dated[::-1], [], CONFIG)] == [t.id for t in texts]
    assert [t.id for t in dated_texts(dated, [], replace(CONFIG, seed=1))] != [t.id for t in texts]
    assert dated_texts([undated], [probe(1950, 0), probe(1950, 1, question=True)], CONFIG) == [
        DatedText("f1950-0/False", "f1950-0", 1950, "Number 0 came about in 1950.")
    ]


def test_settings_that_cannot_be_are_refused() -> None:
    for name, value in (("reference_last", 1899), ("characters", 0), ("texts_a_year", 0), ("replicates", 0)):
        with pytest.raises(ValueError, match=name):
            replace(CONFIG, **{name: value})
