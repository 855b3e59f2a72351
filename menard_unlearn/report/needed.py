"""Context needed: the answer of each model in words, its figures, and the tables behind them."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from typing import Any

from menard_unlearn.report.asides import course, heading, newest, not_computed, older
from menard_unlearn.report.cells import mark
from menard_unlearn.report.figures import panel
from menard_unlearn.report.needed_figures import panels_of
from menard_unlearn.report.needed_tables import answers, forms, placebos
from menard_unlearn.report.scales import in_tokens
from menard_unlearn.report.study import Study


def contexts(study: Study) -> str:
    """The newest runs, one below the other; "" of none."""
    parts = []
    for place, aside in enumerate(newest(study, "context")):
        panels = "".join(map(panel, panels_of(place, aside)))
        parts.append(
            course(
                [
                    heading(aside.run, html.escape(_made_of(aside.found))),
                    *_in_words(aside.found),
                    f'<div class="panels pair medium">{panels}</div>',
                    answers(aside.found, aside.run.name),
                    placebos(aside.found, aside.run.name),
                    forms(aside.found, aside.run.name),
                    not_computed(aside, aside.found["left_out"]),
                ]
            )
        )
    return "".join(parts) + older(study, "context")


def _made_of(found: Mapping[str, Any]) -> str:
    return (
        f"{found['target_name']}: contexts of {in_tokens(found['lengths'][0])} to {in_tokens(found['lengths'][-1])} "
        f"tokens out of {found['documents']:,} {found['made_of']} ({found['document_tokens']:,} tokens)"
    )


def _in_words(found: Mapping[str, Any]) -> Iterator[str]:
    """The answer of each model, its status first."""
    for name, model in found["models"].items():
        status = model["answer"]["status"]
        before, _, after = model["in_words"].partition(f"{status}: ")
        words = f"{before}{after[:1].upper()}{after[1:]}"
        yield f'<p class="said"><b>{html.escape(name)}</b>: {mark(status)} {html.escape(words)}</p>'
