"""Where knowledge ends (A1), where a method's effect begins (A2), how selective it is (A3), how near to gold (A5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from menard_unlearn.evaluation.curves import PROBES, agreement, distance, subset
from menard_unlearn.evaluation.items import SPLITS, ItemScore, recalls
from menard_unlearn.statistics.clusters import Clusters, clusters
from menard_unlearn.statistics.cutoff import Cutoff, Rules, Status, answers_cutoff, changes_cutoff
from menard_unlearn.statistics.intervals import auc, auc_interval

NEAR = 10
"""Years on either side of the cutoff in the near band of A3."""

_FIT = {
    "status": "pinned, left-censored, right-censored, no-cutoff, collapsed or unparseable; rules: statistics/cutoff.py",
    "year": "τ, years (a step between 1939 and 1940 is 1939.5); null unless pinned",
    "low": "lower end of τ's 95% interval, years; null unless pinned",
    "high": "upper end of τ's 95% interval, years; null unless pinned",
    "p_value": "of the test against steady drift; null where the status was decided without it",
    "before": "level long before the step, averaged over the strata as the data mix them",
    "after": "level long after the step, averaged likewise",
    "scale": "s, years; 10% to 90% of the step takes 4.4 s",
    "left_out": "strata left out of fit and test, having facts on one side of the configured cutoff only",
    "n_left_out": "number of their probes",
}

MEASURES = {
    "n_items": "number of probes",
    "n_facts": "number of facts that they are made from",
    **{f"{split}_recall": f"share of probes of {split} facts answered" for split in SPLITS},
    "n_paraphrased": "number of facts with two probes or more",
    "agreement": "share of these whose probes are all right or all wrong; null without any",
    "agreement_expected": "the same if probes were right independently, with the recall of their side of the cutoff",
    "recall_before": "share answered of the years up to the cutoff's",
    "base_recall_before": "the same of the base; null without base",
    **{f"cutoff_{key}": f"A1, share of probes answered: {meaning}" for key, meaning in _FIT.items()},
    "n_change_items": "number of probes that the base answers, on which A2 and A3 are computed; null without base",
    **{f"cutoff_change_{key}": f"A2, change of answers; null without base: {meaning}" for key, meaning in _FIT.items()},
    "forget_auc": "A3, P(the log-probability a token of an answer after the cutoff fell more than of one before)",
    "forget_auc_low": "A3, lower end of the 95% interval, facts drawn with replacement",
    "forget_auc_high": "A3, upper end",
    "forget_auc_near": f"A3 within {NEAR} years of the cutoff",
    "distance_to_gold": "A5, mean over bins of five years of |recall - gold's recall|; null without gold",
    "distance_to_gold_signed": "A5, mean over bins of five years of recall - gold's recall; null without gold",
}
"""Key of cutoff.json → meaning; each key also with the prefixes of `curves.PROBES`."""


def measure(
    items: Sequence[ItemScore],
    base: Sequence[ItemScore] | None,
    gold: Sequence[ItemScore] | None,
    cutoff_year: int,
    rules: Rules,
    strata: Mapping[str, str] | None = None,
) -> dict:
    """All of `MEASURES`, on all probes and on those that do and do not state the year.

    `base` and `gold` hold the same probes in the same order. Facts of the years up to `cutoff_year` are before the
    cutoff. `strata` names a stratum for every fact id; without it they are the categories.
    """
    results: dict = {}
    for prefix in PROBES:
        places = subset(items, prefix)
        own = [items[i] for i in places]
        of_base = None if base is None else [base[i] for i in places]
        of_gold = None if gold is None else [gold[i] for i in places]
        found = measure_kind(own, of_base, of_gold, cutoff_year, rules, strata)
        results |= {f"{prefix}{key}": found[key] for key in MEASURES}
    return results


def measure_kind(
    items: Sequence[ItemScore],
    base: Sequence[ItemScore] | None,
    gold: Sequence[ItemScore] | None,
    cutoff_year: int,
    rules: Rules,
    strata: Mapping[str, str] | None = None,
    chance: float = 0.0,
) -> dict:
    """`MEASURES` of probes of one kind. `chance` is the share of them that blind guessing gets right.

    Chance enters what is called collapsed, a drop, or known to the end: levels there are counted above it. Recalls are
    reported as they are. References and strata: as in `measure`.
    """
    facts = _answers(items, strata)
    of_base = None if base is None else _answers(base, strata)
    found = answers_cutoff(facts, cutoff_year, of_base, rules, chance)
    collapsed = found.status is Status.COLLAPSED
    return {
        "n_items": len(items),
        "n_facts": len(facts.year_F),
        **recalls(items),
        **agreement(items, cutoff_year),
        "recall_before": facts.mean(facts.year_F <= cutoff_year),
        "base_recall_before": None if of_base is None else of_base.mean(of_base.year_F <= cutoff_year),
        **_flat("cutoff", found),
        **_changes(items, base, cutoff_year, rules, strata, chance, collapsed=collapsed),
        **(
            distance(items, gold, cutoff_year)
            if gold is not None
            else _nothing(("distance_to_gold", "distance_to_gold_signed"))
        ),
    }


def _changes(
    own: Sequence[ItemScore],
    base: Sequence[ItemScore] | None,
    cutoff_year: int,
    rules: Rules,
    strata: Mapping[str, str] | None,
    chance: float,
    *,
    collapsed: bool,
) -> dict:
    """A2 and A3, on the probes that the base answers: what it never knew cannot be forgotten."""
    if base is None:
        auc_keys = ("forget_auc", "forget_auc_low", "forget_auc_high", "forget_auc_near")
        return _nothing(("n_change_items", *(f"cutoff_change_{key}" for key in _FIT), *auc_keys))
    pairs = [(after, before) for after, before in zip(own, base, strict=True) if before.correct]
    known = [after for after, _ in pairs]
    facts = _table(known, [after.correct - before.correct for after, before in pairs], strata)
    found = Cutoff(Status.COLLAPSED) if collapsed else changes_cutoff(facts, cutoff_year, rules, chance)
    drop = [before.logprob / before.n_tokens - after.logprob / after.n_tokens for after, before in pairs]
    low, high = _selectivity_interval(known, drop, cutoff_year, rules) or (None, None)
    return {
        "n_change_items": len(pairs),
        **_flat("cutoff_change", found),
        "forget_auc": _selectivity(known, drop, cutoff_year, None),
        "forget_auc_low": low,
        "forget_auc_high": high,
        "forget_auc_near": _selectivity(known, drop, cutoff_year, NEAR),
    }


def _selectivity(items: Sequence[ItemScore], drop: Sequence[float], cutoff_year: int, near: int | None) -> float | None:
    """A3, P(an item after the cutoff fell more than one before it): 0.5 none, 1 selective; no unit.

    A fall is that of the log-probability a token. `near` keeps the years cutoff − near + 1 … cutoff + near, as many on
    either side. Fails when: far years fall more than near ones for another reason, which the near band shows.
    """
    signed = [(item.year - cutoff_year, fall) for item, fall in zip(items, drop, strict=True)]
    kept = [(years, fall) for years, fall in signed if near is None or -near < years <= near]
    return auc([fall for years, fall in kept if years > 0], [fall for years, fall in kept if years <= 0])


def _selectivity_interval(
    items: Sequence[ItemScore], drop: Sequence[float], cutoff_year: int, rules: Rules
) -> tuple[float, float] | None:
    if not items:
        return None
    _, fact_N = np.unique([item.fact_id for item in items], return_inverse=True)
    after_N = np.array([item.year > cutoff_year for item in items])
    rng = np.random.default_rng(rules.seed)
    return auc_interval(np.asarray(drop, float), after_N, fact_N, replicates=rules.bootstrap, rng=rng)


def _answers(items: Sequence[ItemScore], strata: Mapping[str, str] | None) -> Clusters:
    return _table(items, [item.correct for item in items], strata)


def _table(items: Sequence[ItemScore], scores: Sequence[float], strata: Mapping[str, str] | None) -> Clusters:
    named = [item.category if strata is None else strata[item.fact_id] for item in items]
    return clusters([item.fact_id for item in items], [item.year for item in items], scores, named)


def _flat(prefix: str, found: Cutoff) -> dict:
    values = {f"{prefix}_{key}": value for key, value in asdict(found).items()}
    return values | {f"{prefix}_left_out": list(found.left_out)}


def _nothing(keys: Sequence[str]) -> dict[str, None]:
    return dict.fromkeys(keys)
