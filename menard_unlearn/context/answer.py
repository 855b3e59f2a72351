"""From log-probabilities by length of context to what context.json says of a model.

Legend: D draws, L lengths, T scored tokens, R replicates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from menard_unlearn.context.keys import FORMS
from menard_unlearn.context.scoring import Logprobs
from menard_unlearn.context.study import PLACEBOS
from menard_unlearn.statistics.context_needed import ENDS, Losses, Needed, Rules, Sweep, needed
from menard_unlearn.statistics.orders_claim import claim_of_orders

NAMES = ("low", "lower_quartile", "median", "upper_quartile", "high")
"""Of `context_needed.QUANTILES`."""


def answer_of(
    arrays: Mapping[str, Logprobs], lengths: Sequence[int], probabilities: Sequence[float], rules: Rules
) -> dict[str, Any]:
    """The object of a model in context.json: keys as in `keys.MODEL`.

    Args:
        arrays: as `study.measure` gives them.
        lengths: tokens of the contexts.
        probabilities: q, one answer each.
        rules: of the bootstrap and of the statuses.
    """
    sweeps = {
        kind: Sweep(Losses.of_tokens(np.array(lengths), -arrays[kind], rules.block), rules)
        for kind in ("own", *PLACEBOS)
        if kind in arrays
    }
    own = sweeps["own"]
    answers = [needed(own, q) for q in probabilities]
    claim = claim_of_orders(own, answers[0].loss, rules.claim_orders)
    return {
        "n_tokens": own.losses.n_tokens,
        "n_blocks": len(own.losses.tokens_K),
        "n_draws": len(own.losses.nats_DLK),
        "no_context": -float(arrays["alone"].mean()),
        "reproduced_without": bool(-arrays["alone"].sum() <= -math.log(answers[0].q)),
        **_fall(own),
        "curve": _curve(own),
        "law": _law(own),
        "answer": _answer(own, answers[0]),
        "further_answers": [_answer(own, found) for found in answers[1:]],
        "claim": None if claim is None else vars(claim).copy(),
        "placebos": {
            kind: _placebo(kind, own, sweep, arrays, probabilities[0])
            for kind, sweep in sweeps.items()
            if kind != "own"
        },
        "in_words": in_words(own, answers[0], arrays["alone"]),
    }


def _curve(sweep: Sweep) -> list[dict[str, Any]]:
    draws_DL = sweep.losses.nats_DLK.sum(2) / sweep.losses.n_tokens
    low_L, high_L = np.quantile(sweep.curve_RL, ENDS, axis=0) if sweep.measured else (None, None)
    return [
        {
            "tokens": int(length),
            "nats": float(sweep.losses.mean_L[place]),
            "low": None if low_L is None else float(low_L[place]),
            "high": None if high_L is None else float(high_L[place]),
            "sd_draws": float(draws_DL[:, place].std(ddof=1)) if len(draws_DL) > 1 else None,
        }
        for place, length in enumerate(sweep.losses.lengths_L)
    ]


def _fall(sweep: Sweep) -> dict[str, float | None]:
    """L(C_min) − L(C_max)."""
    if not sweep.measured:
        return {"fall": None, "fall_low": None, "fall_high": None}
    low, high = np.quantile(sweep.curve_RL[:, 0] - sweep.curve_RL[:, -1], ENDS)
    return {
        "fall": float(sweep.losses.mean_L[0] - sweep.losses.mean_L[-1]),
        "fall_low": float(low),
        "fall_high": float(high),
    }


def _law(sweep: Sweep) -> dict[str, Any] | None:
    if not sweep.measured:
        return None
    law, many = sweep.points["floor"], sweep.replicates
    low, high = np.quantile(many.rate_R, ENDS)
    floor_low, floor_high = np.quantile(many.floor_R, ENDS)
    return {
        "floor": float(law.floor_R[0]),
        "floor_low": float(floor_low),
        "floor_high": float(floor_high),
        "above": float(law.above_R[0]),
        "beta": float(law.rate_R[0]),
        "beta_low": float(low),
        "beta_high": float(high),
        "beta_at_bound": law.beta_at_bound,
        "slope": float(law.slope_R[0]),
        "rmse": float(law.rmse_R[0]),
    }


def _answer(sweep: Sweep, found: Needed) -> dict[str, Any]:
    quantiles = {} if found.quantiles is None else dict(zip(NAMES, found.quantiles, strict=True))
    return {
        "q": found.q,
        "status": found.status.value,
        "target_loss": found.loss,
        "decades": found.decades,
        "tokens": found.length,
        "p_infinite": found.p_infinite,
        "p_reached": found.p_reached,
        "quantiles": {name: told(value) for name, value in quantiles.items()},
        "at_least": None if found.least is None else told(found.least),
        "at_least_low": None if found.least_low is None else told(found.least_low),
        "reached_at": found.first,
        "forms": {name: _form(sweep, name, found.loss) for name in FORMS if sweep.measured and name in sweep.points},
    }


def told(decades: float) -> dict[str, Any]:
    """Decades with what they are: JSON knows no ∞, and null alone would not say which."""
    if math.isinf(decades):
        return {"is": "infinite" if decades > 0 else "reached", "decades": None}
    return {"is": "finite" if decades > 0 else "reached", "decades": max(0.0, decades)}


def _form(sweep: Sweep, name: str, loss: float) -> dict[str, Any]:
    return {**told(sweep.decades(name, loss)), "rmse": float(sweep.points[name].rmse_R[0])}


def _placebo(kind: str, own: Sweep, sweep: Sweep, arrays: Mapping[str, Logprobs], q: float) -> dict[str, Any]:
    """A placebo's curve and answer, and by how much the target after its own contexts does better."""
    alone = arrays["alone_other" if kind == "other_target" else "alone"]
    return {
        "no_context": -float(alone.mean()),
        **_fall(sweep),
        "curve": _curve(sweep),
        "status": needed(sweep, q).status.value,
        **_beyond(kind, own, sweep),
    }


