"""Context needed, in tables: the answers, the placebos, and what other forms of the law say."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from typing import Any

from menard_unlearn.report.cells import cell, mark, signed
from menard_unlearn.report.plain import Head, figure, inline, meanings, nothing, plain_table

ANSWERS = (
    Head("model", "and the probability of the whole target that is asked for, where there are several", ""),
    Head("status", "rules in statistics/context_needed.py; only pinned gives a length", ""),
    Head("L*", "−ln q / T, nats a token: what the target may cost to be reproduced", "num"),
    Head("without context", "nats a token after the prompt alone", "num"),
    Head("fall", "nats a token from the shortest to the longest context", "num"),
    Head("floor L∞", "to which the law levels off, nats a token", "num"),
    Head("β", "how fast the law falls", "num"),
    Head("log10(C*/C_max)", "decades of context beyond the longest measured", "num"),
    Head("its 95 % interval", "over draws and blocks of tokens; ∞: no length is enough", "num"),
    Head("P(C* = ∞)", "share of replicates whose floor is not below L*", "num"),
    Head("at least", "lower bound for a curve that flattens, in decades", "num"),
)
PLACEBOS = (
    Head("model", "", ""),
    Head("placebo", "", ""),
    Head("without context", "nats a token of its text after the prompt alone", "num"),
    Head("at the longest", "nats a token after the longest contexts", "num"),
    Head("fall", "nats a token from the shortest to the longest context", "num"),
    Head(
        "target beyond it",
        "nats a token by which the target after its own contexts does better; at or below 0 the placebo explains it",
        "num",
    ),
    Head("status", "as the target’s", ""),
)
NAMES = {
    "shuffled": "own contexts, shuffled",
    "other": "another author’s contexts",
    "other_target": "another text",
}
FORMS = {
    "floor": "L∞ + A·C<sup>−β</sup>",
    "no_floor": "A·C<sup>−β</sup>",
    "exponential": "L∞ + A·e<sup>−C/s</sup>",
    "log_linear": "a − b·log C",
    "without_shortest": "without the shortest length",
    "without_longest": "without the longest length",
}
"""Key of `forms` → the curve, or the lengths, that the answer is computed with."""
NO_INTERVAL = "no interval can be had: too few lengths, draws or blocks"
AT_BOUND = "β lies at an end of the range searched: the law does not describe the curve"


def answers(found: Mapping[str, Any], run: str) -> str:
    """A row a model and probability asked for."""
    rows = []
    for name, model in found["models"].items():
        every = [model["answer"], *model["further_answers"]]
        rows += [_answer(name, model, one, several=len(every) > 1) for one in every]
    return plain_table(f"Context needed, {run}", ANSWERS, rows, sorts=False) + meanings(ANSWERS)


def _answer(name: str, model: Mapping[str, Any], answer: Mapping[str, Any], *, several: bool) -> str:
    q = f' <span class="seed">q = {answer["q"]:g}</span>' if several else ""
    cells = (
        f"<td>{mark(answer['status'])}</td>",
        cell(f"{answer['target_loss']:.3g}"),
        cell(f"{model['no_context']:.3f}"),
        figure(model, "fall", "+.3f", NO_INTERVAL),
        *_law(model["law"]),
        figure(answer, "decades", ".1f", f"{answer['status']}: no length can be given"),
        *_extrapolated(answer),
    )
    return f'<tr><th scope="row">{html.escape(name)}{q}</th>{"".join(cells)}</tr>'


def _law(law: Mapping[str, Any] | None) -> list[str]:
    """Floor and β, where the law describes the curve."""
    if law is None or law["beta_at_bound"]:
        return [nothing(NO_INTERVAL if law is None else AT_BOUND)] * 2
    return [figure(law, "floor", ".3f", ""), figure(law, "beta", ".2f", "")]


def _extrapolated(answer: Mapping[str, Any]) -> list[str]:
    """What is said of lengths beyond those measured; nothing of a curve that does not fall."""
    if answer["status"] in ("rising", "flat"):
        return [nothing(f"{answer['status']}: nothing can be extrapolated")] * 3
    ends, least = answer["quantiles"], answer["at_least"]
    interval = " to ".join(dict.fromkeys(_decades(ends[end]) for end in ("low", "high"))) if ends else None
    return [
        nothing(NO_INTERVAL) if interval is None else cell(interval),
        figure(answer, "p_infinite", ".2f", NO_INTERVAL),
        nothing(NO_INTERVAL) if least is None else cell(_decades(least)),
    ]


def _decades(told: Mapping[str, Any]) -> str:
    return {"infinite": "∞", "reached": "reached"}.get(told["is"]) or f"{told['decades']:.1f}"


def placebos(found: Mapping[str, Any], run: str) -> str:
    """A row a model and placebo, and the claim of so many orders of magnitude; "" of neither."""
    rows = [
        _placebo(name, kind, own) for name, model in found["models"].items() for kind, own in model["placebos"].items()
    ]
    table = plain_table(f"Placebos, {run}", PLACEBOS, rows, sorts=False) if rows else ""
    return table + "".join(_claims(found))


def _placebo(name: str, kind: str, found: Mapping[str, Any]) -> str:
    cells = (
        f"<td>{NAMES[kind]}</td>",
        cell(f"{found['no_context']:.3f}"),
        cell(f"{found['curve'][-1]['nats']:.3f}"),
        figure(found, "fall", "+.3f", NO_INTERVAL),
        figure(found, "beyond", "+.3f", NO_INTERVAL),
        f"<td>{mark(found['status'])}</td>",
    )
    return f'<tr><th scope="row">{html.escape(name)}</th>{"".join(cells)}</tr>'


def _claims(found: Mapping[str, Any]) -> Iterator[str]:
    for name, model in found["models"].items():
        claim = model["claim"]
        if claim is not None:
            apart = {
                "apart": claim["fitted"] - claim["implied"],
                "apart_low": claim["low"],
                "apart_high": claim["high"],
            }
            yield (
                f'<p class="said"><b>{html.escape(name)}</b>: that the context is {claim["orders"]:g} orders of '
                f"magnitude too small implies β = {claim['implied']:.2f}; fitted without a floor it is "
                f"{claim['fitted']:.2f}, {inline(apart, 'apart', '+.2f')} from it (p = {claim['p_value']:.2g}): "
                f"{mark(claim['verdict'])}.</p>"
            )


def forms(found: Mapping[str, Any], run: str) -> str:
    """What the answer hangs on, as a table to be opened: decades by form of the law; "" where nothing was fitted."""
    models = {name: model["answer"]["forms"] for name, model in found["models"].items() if model["answer"]["forms"]}
    if not models:
        return ""
    heads = (
        Head("log10(C*/C_max) by", "", ""),
        *(Head(name, "below: the residuals’ root mean square, nats a token", "num") for name in models),
    )
    rows = []
    for form, words in FORMS.items():
        known = [(own.get(form)) for own in models.values()]
        if any(known):
            cells = "".join(nothing("not fitted") if one is None else _form(one) for one in known)
            rows.append(f'<tr><th scope="row">{words}</th>{cells}</tr>')
    table = plain_table(f"Forms of the law, {run}", heads, rows, sorts=False)
    return f"<details><summary>What other forms of the law say</summary>{table}</details>"


def _form(told: Mapping[str, Any]) -> str:
    return cell(_decades(told), f'<span class="between">±{signed(format(told["rmse"], ".3f"))}</span>')
