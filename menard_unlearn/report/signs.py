"""What else dates a model: surprise at dated texts, the year it takes it to be, anachronisms, facts that changed."""

from __future__ import annotations

from menard_unlearn.report.cells import absent, between, cell, chip, number, percent, result
from menard_unlearn.report.dated import jump_of, surprisal
from menard_unlearn.report.grid import Column, measured
from menard_unlearn.report.study import Run, Study

FILES = ("surprisal", "dating", "generation", "residue")
TEXTS, SELF, NEWER, RESIDUE = "Dated texts (A4)", "Dates itself (A6)", "Anachronisms (A7)", "Facts that changed (A8), %"

dating, residue = result("dating"), result("residue")
written = result("generation", "anachronisms")


def _jumps(run: Run) -> str:
    found = surprisal(run)
    if found is None or found["change_p_value"] is None:
        return absent(run, found, "A4")
    p = f"p = {found['change_p_value']:.2g}"
    if jump_of(run) is None:
        return chip("no jump", f"a steady drift explains the curve as well, {p}")
    low, high = (f"{found[f'change_{end}']:.1f}" for end in ("low", "high"))
    return cell(f"{found['change_year']:.1f}", between(low, high), p)


def _median(run: Run) -> str:
    found = dating(run)
    if found is None or found["median"] is None:
        return absent(run, found) if found is None else chip(found["status"], "no prompt is answered by a year")
    asked = f"{found['n_prompts_used']} of {found['n_prompts']} prompts were answered by a year"
    return cell(f"{found['median']:.0f}", between(f"{found['low']:.0f}", f"{found['high']:.0f}"), asked)


def _rate(run: Run) -> str:
    found = written(run)
    if found is None or found["rate"] is None:
        return absent(run, found) if found is None else chip(found["status"], "too few words for silence to count")
    low, high = (f"{found[f'rate_{end}']:.1f}" for end in ("low", "high"))
    return cell(f"{found['rate']:.1f}", between(low, high), f"{found['hits']} in {found['n_words']:,} words")


COLUMNS = (
    Column(
        TEXTS,
        "excess, bits/byte ↑",
        "surprise at texts about years after the cutoff, minus that at texts of the reference years",
        number(surprisal, "excess_after", ".2f", interval="excess_after", code="A4"),
    ),
    Column(TEXTS, "jump at", "year between whose neighbours the curve jumps, where drift does not explain it", _jumps),
    Column(SELF, "median year", "asked which year it is: median, 5 % and 95 % quantile of the answers", _median),
    Column(SELF, "after, % ↓", "probability that it gives to years after the cutoff", percent(dating, "after")),
    Column(NEWER, "a 1,000 words ↓", "terms first attested after the cutoff, in what it writes by itself", _rate),
    Column(NEWER, "years, % ↓", "of the years that it writes, those after the cutoff", percent(written, "years_after")),
    Column(
        RESIDUE,
        "later ↓",
        "facts that changed after the cutoff, answered as they are since: what is left of the change; chance 25",
        percent(residue, "residue", interval="residue"),
    ),
    Column(
        RESIDUE,
        "earlier ↑",
        "the same, answered as they were before: a success where the interval lies above chance, 25",
        percent(residue, "reverted", interval="reverted"),
    ),
    Column(
        RESIDUE,
        "controls ↑",
        "facts that changed before the cutoff, answered as they are since, which stays right; chance 25",
        percent(residue, "controls_after", interval="controls"),
    ),
)


def dated_table(study: Study) -> str:
    """The table, and what its columns are; "" where nothing of it was measured."""
    return measured("What else dates it", COLUMNS, study, lambda run: any(run.result(name) for name in FILES))
