"""Memorized, or written afresh: where the target's probability comes from."""

from __future__ import annotations

from menard_unlearn.report.cells import Show, absent, cell, number, result
from menard_unlearn.report.grid import Column, measured
from menard_unlearn.report.study import Run, Study

BITS, PAIR, VARIANTS = "Bits/byte of the target", "With against without (C1, C2)", "Against edited texts (C3, C6)"
PREFIX = "Of the prefix (C4), minus controls"
OUT = "attribution_to_without_target"

pair, text = result("counterfactual"), result("attribution")


def _beside(key: str, form: str, code: str) -> Show:
    """A figure minus that of the controls; pointing at it shows the raw one and what it is above without_target's."""

    def show(run: Run) -> str:
        found, compared = text(run), run.result("compared")
        if found is None or found[f"{key}_minus_controls"] is None:
            return absent(run, found, code)
        notes = [f"{format(found[key], form)} before the controls’ is taken off"]
        above = None if compared is None else (compared.get(OUT) or {}).get(f"{key}_minus_out")
        if above is not None:
            notes.append(f"{format(above, form)} above without_target’s")
        return cell(format(found[f"{key}_minus_controls"], form), "", "; ".join(notes))

    return show


def _exposure(run: Run) -> str:
    found = text(run)
    if found is None or found["exposure"] is None:
        return absent(run, found, "C6")
    return cell(f"{found['exposure']:.1f} of {found['exposure_max']:.1f}")


ATTRIBUTION = (
    Column(
        BITS, "this model", "B_IN: surprise of the model that may have seen it", number(pair, "bits_per_byte_in", ".3f")
    ),
    Column(
        BITS,
        "without it",
        "B_OUT: surprise of models that never saw it",
        number(pair, "bits_per_byte_out", ".3f", code="C1"),
    ),
    Column(
        BITS,
        "n-gram",
        "B0: surprise of an n-gram model of texts up to the cutoff",
        number(pair, "bits_per_byte_ngram", ".3f", code="C2"),
    ),
    Column(
        PAIR,
        "C1, nats ↓",
        "how much likelier this model finds the target than those that never saw it",
        number(pair, "counterfactual_nats", ",.0f", code="C1"),
    ),
    Column(
        PAIR,
        "Menard fraction F ↑",
        "(B0 - B_OUT) / (B0 - B_IN): 1 written afresh, 0 memorized, below 0 where B_OUT loses to the n-gram model",
        number(pair, "menard_fraction", ".2f", interval="menard_fraction", code="C2"),
    ),
    Column(
        VARIANTS,
        "gap, nats/edit ↓",
        "how much likelier than texts of the same meaning, an edit, minus the same of the controls",
        _beside("variant_gap_per_edit", ".1f", "C3"),
    ),
    Column(
        VARIANTS,
        "in control SD ↓",
        "that difference in standard deviations of the controls’ edited texts",
        number(text, "variant_z", ".1f", code="C3"),
    ),
    Column(VARIANTS, "exposure, bits", "the target’s rank among its edited texts, as log2; of the largest", _exposure),
    Column(
        PREFIX,
        "specificity, nats ↓",
        "how much likelier a passage is after its own prefix than after others, minus the same of the controls",
        _beside("prefix_specificity", ".1f", "C4"),
    ),
    Column(
        PREFIX,
        "common share ↑",
        "share of a passage’s probability that other prefixes give too, minus the same of the controls",
        _beside("common_share", ".2f", "C4"),
    ),
)


def attribution_table(study: Study) -> str:
    """The attribution; "" where nothing of it was measured."""
    return measured("Memorized, or written afresh", ATTRIBUTION, study, lambda run: pair(run) or text(run))
