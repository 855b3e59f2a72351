"""`menard report <folder> …`: gather what the runs found, and write the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from menard_unlearn.config import to_plain
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.summary import NAME, write_summary
from menard_unlearn.files import replace
from menard_unlearn.report.page import build_page
from menard_unlearn.report.seeds import seeds_table
from menard_unlearn.stages.table import print_table

PAGE, COMPARISON = "report.html", "comparison.html"
"""The page of a study, and that of several or of some runs of it: neither is written over the other."""


def main(cfg: DictConfig) -> None:
    """Write the page of the folders `runs` into the first of them or to `to`, and print where it is."""
    config = to_plain(cfg)
    given = config["runs"]
    places = [Path(place) for place in ([given] if isinstance(given, str) else given)]
    print(f"\nthe page: {report(*places, to=None if config['to'] is None else Path(config['to']))}")


def report(*places: Path, to: Path | None = None) -> Path:
    """Write the page of runs and studies, and return its path.

    Of each study that is given as a whole, summary.json and seeds.md are written too, and its table is printed.

    Args:
        places: folders, each of a run, of a study, or of studies.
        to: the file; None: report.html in the study that is the only place, else comparison.html in the first study.

    Raises:
        UserError: no folder was given, or one of them is not there or holds no run.
    """
    if not places:
        raise UserError("no folder was given: menard report runs/<study>, or several folders of studies and runs")
    for place in places:
        if not place.is_dir():
            raise UserError(f"no folder {place}: give a study's folder, runs/<study>, or a run's, runs/<study>/<run>")
    if to is not None and to.is_dir():
        raise UserError(f"to={to} is a folder: give a file, to={to / PAGE}")
    page = build_page(places, to or _beside(places))
    for place in places:
        if any(place.glob("*/evaluation")):
            rows = write_summary(place)
            print_table(rows)
            replace(place / "seeds.md", seeds_table(rows).encode())
    return page


def _beside(places: Sequence[Path]) -> Path:
    first = places[0]
    if NAME.fullmatch(first.resolve().name) and (first / "config.yaml").is_file():
        return first.resolve().parent / COMPARISON
    return first / (PAGE if len(places) == 1 else COMPARISON)
