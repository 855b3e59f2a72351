"""C3 to C6: signs that a text was memorized which need one model alone, each beside texts that it cannot have seen.

What they share: a figure of the target means little by itself. Edits of good prose are worse prose, and prose is
likelier after its own beginning, for every model; the same figures of the controls say how much (C5). Nothing here
compares texts across the cutoff by a membership test: such tests tell dates apart, not members (arXiv 2406.06443).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean, median, stdev

import numpy as np

from menard_unlearn.evaluation.attribution_plan import MIN_VARIANTS, AttributionPlan, TextPlan
from menard_unlearn.evaluation.passages import Window
from menard_unlearn.evaluation.variants import exposure
from menard_unlearn.models.scores import Scores

TEXT_KEYS = {
    "name": "what the configuration calls the text",
    "sha256": "SHA-256 of the text",
    "n_tokens_used": "scored tokens of its beginning, which C3 to C6 are computed on",
    "n_bytes_used": "UTF-8 bytes of these",
    "bits_per_byte": "B1 of that beginning, bits/byte",
    "n_sites": "places in it that the rules can edit; null with whole alternative texts or without rules",
    "n_edits": "places edited in each variant; null likewise",
    "n_variants": "number of variants, each unlike the others",
    "variant_gap": "C3, ln P(text) - median of ln P(variant), nats; null with fewer than 50 variants",
    "variant_gap_per_edit": "C3 divided by n_edits, nats",
    "variant_p": "share of the text and its variants that are at least as likely as the text",
    "exposure": "C6, bits: log2(n_variants + 1) - log2 of the text's rank among them; exact only for a planted key",
    "exposure_max": "the largest that C6 can be, log2(n_variants + 1), bits",
    "n_windows": "number of passages that C4 is the mean over",
    "prefix_specificity": "C4, mean of ln P(passage | its own prefix) - ln mean P(passage | other prefixes), nats",
    "common_share": "C4, mean of min(1, mean P(passage | other prefixes) / P(passage | its own)): 1 merely common",
}
"""Figures of one text → meaning and unit."""

COMPARED = ("bits_per_byte", "variant_gap_per_edit", "exposure", "prefix_specificity", "common_share")
"""What is subtracted from the target's figures, C5."""

KEYS = {
    **TEXT_KEYS,
    "variant_z": "C3 per edit minus the mean of the controls' variants' gaps per edit, in standard deviations of these",
    "variant_p_controls": "share of gaps per edit, the controls' variants' and the target's, that reach the target's",
    **{f"{key}_minus_controls": f"C5, {key} minus its mean over the controls; null without" for key in COMPARED},
    "controls": "the same figures of each control, rows of TEXT_KEYS",
    "left_out": "what could not be computed, and what it needs",
}
"""Key of attribution.json → meaning and unit."""

EXCESS = {f"{key}_minus_out": f"{key} minus that of model.without_target; null without" for key in COMPARED}
"""Key of `excess` → meaning."""


def measure_attribution(plan: AttributionPlan, scores: Scores) -> dict:
    """C3 to C6 of the target and of its controls, and C5; keys of `KEYS`, whatever the texts hold.

    C3 (after arXiv 2305.18462, with edits by rule) and C6 (arXiv 1802.08232) fail where edits spoil the style, and
    where the tokenizer was made with the target: its words are then whole tokens and their substitutes are not. The
    controls show the first, a model without the target the second (`excess`). The variants of one text share edits, so
    `variant_z` takes them for more than they are. C4 (arXiv 2602.18733): the mean over few other prefixes is nearly
    that of the best, so text that is not memorized lies below 0 by as much as the model is noisy; a text that repeats
    itself is its own other prefix.
    """
    own, *controls = (_measure(text, scores) for text in plan.texts)
    gaps = [gap for text in plan.texts[1:] for gap in _gaps(text, scores)]
    left_out = [line for text in plan.texts for line in text.left_out]
    if not controls:
        left_out.append("C5, variant_z: need a control, target.controls")
    return {
        **own,
        **_beside(own["variant_gap_per_edit"], gaps),
        **{f"{key}_minus_controls": _difference(own, controls, key) for key in COMPARED},
        "controls": controls,
        "left_out": left_out,
    }


def excess(own: Mapping, out: Mapping | None) -> dict:
    """Figures of a model minus those of one that never saw the target (`model.without_target`): keys of `EXCESS`.

    What the style, the edits and the tokenizer do to both models falls out. None without that model.
    """
    pairs = {key: (own[key], None if out is None else out[key]) for key in COMPARED}
    return {
        f"{key}_minus_out": None if mine is None or other is None else mine - other
        for key, (mine, other) in pairs.items()
    }


def _measure(plan: TextPlan, scores: Scores) -> dict:
    """Figures of one text; keys of `TEXT_KEYS`."""
    used, found = plan.passage, scores.of(plan.passage.item)
    others = [scores.of(item).logprob for item in plan.variants]
    enough = len(others) >= MIN_VARIANTS
    gap = found.logprob - median(others) if enough else None
    specificity_W = [_specificity(window, scores) for window in plan.windows]
    return {
        "name": used.name,
        "sha256": used.sha256,
        "n_tokens_used": found.n_tokens,
        "n_bytes_used": used.n_bytes,
        "bits_per_byte": -found.logprob / (math.log(2) * used.n_bytes),
        "n_sites": plan.n_sites,
        "n_edits": plan.n_edits,
        "n_variants": len(others),
        "variant_gap": gap,
        "variant_gap_per_edit": gap / plan.n_edits if gap is not None and plan.n_edits else None,
        "variant_p": (1 + sum(other >= found.logprob for other in others)) / (1 + len(others)) if enough else None,
        "exposure": exposure(found.logprob, others) if enough else None,
        "exposure_max": math.log2(1 + len(others)) if enough else None,
        "n_windows": len(specificity_W),
        "prefix_specificity": mean(specificity_W) if specificity_W else None,
        "common_share": mean(math.exp(min(0.0, -value)) for value in specificity_W) if specificity_W else None,
    }


def _specificity(window: Window, scores: Scores) -> float:
    """C4 of one passage, nats: ln P after its own prefix − ln of the mean P after the others."""
    others_J = np.array([scores.of(item).logprob for item in window.others])
    return scores.of(window.own).logprob - float(np.logaddexp.reduce(others_J)) + math.log(len(others_J))


def _gaps(plan: TextPlan, scores: Scores) -> list[float]:
    """ln P(text) − ln P(variant) per edit, nats, of each variant; nothing for whole alternative texts."""
    own, n_edits = scores.of(plan.passage.item).logprob, plan.n_edits
    return [(own - scores.of(item).logprob) / n_edits for item in plan.variants] if n_edits else []


def _beside(gap: float | None, gaps: Sequence[float]) -> dict[str, float | None]:
    """The target's gap among those of the controls' variants."""
    if gap is None or len(gaps) < MIN_VARIANTS:
        return {"variant_z": None, "variant_p_controls": None}
    spread = stdev(gaps)
    return {
        "variant_z": (gap - mean(gaps)) / spread if spread > 0 else None,
        "variant_p_controls": (1 + sum(other >= gap for other in gaps)) / (1 + len(gaps)),
    }


def _difference(own: Mapping, controls: Sequence[Mapping], key: str) -> float | None:
    """C5: the target's figure minus its mean over the controls that have it."""
    found = [control[key] for control in controls if control[key] is not None]
    return own[key] - mean(found) if found and own[key] is not None else None
