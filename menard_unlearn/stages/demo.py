"""`menard demo`: the study forget_1939 from end to end, and where its page is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from menard_unlearn import compose
from menard_unlearn.config import to_plain
from menard_unlearn.errors import UserError
from menard_unlearn.stages.report import report

STUDY = "forget_1939"
MODULE = "menard_unlearn.stages.unlearn"


def main(arguments: Sequence[str]) -> None:
    """Unlearn by every method of the study, print the table and the page's path. Finished runs are not done again.

    Takes the overrides of `menard unlearn`, as `method=npo` or `seed=1`.
    """
    started = time.perf_counter()
    given = [f"study={STUDY}", *arguments]
    failure = None
    try:
        compose.run("unlearn", MODULE, [*given, "--multirun"])  # last: Hydra loses values on both its sides
    except UserError as error:
        failure = error
    plain = to_plain(compose.compose("unlearn", [a for a in given if a.startswith(("study=", "runs_dir="))]))
    study_dir = Path(plain["runs_dir"]) / plain["study"]
    # a method that failed takes neither table nor page from those that did not
    if failure is None or any(study_dir.glob("*/unlearn.manifest.json")):
        print()
        page = report(study_dir)
        print(f"\n{time.perf_counter() - started:.0f} s; the page: {page}", flush=True)
    if failure is not None:
        raise failure
