"""Any set of folders: which runs are found, what became of them, and which belong together."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from synthetic import write_run, write_study

from menard_unlearn.errors import UserError
from menard_unlearn.report.gather import gather
from menard_unlearn.report.page import render
from menard_unlearn.report.runs import counted, runs_table
from menard_unlearn.report.study import Study
from menard_unlearn.run import RunDir

FAILURE = {"error": "out of <memory>", "kind": "Failure", "at": "2001-02-03T04:05:06Z", "host": "node1", "job": "12_3"}


def study(folder: Path, name: str = "one", seeds: int = 1) -> Path:
    return write_study(folder / name, seeds=seeds, published=False, n_tokens=5)


def configure(run: Path, **values: Any) -> None:
    path = run / "config.yaml"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def names(found: Study) -> list[str]:
    return [run.name for run in found.runs]


def test_runs_studies_and_folders_of_studies(tmp_path: Path) -> None:
    one, two = study(tmp_path), study(tmp_path, "two")
    whole = gather([tmp_path], tmp_path)
    assert len(whole.runs) == 12
    some = gather([one, two / "npo-s0-00000000", one / "rmu-s0-00000000"], one)
    assert len(some.runs) == 7, "a run that lies in two of the folders is shown once"
    assert [run.href for run in some.of("npo · two")] == ["../two/npo-s0-00000000"]
    assert some.name == "one, npo-s0-00000000, rmu-s0-00000000"
    assert render(some).count("menard report") == 1


def test_folders_without_runs_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty has no run: give runs/<study>"):
        gather([study(tmp_path), tmp_path / "empty"], tmp_path)
    with pytest.raises(UserError, match=r"no folder .*nowhere"):
        gather([tmp_path / "nowhere"], tmp_path)


def test_whatever_became_of_a_run_it_is_listed(tmp_path: Path) -> None:
    folder = study(tmp_path, seeds=4)
    for seed in range(1, 4):
        (folder / f"npo-s{seed}-0000000{seed}" / "unlearn.manifest.json").unlink()
    log = folder / ".sweep" / "logs" / "12_3.out"
    (folder / "npo-s2-00000002" / "failure.json").write_text(json.dumps({**FAILURE, "log": str(log)}))
    jobs = folder / ".sweep" / "jobs"
    jobs.mkdir(parents=True)
    payload = {"config": {"method": {"_target_": "made.up"}}}
    for name in ("simnpo-s0-0000abcd", "npo-s1-00000001"):  # the latter has a directory
        (jobs / f"{name}.json").write_text(json.dumps(payload))
    with RunDir(folder / "npo-s3-00000003").lock():
        found = gather([folder], folder)
    states = {run.name: run.state for run in found.runs}
    assert [states[f"npo-s{seed}-0000000{seed}"].name for seed in range(4)] == [
        "finished",
        "begun",
        "failed",
        "running",
    ]
    assert states["simnpo-s0-0000abcd"].name == "planned"
    told = re.sub(r"<[^>]+>", "", counted(found))
    assert told == "15 finished 1 running 1 failed 1 begun 1 planned"
    drawn = runs_table(found)
    for text in ("Failure: out of &lt;memory&gt;", "node1, job 12_3", 'href=".sweep/logs/12_3.out"', "499 / 500"):
        assert text in drawn, text
    page = render(found)
    for name in names(found):
        assert name in page, name


def test_a_retry_hides_the_failure_before_it(tmp_path: Path) -> None:
    folder = study(tmp_path)
    (folder / "npo-s0-00000000" / "failure.json").write_text(json.dumps({**FAILURE, "log": None}))
    (run,) = gather([folder], folder).of("npo")
    assert run.state.name == "finished" and run.state.why is None


def test_neither_secrets_nor_the_target_are_in_a_failure(tmp_path: Path) -> None:
    folder = study(tmp_path)
    run = folder / "npo-s0-00000000"
    configure(run, target={"path": "/home/someone/book.txt"})
    (run / "unlearn.manifest.json").unlink()
    told = f"/home/someone/book.txt and hf_{'a' * 30} and {'0123456789' * 4}"
    (run / "failure.json").write_text(json.dumps({**FAILURE, "error": told, "log": None}))
    why = gather([folder], folder).of("npo")[0].state.why
    assert why == "Failure: (the target) and (hidden) and (hidden)"


def test_runs_of_a_group_differ_in_their_seeds_alone(tmp_path: Path) -> None:
    folder = study(tmp_path, seeds=3)
    configure(folder / "npo-s2-00000002", trainer={"learning_rate": 0.5, "max_steps": 500})
    configure(folder / "npo-s0-00000000", tracking={"mode": "offline"})  # nothing that is computed
    found = gather([folder], folder)
    groups = [group for group in found.groups if group.startswith("npo")]
    assert groups == ["npo · plain", "npo · learning rate 0.5"]
    assert [run.seed for run in found.of(groups[0])] == [0, 1]
    assert found.looks[groups[0]] != found.looks[groups[1]]


def test_groups_that_differ_in_much_are_numbered(tmp_path: Path) -> None:
    folder = study(tmp_path, seeds=2)
    configure(folder / "rmu-s1-00000001", method={"a": "x" * 50})
    assert [group for group in gather([folder], folder).groups if "rmu" in group] == ["rmu · 1", "rmu · 2"]


def test_each_panel_has_the_references_of_its_own_study(tmp_path: Path) -> None:
    one, two = study(tmp_path), study(tmp_path, "two")
    (other,) = two.glob("base-*")
    found = gather([one, two], tmp_path)
    runs = found.of("npo · two")
    assert [run.path for run in found.beside(runs, ("base",))] == [other]
    alone = gather([one, two / "npo-s0-00000000"], tmp_path)
    assert alone.beside(alone.of("npo · two"), ("base", "gold")) == []


def test_studies_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for above in ("a", "b"):
        study(tmp_path / above, "same")
    found = gather([tmp_path / "a" / "same", tmp_path / "b" / "same"], tmp_path)
    assert found.name == "a/same, b/same"
    assert {run.group for run in found.runs if run.method == "base"} == {"base · a/same", "base · b/same"}


def test_a_failure_before_the_first_file_belongs_to_its_method(tmp_path: Path) -> None:
    folder = study(tmp_path)
    run = write_run(folder, "npo", 5, False, 5)
    for path in (run / "config.yaml", run / "history.jsonl", run / "unlearn.manifest.json"):
        path.unlink()
    (run / "failure.json").write_text(json.dumps({**FAILURE, "log": None}))
    assert [run.seed for run in gather([folder], folder).of("npo")] == [0, 5]