def _beyond(kind: str, own: Sweep, sweep: Sweep) -> dict[str, float | None]:
    """Of the same text its loss at C_max; of another text, which has a level of its own, its fall."""
    if not (own.measured and sweep.measured):
        return {"beyond": None, "beyond_low": None, "beyond_high": None}
    mean_L, mine_L = sweep.losses.mean_L, own.losses.mean_L
    value, value_R = mean_L[-1] - mine_L[-1], sweep.curve_RL[:, -1] - own.curve_RL[:, -1]
    if kind == "other_target":
        value = value + mine_L[0] - mean_L[0]
        value_R = value_R + own.curve_RL[:, 0] - sweep.curve_RL[:, 0]
    low, high = np.quantile(value_R, ENDS)
    return {"beyond": float(value), "beyond_low": float(low), "beyond_high": float(high)}


def in_words(sweep: Sweep, found: Needed, alone_T: Logprobs) -> str:
    """The answer as a sentence or two; a number never stands in it without its status."""
    known = -alone_T.sum() <= -math.log(found.q)
    return ("Without any context the target is reproduced already. " if known else "") + _in_words(sweep, found)


def _in_words(sweep: Sweep, found: Needed) -> str:
    longest, q = int(sweep.losses.lengths_L[-1]), f"{found.q:g}"
    at = f"{longest:,} tokens"
    infinite = "" if found.p_infinite is None else f" P(no length is enough) = {found.p_infinite:.2f}."
    low = None if found.quantiles is None else found.quantiles[0]
    high = None if found.quantiles is None else found.quantiles[-1]
    match found.status.value:
        case "reached":
            return f"reached: {found.first:,} tokens of context give the target probability {q} or more."
        case "rising":
            return f"rising: the target gets less likely with more context up to {at}; no length can be extrapolated."
        case "flat":
            return f"flat: no effect of up to {at} of context can be told from none; no length can be extrapolated."
        case "infinite":
            return f"infinite: the loss levels off above what probability {q} needs; no length is enough.{infinite}"
        case "pinned":
            return (
                f"pinned: about 10^{found.decades:.1f} times {at}, 95% interval 10^{low:.1f} to 10^{high:.1f} times."
                + infinite
            )
        case "right-censored":
            return f"right-censored: more than 10^{low:.1f} times {at}; how much more cannot be said.{infinite}"
        case _:
            return f"undetermined: what was measured up to {at} supports no statement.{infinite}"
