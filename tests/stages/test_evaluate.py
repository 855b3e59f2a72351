"""menard evaluate: a model as it is, and a finished run once more."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny_study import Study, facts, read, write_facts

from menard_unlearn import cli
from menard_unlearn.run import RunDir


def test_a_model_as_it_is_gives_base_and_gold(
    study: Study, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(study.evaluating(tmp_path, study="s")) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "s/summary.json")
    folders = sorted(path.name for path in (tmp_path / "s").iterdir() if path.is_dir())
    assert [name.partition("-")[0] for name in folders] == ["base", "gold", "prompted"]
    for name in folders[:2]:  # the same runs with the same numbers that unlearning makes for itself
        for file in ("items.jsonl", "cutoff.json", "utility.json", "reproduction.json"):
            mine, theirs = (folder / name / "evaluation" / file for folder in (tmp_path / "s", finished.parent))
            assert mine.read_bytes() == theirs.read_bytes()
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob("*.json*")}
    assert cli.run(study.evaluating(tmp_path, study="s")) == 0
    written.pop(tmp_path / "s/summary.json")
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())


def test_a_model_without_gold_and_without_unlearning(study: Study, tmp_path: Path) -> None:
    assert cli.run(study.evaluating(tmp_path, study="s", model__gold="null")) == 0
    row, told = read(tmp_path / "s/summary.json")
    assert (row["method"], told["method"]) == ("base", "prompted")
    assert row["distance_to_gold"] is None and row["retain_recall"] > 0.3


def test_a_finished_run_measured_again_gives_equal_numbers(study: Study, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished.parents[1], tmp_path / "runs")
    run = tmp_path / "runs/s" / finished.name
    shutil.rmtree(run / "evaluation")
    folders = {path for path in (tmp_path / "runs").rglob("*") if path.is_dir()}
    # its base and gold are those of the study that it lies in, whatever study= says
    assert cli.run(study.evaluating(tmp_path / "elsewhere", run=run)) == 0
    for file in (finished / "evaluation").iterdir():
        assert (run / "evaluation" / file.name).read_bytes() == file.read_bytes()
    assert not (tmp_path / "elsewhere").exists()
    assert {path for path in (tmp_path / "runs").rglob("*") if path.is_dir()} == folders | {run / "evaluation"}
    summaries = [read(folder / "summary.json") for folder in (run.parent, finished.parent)]
    for mine, theirs in zip(*summaries, strict=True):
        assert mine == theirs | {"run_dir": mine["run_dir"]}
    assert RunDir(run).finished("evaluate")


def test_what_cannot_be_measured_again_is_refused(
    study: Study, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusal(**values: object) -> str:
        assert cli.run(study.evaluating(tmp_path / "runs", **values)) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "is not a run directory (no config.yaml): give runs/<study>/<run>" in refusal(run=tmp_path / "nothing")
    begun = RunDir(tmp_path / "s/npo-s0-00000000")
    begun.write_config({"stage": "unlearn"})
    assert "is not finished: the command that began it resumes it" in refusal(run=begun.path)
    other = {"model__path": study.models / "gold", "model__gold": "null"}
    assert "changed another model than" in refusal(run=finished, **other)
    assert not (tmp_path / "runs").exists()


def test_documents_without_facts_are_measured_by_their_text(study: Study, tmp_path: Path) -> None:
    """Without facts there are no probes: what rests on them is null, the rest is there."""
    rows = [{"text": f"Chapter {n}. The ledger of that year is lost.", "date": str(1925 + n)} for n in range(30)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = {"corpus": "jsonl", "corpus__path": tmp_path / "texts.jsonl"}
    assert cli.run(study.unlearning(tmp_path / "runs", **corpus)) == 0
    for row in read(tmp_path / "runs/s/summary.json"):
        assert row["retain_recall"] is row["cutoff_year"] is row["forget_auc"] is None
        assert row["method"] != "prompted"  # nothing to be told before
        assert row["retain_bits_per_byte"] > 0 and row["target_bits_per_byte"] > 0


def test_facts_on_one_side_of_the_probes_only(study: Study, tmp_path: Path) -> None:
    rows = [row for row in facts() if int(row["year"]) <= 1941]
    path = write_facts(tmp_path / "facts.csv", rows)
    assert cli.run(study.evaluating(tmp_path / "runs", study="s", corpus__path=path)) == 0
    assert read(tmp_path / "runs/s/summary.json")[0]["retain_recall"] is not None


def test_any_model_is_a_row_of_its_own_beside_a_base_and_a_gold(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full, gold = study.models / "full", study.models / "gold"
    own = {"model": gold, "base": full, "gold": gold, "study": "s"}
    command = [part for part in study.evaluating(tmp_path, **own) if not part.startswith(("model.path", "model.gold"))]
    assert cli.run(command) == 0
    rows = {row["method"]: row for row in read(tmp_path / "s/summary.json")}
    assert rows.keys() == {"base", "gold", "prompted"} and len(list((tmp_path / "s").glob("gold-*/evaluation"))) == 2
    capsys.readouterr()
    assert cli.run(command) == 0
    assert "is finished; nothing to do" in capsys.readouterr().out


def test_a_model_by_its_folder_leaves_out_what_has_no_reference(study: Study, tmp_path: Path) -> None:
    own = {"model": study.models / "full", "study": "s", "evaluation__prompted__per_year": 0}
    command = [part for part in study.evaluating(tmp_path, **own) if not part.startswith(("model.path", "model.gold"))]
    assert cli.run(command) == 0
    (row,) = read(tmp_path / "s/summary.json")
    assert row["method"] == "base"
    found = read(next((tmp_path / "s").glob("base-*/evaluation/compared.json")))
    assert [line.partition(":")[0] for line in found["left_out"]] == [
        "A2, A3, A8's change, utility_kl",
        "A5",
        "C1, C2 and C3 to C6 against it",
        "prompted.json",
    ]


def test_a_run_takes_no_other_base(
    study: Study, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(study.evaluating(tmp_path, run=finished, base=study.models / "gold")) == 2
    assert "run= is compared with its own base and gold: leave out base=, or run=" in capsys.readouterr().err
