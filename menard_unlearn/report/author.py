"""An author's feature: the autoencoder, its training, and the candidates with what they tell and what they do."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from menard_unlearn.report.asides import Aside, course, facts, heading, newest, not_computed, older
from menard_unlearn.report.cells import ABSENT, cell, hundredfold, mark, signed
from menard_unlearn.report.curves import POINTS_AT_MOST
from menard_unlearn.report.curves import course as training
from menard_unlearn.report.figures import Figure, panel
from menard_unlearn.report.plain import Head, decimals, figure, inline, meanings, percent_of, percentage, plain_table
from menard_unlearn.report.study import Run, Study

STATUSES = {
    "found": "on held-out works it helps the author’s text, and more than the others’, as random features hardly "
    "ever do (p at most 0.05)",
    "harms_less": "on held-out works it harms the author’s text, if less than the others’",
    "not_better_than_random": "on held-out works it does no more than random features do",
    "too_few_random": "too few random features were tried to say what chance does",
    "no_candidate": "no live feature leans to the author",
}
"""Status of features.json → what it says."""
LOGGED = {
    "l0": "L0: features that fire at a token",
    "fvu": "variance unexplained",
    "dead_share": "share of dead features",
    "loss": "loss, the sum",
}
"""Column of history.jsonl → heading of its panel."""
CANDIDATES = (
    Head("feature", "its index in the autoencoder", ""),
    Head(
        "AUROC, training",
        "chance that a piece of the author’s has the larger mean activation, on the works that chose it",
        "num",
    ),
    Head("AUROC, held out", "the same on works and authors that chose nothing; 0.5 is chance", "num"),
    Head("difference", "mean activation in the author’s pieces minus that in the others’, on the training side", "num"),
    Head("Welch t", "that difference by its standard error; pieces of a work are no independent draws", "num"),
    Head("difference, held out", "the difference on the held-out side", "num"),
    Head("active, author, %", "share of the author’s tokens at which it fires, on the training side", "num"),
    Head("active, others, %", "the same of the others’ tokens", "num"),
    Head(
        "causal, nats/token",
        "what the author’s pieces gain in log-probability under the clamp minus what the others’ do, training side",
        "num",
    ),
    Head("random as good, %", "share of random features whose causal effect is at least as large", "num"),
)


def author_figures(study: Study) -> list[Figure]:
    """The autoencoders' training, of the newest runs: L0, unexplained variance, dead features, loss."""
    return [one for place, aside in enumerate(_shown(study)) for one in _training(place, aside.run)]


def _training(place: int, run: Run) -> list[Figure]:
    logged = {key for row in run.history for key in row}
    return [
        training(f"sae-{place}-{number}", title, [run], name, "@m0", POINTS_AT_MOST)
        for number, (name, title) in enumerate(LOGGED.items())
        if name in logged
    ]


def _shown(study: Study) -> list[Aside]:
    return newest(study, "sae")


def author_features(study: Study) -> str:
    """The newest runs, one below the other; "" of none."""
    parts = []
    for place, aside in enumerate(_shown(study)):
        ranking = aside.run.result("features")
        panels = "".join(map(panel, _training(place, aside.run)))
        rows = [heading(aside.run), facts(_figures(aside.found))]
        if panels:
            rows.append(f'<div class="panels small">{panels}</div>')
        if ranking is not None:
            rows += [_verdict(ranking), _ranking(ranking)]
        reasons = [*aside.found["left_out"], *([] if ranking is None else ranking["left_out"])]
        parts.append(course([*rows, not_computed(aside, reasons)]))
    return "".join(parts) + older(study, "sae")


def _figures(found: Mapping[str, Any]) -> dict[str, str]:
    """The autoencoder's figures by their names."""
    shown = {
        "L0": f"{found['l0']:.1f}",
        "variance unexplained": ABSENT if found["fvu"] is None else f"{found['fvu']:.3f}",
        "dead features": f"{percent_of(found['dead_share'])} of {found['n_tokens']:,} tokens",
        "loss recovered, against zeros": percent_of(found["loss_recovered_zero"]),
        "loss recovered, against the mean": percent_of(found["loss_recovered_mean"]),
        "loss of the model, nats a token": f"{found['ce_clean']:.3f}; through it {found['ce_sae']:.3f}",
    }
    return {name: signed(value) for name, value in shown.items()}


def _verdict(found: Mapping[str, Any]) -> str:
    """The status in words, and the held-out side."""
    status = mark(found["status"].replace("_", " "), found["status"])
    words = f"<b>{html.escape(found['author'])}</b>: {status} {STATUSES.get(found['status'], '')}."
    held = found["heldout"]
    if held is not None:
        words += (
            f" Feature {found['chosen']}, held at {found['k']:g} times its largest activation, is worth "
            f"{inline(held, 'causal', '+.3f')} nats a token more to held-out text of the author than to that of others"
        )
        words += f"; p = {held['p']:.2g} among random features." if held["p"] is not None else "."
    sides = ", ".join(
        f"{n['pieces_own']} pieces of {n['works_own']} works against {n['pieces_others']} of "
        f"{n['authors_others']} other authors {words}"
        for n, words in ((found["n"]["train"], "to choose by"), (found["n"]["heldout"], "held out"))
    )
    return f'<p class="said">{words} <span class="seed">{sides}.</span></p>'


def _ranking(found: Mapping[str, Any]) -> str:
    form = decimals(row["difference"] for row in found["rows"])
    rows = [_candidate(row, form, row["feature"] == found["chosen"]) for row in found["rows"]]
    if not rows:
        return ""
    label = f"Candidates for a feature of {found['author']}"
    return plain_table(label, CANDIDATES, rows, sorts=True) + meanings(CANDIDATES)


def _candidate(row: Mapping[str, Any], form: str, is_chosen: bool) -> str:
    name = f"{row['feature']} {mark('chosen', 'live')}" if is_chosen else str(row["feature"])
    cells = (
        figure(row, "auroc", ".2f", ""),
        figure(row, "auroc_heldout", ".2f", ""),
        figure(row, "difference", form, ""),
        figure(row, "welch_t", ".1f", "neither side varies"),
        figure(row, "difference_heldout", form, ""),
        cell(hundredfold(row["frequency_own"])),
        cell(hundredfold(row["frequency_others"])),
        figure(row, "causal", "+.3f", ""),
        percentage(row["random_at_least"], "fewer than 10 random features"),
    )
    return f'<tr{" class=chosen" if is_chosen else ""}><th scope="row">{name}</th>{"".join(cells)}</tr>'
