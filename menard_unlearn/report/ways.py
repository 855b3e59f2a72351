"""Other ways of asking: the same facts as statements, gaps, choices and years, and what a mere prompt would do."""

from __future__ import annotations

from menard_unlearn.report.cells import Show, absent, chip, ends, hundredfold, percent, result, share, year
from menard_unlearn.report.grid import Column, measured
from menard_unlearn.report.study import Run, Study

KINDS = {
    "statement": "the answer as the end of a statement",
    "cloze": "the answer in a gap of a sentence that goes on",
    "choice": "the letter of the answer, out of those listed",
    "year": "the year of what happened",
}
"""Kind of a question → what is asked for."""
PROMPT = "Beside a mere prompt, %"

prompted = result("prompted")


def _prompted_share(run: Run) -> str:
    found = prompted(run)
    if found is None or found["prompted_share"] is None:
        return absent(run, found)
    if found["selective_low"] is None or found["selective_low"] <= 0:  # a ratio to nothing
        return chip("not selective", "its selective forgetting may be nothing, of which there is no share")
    return share(found["prompted_share"], ends(found, "prompted_share", hundredfold))


PROMPTED = (
    Column(
        PROMPT,
        "forgotten ↑",
        "1 - recall / the base’s recall, of facts after the cutoff; of the row prompted: by the prompt alone",
        percent(prompted, "forgotten", interval="forgotten"),
    ),
    Column(
        PROMPT,
        "damage ↓",
        "the same of facts up to the cutoff, which should stay",
        percent(prompted, "damage", interval="damage"),
    ),
    Column(
        PROMPT,
        "selective ↑",
        "forgotten - damage: 0 where nothing is forgotten, or everything",
        percent(prompted, "selective", interval="selective"),
    ),
    Column(
        PROMPT,
        "prompt’s share ↓",
        "of the selective forgetting, what the prompt alone gives; 100: the method did no more",
        _prompted_share,
    ),
)


def asked(study: Study) -> str:
    """The table of kinds and that of the prompt, and what their columns are; "" where there is neither."""
    columns = [column for kind in KINDS for column in _of(kind, study)]
    ways = measured("Other ways of asking", columns, study, lambda run: run.result("kinds") or run.result("questions"))
    return ways + measured("Beside a mere prompt", PROMPTED, study, prompted)


def _of(kind: str, study: Study) -> list[Column]:
    chances = (found.get(f"{kind}_chance_after") for run in study.runs if (found := run.result("questions")))
    chance = next((value for value in chances if value is not None), None)
    guessed = "" if chance is None else f" (chance {hundredfold(chance)} %)"
    group, what = f"{kind}{guessed}", KINDS[kind]
    right = "share answered rightly, in percent, of facts"
    return [
        Column(group, "lost after (A2)", f"{what}: year after which what the base knew is lost", _lost(kind)),
        Column(group, "before ↑", f"{what}: {right} up to the cutoff", _share(kind, "before")),
        Column(group, "after ↓", f"{what}: {right} after the cutoff", _share(kind, "after")),
    ]


def _lost(kind: str) -> Show:
    return year(result("kinds", kind), "cutoff_change", explained=False)


def _share(kind: str, side: str) -> Show:
    return percent(result("questions"), f"{kind}_accuracy_{side}")
