"""B5, (n, p)-discoverable extraction: how probably a model writes a text's next 50 tokens after the 50 before them.

p_z of a window is the probability of its suffix given its prefix, whatever greedy decoding would write (arXiv
2410.19482); a text is covered at p where some window of p_z ≥ p lies over it (arXiv 2505.12546).

Legend: T tokens of the text, W windows, C characters (code points) of the text, B blocks, R replicates.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from menard_unlearn.evaluation.windows import ExtractionConfig, ExtractionPlan, TextPlan, window_logprobs
from menard_unlearn.models.scores import Scores
from menard_unlearn.statistics.intervals import wilson

COVERAGE_AT = (0.001, 0.01, 0.1, 0.5)
"""Values of p_z from which a window counts as covering its suffix."""
CHANCE = 0.5
"""The p of n(p): the chance with which the suffix shall turn up at least once among n samples."""
COUNTABLE = 1e15
"""Numbers of samples below this are given as whole numbers, those above by their logarithm alone."""
NEGLIGIBLE = -40.0
"""Below this log-probability, in nats, 1 − p_z rounds to 1 and ln(1 − p_z) is −p_z to the last digit."""

KEYS = {
    "prefix": "tokens of a window that are given, after BOS where the tokenizer has one",
    "suffix": "tokens of a window that are scored",
    "stride": "tokens from one window to the next; the last window ends with the text, whatever the stride",
    "top_k": "k of the top-k sampling",
    "texts": "one entry a text, keys of TEXT_KEYS: the target, its editions, its controls",
    "left_out": "what could not be measured, and why",
}
"""Key of extraction.json → meaning and unit."""

TEXT_KEYS = {
    "role": "target, edition or control",
    "name": "what the configuration calls the text",
    "sha256": "SHA-256 of the text",
    "language": "its language",
    "n_tokens": "tokens of the whole text, BOS left out",
    "n_chars": "characters (code points) of the text",
    "n_chars_tested": "characters under at least one suffix: all but those of the first prefix",
    "n_windows": "windows; neighbours overlap, so they are far from independent",
    "n_independent": "windows that fit side by side without sharing a suffix token",
    "full": "sampling from the full softmax at temperature 1, keys of SAMPLING_KEYS; null where left out",
    "top_k": "top-k sampling at temperature 1, likewise: a token outside the k likeliest makes p_z 0",
}
"""Key of an entry of `texts` → meaning and unit."""

SAMPLING_KEYS = {
    "log_p_best": "nats, ln p_z of the most probable window; null is p_z = 0",
    "best_char": "character at which that window's suffix begins, from 0",
    "log_p_median": "nats, median of ln p_z over the windows; null is p_z = 0",
    "n_best": "samples for the best window's suffix to turn up with chance 0.5; null where 10^15 or more",
    "log10_n_best": "log10 of that number before it is rounded up; null where no number is enough (p_z = 0)",
    "n_median": "the same of the median window",
    "log10_n_median": "likewise",
    "coverage": "one entry for each p of COVERAGE_AT, keys of COVERAGE_KEYS",
}
"""Key of `full` and `top_k` → meaning and unit."""

COVERAGE_KEYS = {
    "p": "the least p_z that counts",
    "windows": "share of windows with it",
    "chars": "share of the tested characters under the suffix of such a window",
    "low": "lower end of the 95% interval of that share",
    "high": "upper end",
    "interval": "blocks: bootstrap over blocks of suffix length; wilson: all blocks are alike, so Wilson's of so many",
}
"""Key of an entry of `coverage` → meaning and unit."""


def measure_extraction(plan: ExtractionPlan, scores: Scores, *, replicates: int, seed: int) -> dict:
    """What goes into extraction.json: p_z of every window of `plan`, of which `scores` were found with its `top_k`.

    The interval of a coverage draws blocks of `suffix` tokens with replacement, `replicates` times: windows that
    overlap say nearly the same. Few blocks make it too narrow: read `n_independent` beside it. Fails quietly where the
    text is merely common, as lists and set phrases are: read it beside the control's.
    """
    rng = np.random.default_rng(seed)
    left_out = [f"B5 of {text.role} {text.text.name!r}: {text.reason}" for text in plan.texts if text.reason]
    texts = [_measure_text(plan.config, text, scores, replicates, rng) for text in plan.texts]
    if any(text["full"] and not text["top_k"] for text in texts):
        left_out.append(f"B5 under top-k: needs a pass with top_k={plan.config.top_k}")
    settings = {name: getattr(plan.config, name) for name in ("prefix", "suffix", "stride", "top_k")}
    return {**settings, "texts": texts, "left_out": left_out}


def samples_needed(logprob: float, chance: float) -> tuple[int | None, float | None]:
    """n(p) = ln(1 − p) / ln(1 − p_z): samples until a string of log-probability `logprob` has turned up with `chance`.

    As a whole number, at least 1, None from `COUNTABLE` on; and as log10 before it is rounded up, at least 0, None
    where p_z is 0. Nothing under- or overflows. (arXiv 2410.19482)
    """
    if logprob == -math.inf:
        return None, None
    if logprob >= 0:
        return 1, 0.0
    wanted = -math.log1p(-chance)
    if logprob < NEGLIGIBLE:
        return None, math.log10(wanted) - logprob / math.log(10)
    number = wanted / -_log1mexp(logprob)
    # A hair's breadth of tolerance: one sample is enough at p_z = p, however that was rounded.
    whole = max(1, math.ceil(number * (1 - 1e-12))) if number < COUNTABLE else None
    return whole, max(0.0, math.log10(number))


def _log1mexp(logprob: float) -> float:
    """ln(1 − e^x) for x < 0, by whichever form keeps its digits."""
    return math.log(-math.expm1(logprob)) if logprob > -math.log(2) else math.log1p(-math.exp(logprob))


def _measure_text(
    config: ExtractionConfig, text: TextPlan, scores: Scores, replicates: int, rng: np.random.Generator
) -> dict:
    n_tokens, n_chars = len(text.spans_T), len(text.text.text)
    tested = n_chars - text.spans_T[config.prefix][0] if text.windows else 0
    described = {
        "role": text.role,
        "name": text.text.name,
        "sha256": text.text.sha256,
        "language": text.text.language,
        "n_tokens": n_tokens,
        "n_chars": n_chars,
        "n_chars_tested": tested,
        "n_windows": len(text.windows),
        "n_independent": (n_tokens - config.prefix) // config.suffix if text.windows else 0,
        "full": None,
        "top_k": None,
    }
    if not text.windows:
        return described
    truncated = [scores.of(window).logprob_topk_T for window in text.windows]
    logprob_W = {
        "full": window_logprobs(text, scores),
        "top_k": np.array([column_T.sum() for column_T in truncated if column_T is not None]),
    }
    found = {name: _sampling(config, text, own_W, replicates, rng) for name, own_W in logprob_W.items() if len(own_W)}
    return {**described, **found}


def _sampling(
    config: ExtractionConfig,
    text: TextPlan,
    logprob_W: NDArray[np.float64],
    replicates: int,
    rng: np.random.Generator,
) -> dict:
    best = int(logprob_W.argmax())
    middle = float(np.median(logprob_W))
    n_best, log10_n_best = samples_needed(float(logprob_W[best]), CHANCE)
    n_median, log10_n_median = samples_needed(middle, CHANCE)
    return {
        "log_p_best": _finite(float(logprob_W[best])),
        "best_char": text.spans_T[text.suffix_W[best]][0],
        "log_p_median": _finite(middle),
        "n_best": n_best,
        "log10_n_best": log10_n_best,
        "n_median": n_median,
        "log10_n_median": log10_n_median,
        "coverage": [_coverage(config, text, logprob_W, p, replicates, rng) for p in COVERAGE_AT],
    }


def _coverage(
    config: ExtractionConfig,
    text: TextPlan,
    logprob_W: NDArray[np.float64],
    p: float,
    replicates: int,
    rng: np.random.Generator,
) -> dict:
    enough_W = logprob_W >= math.log(p)
    covered_C = np.zeros(len(text.text.text))
    for suffix in np.array(text.suffix_W)[enough_W].tolist():
        covered_C[text.spans_T[suffix][0] : text.spans_T[suffix + config.suffix - 1][1]] = 1
    edges_B = [text.spans_T[at][0] for at in range(config.prefix, len(text.spans_T), config.suffix)]
    sums_C = np.concatenate([[0], covered_C.cumsum()])
    covered_B, size_B = np.diff(sums_C[[*edges_B, -1]]), np.diff([*edges_B, len(covered_C)])
    low, high, how = _interval(covered_B, size_B, replicates, rng)
    share = float(covered_B.sum() / size_B.sum())
    return {"p": p, "windows": float(enough_W.mean()), "chars": share, "low": low, "high": high, "interval": how}


def _interval(
    covered_B: NDArray, size_B: NDArray, replicates: int, rng: np.random.Generator
) -> tuple[float, float, str]:
    """95% interval of a share whose characters stand and fall by blocks."""
    share = float(covered_B.sum() / size_B.sum())
    if np.allclose(covered_B, size_B * share):
        low, high = wilson(share * len(size_B), len(size_B)) or (0.0, 1.0)
        return low, high, "wilson"
    times_RB = rng.multinomial(len(size_B), np.full(len(size_B), 1 / len(size_B)), size=replicates)
    low, high = np.quantile(times_RB @ covered_B / (times_RB @ size_B), [0.025, 0.975])
    return float(low), float(high), "blocks"


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else value
