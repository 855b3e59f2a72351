"""The joint table: what is compared with what, and what its verdicts say."""

from __future__ import annotations

import numpy as np
import pytest

from menard_unlearn.config import build
from menard_unlearn.evaluation.counterfactual import TextScore
from menard_unlearn.features.joint import KEYS, OUT, PLAIN, Cell, Mean, block_mean, table, verdict


def cell(model, clamp, logprob_T, context=0):
    figures = dict.fromkeys(KEYS) | {"n_tokens": len(logprob_T), "left_out": []}
    for key in ("model", "clamp", "context_tokens"):
        del figures[key]
    return Cell(model, clamp, context, figures, TextScore(np.asarray(logprob_T), np.full(len(logprob_T), 4)))


@pytest.fixture(scope="module")
def config():
    import yaml

    from menard_unlearn.config import conf_dir
    from menard_unlearn.evaluation.config import EvaluationConfig

    return build(yaml.safe_load((conf_dir() / "evaluation/default.yaml").read_text()), EvaluationConfig)


def rows_of(config, effects, noise=0.01, n=500):
    """Rows of a base and its OUT under none and feature, with `effects` = (IN's gain, OUT's gain) a token."""
    rng = np.random.default_rng(0)
    plain: dict[str, np.ndarray] = {"base": rng.normal(-0.5, noise, n), OUT: rng.normal(-3, noise, n)}
    gain: dict[str, float] = {"base": effects[0], OUT: effects[1]}
    cells = [cell(model, PLAIN, plain[model]) for model in plain]
    cells += [cell(model, "feature", plain[model] + rng.normal(gain[model], noise, n)) for model in plain]
    return {(row["model"], row["clamp"]): row for row in table(cells, None, config)}


def test_a_gain_of_memory_and_a_gain_of_style_are_told_apart(config):
    style = rows_of(config, (0.3, 0.3))["base", "feature"]
    assert style["gain"] == pytest.approx(0.3, abs=0.01)
    assert style["unlocked"] == pytest.approx(0, abs=0.01)
    assert style["verdict"] == "adds style"
    memory = rows_of(config, (0.3, 0.0))["base", "feature"]
    assert memory["unlocked"] == pytest.approx(0.3, abs=0.01)
    assert memory["verdict"] == "unlocks memory"
    assert rows_of(config, (0.0, 0.3))["base", "feature"]["verdict"] == "hides memory, adds style"
    assert rows_of(config, (-0.3, -0.3))["base", "feature"]["verdict"] == "spoils style"


def test_counterfactual_memorization_is_taken_under_the_same_condition(config):
    rows = rows_of(config, (0.3, 0.1), n=400)
    plain, clamped = rows["base", PLAIN], rows["base", "feature"]
    assert plain["counterfactual_nats"] == pytest.approx(400 * 2.5, rel=0.01)
    change = clamped["counterfactual_nats"] - plain["counterfactual_nats"]
    assert change == pytest.approx(400 * clamped["unlocked"])
    assert rows[OUT, "feature"]["counterfactual_nats"] is None


def test_what_has_no_partner_is_null_and_named(config):
    (row,) = table([cell("base", "feature", np.full(300, -1.0))], None, config)
    assert row["gain"] is None
    assert row["unlocked"] is None
    assert row["verdict"] is None
    assert any("without_target" in reason for reason in row["left_out"])


def test_cells_of_another_context_are_not_compared(config):
    cells = [cell("base", PLAIN, np.full(300, -2.0), 0), cell("base", "feature", np.full(300, -1.0), 64)]
    assert [row["gain"] for row in table(cells, None, config)] == [None, None]


def test_a_block_mean_covers_the_truth_and_few_blocks_give_no_interval():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        values = np.repeat(rng.normal(0.1, 1, 40), 50) + rng.normal(0, 0.1, 2000)  # blocks rise and fall together
        mean = block_mean(values, block=50, replicates=400, seed=0)
        hits += mean.low is not None and mean.high is not None and mean.low <= 0.1 <= mean.high
    assert 175 <= hits <= 199
    few = block_mean(np.ones(199), block=50, replicates=10, seed=0)
    assert few == Mean(1.0, None, None)
    assert verdict(few, few) == "undetermined"
