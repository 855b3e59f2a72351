"""The table of methods: means of seeds, their spread, and the intervals of single runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from synthetic import write_run, write_study

from menard_unlearn.report.gather import gather
from menard_unlearn.report.table import table


def cells(folder: Path, method: str, rows: str = "methods") -> list[str]:
    """The text of each cell of a row."""
    drawn = table(gather([folder], folder))
    (methods,) = re.findall(rf'aria-label="Table of {rows}">(.*?)</table>', drawn)
    (row,) = re.findall(rf'<tr[^>]*><th scope="row"[^>]*>(?:<a[^>]*>)?{method}<.*?</tr>', methods)
    found = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)
    return [re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", cell)).strip() for cell in found]


def change(run: Path, file: str, **values: Any) -> None:
    path = run / "evaluation" / f"{file}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_row_a_method_has_the_mean_of_its_seeds_and_their_ends(tmp_path: Path) -> None:
    folder = write_study(tmp_path, seeds=3, published=False, n_tokens=5)
    for seed, (year, forget) in enumerate(((1938.0, 0.1), (1940.0, 0.2), (None, 0.6))):
        run = folder / f"npo-s{seed}-0000000{seed}"
        status = "no-cutoff" if year is None else "pinned"
        change(run, "cutoff", cutoff_year=year, cutoff_status=status, forget_recall=forget)
    name, cutoff, _, forget, *_ = cells(folder, "npo")
    assert name == "npo 3 seeds"
    assert cutoff == "pinned ×2 no-cutoff 1939.0 [1938.0, 1940.0]"
    assert forget == "30.0 [10.0, 60.0]"
    assert cells(folder, "rmu")[1] == "no-cutoff ×3"


def test_seeds_without_a_figure_are_not_counted_in_it(tmp_path: Path) -> None:
    folder = write_study(tmp_path, seeds=2, published=False, n_tokens=5)
    change(folder / "npo-s0-00000000", "cutoff", forget_recall=0.25)
    change(folder / "npo-s1-00000001", "cutoff", forget_recall=None, cutoff_status=None)
    (write_run(folder, "npo", 2, False, 5) / "unlearn.manifest.json").unlink()
    for path in (folder / "npo-s2-00000002" / "evaluation").iterdir():
        path.unlink()
    name, cutoff, _, forget, *_ = cells(folder, "npo")
    assert name == "npo 3 seeds 1 begun"
    assert cutoff == "pinned 1938.4 [1937.1, 1939.8]" and forget == "25.0 [15.8, 37.2]", "one seed has its own interval"
    assert 'title="of 1 of 3 seeds"' in table(gather([folder], folder))


def test_a_single_run_has_its_intervals(tmp_path: Path) -> None:
    folder = write_study(tmp_path, seeds=1, published=False, n_tokens=5)
    change(folder / "npo-s0-00000000", "cutoff", forget_recall=0.5)
    name, cutoff, _, forget, _, _, _, auc, *_ = cells(folder, "npo")
    assert (name, cutoff) == ("npo", "pinned 1938.4 [1937.1, 1939.8]")
    assert forget == "50.0 [37.7, 62.3]" and auc == "0.80 [0.75, 0.85]"
    assert "Each of the" not in table(gather([folder], folder))


def test_each_run_has_a_row_of_its_own_where_there_are_seeds(tmp_path: Path) -> None:
    folder = write_study(tmp_path, seeds=2, published=False, n_tokens=5)
    drawn = table(gather([folder], folder))
    assert "Each of the 10 runs" in drawn and drawn.count("<tr") == 2 * 2 + 6 + 10
