"""menard status tells how runs stand by what is on the disk, in the ledger and in the queue."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from menard_unlearn import cli
from menard_unlearn.files import write_json
from menard_unlearn.launch.listing import studies_in
from menard_unlearn.launch.progress import Reader
from menard_unlearn.launch.sweep import Entry, Payload, Sweep
from menard_unlearn.run import RunDir
from menard_unlearn.stages.status_table import console, drawn

CONFIG = {"stage": "unlearn", "trainer": {"max_steps": 4}}
NO_HEAVY_IMPORTS = """
import sys
from menard_unlearn import cli
code = cli.run(sys.argv[1:])
heavy = {"torch", "transformers", "wandb", "datasets"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else code)
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make_run(path: str | Path, steps: int = 0, *, finished: bool = False, **results: Any) -> RunDir:
    run = RunDir(Path(path))
    run.path.mkdir(parents=True)
    run.write_config(CONFIG)
    for step in range(1, steps + 1):
        run.append_history({"step": step, "loss": 1.0 / step})
    if finished:
        run.write_manifest("unlearn", config_hash="h", inputs={}, seconds=2.5, peak_memory_mb=1.0, results=results)
    return run


def launch(run: str, kind: str, job: str, log: str | None = None) -> None:
    """What a launch leaves of a run before it begins."""
    payload = Payload("unlearn", "menard_unlearn.stages.unlearn", ("seed=1",), CONFIG, run)
    sweep = Sweep.of(payload.directory)
    path = sweep.keep(payload)
    sweep.append([Entry(Path(run).name, str(path), {"kind": kind}, job, log, time.time())])


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, Any]]:
    capsys.readouterr()
    assert cli.run(["status", *arguments, "--json"]) == 0
    return {Path(row["run"]).name: row for row in map(json.loads, capsys.readouterr().out.splitlines())}


def test_the_states_in_both_outputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run("runs/s/npo", 4, finished=True)
    make_run("runs/s/rmu", 2)
    make_run("runs/s/dpo", 1).write_failure(ValueError("the loss\nis gone"))
    launch("runs/s/ga", "parallel", "99@elsewhere", "runs/s/.sweep/logs/ga.log")
    (tmp_path / "runs/s/.hydra").mkdir()
    own = Sweep(Path("runs/s/.sweep"))
    with make_run("runs/t/ga").lock(), own.launching() as name:
        launch("runs/s/wga", "parallel", name)
        rows = told(capsys)
        assert cli.run(["status", "runs"]) == 0
        table = capsys.readouterr().out
    assert {name: row["state"] for name, row in rows.items()} == {
        "dpo": "failed",
        "ga": "running",
        "npo": "finished",
        "rmu": "begun",
        "wga": "queued",
    }, "the planned run of the same name is in another study"
    assert (rows["npo"]["step"], rows["npo"]["seconds"], rows["npo"]["metric"]) == (4, 2.5, {"loss": 0.25})
    assert rows["rmu"]["max_steps"] == 4 and rows["rmu"]["age_seconds"] < 600
    assert rows["ga"]["held_by"] == f"{os.getpid()} on {platform.node()}"
    assert rows["wga"]["held_by"] == f"launch {os.getpid()}@{platform.node()}" and rows["wga"]["step"] is None
    assert rows["dpo"]["why"] == "the loss is gone"
    lines = table.splitlines()
    assert [line.split()[1] for line in lines[1:7]] == ["finished", "running", "queued", "failed", "begun", "planned"]
    assert "2/4" in lines[5] and "loss 0.5" in lines[5]
    assert lines[7:-1] == ["s/dpo: the loss is gone"], "a log that is not there yet is not told"
    assert lines[-1] == "6 runs: 1 finished, 1 running, 1 queued, 1 failed, 1 begun, 1 planned"


def test_one_run_and_a_run_that_is_only_in_the_ledger(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("runs/s/npo", 1)
    launch("runs/s/ga", "parallel", "99@elsewhere", "runs/s/.sweep/logs/ga.log")
    assert told(capsys, "runs/s/npo").keys() == {"npo"} and told(capsys, "runs/s").keys() == {"npo", "ga"}
    (planned,) = told(capsys, "runs/s/ga").values()
    write_json("runs/s/.sweep/logs/ga.log", "of an attempt that was killed before it had a directory")
    assert cli.run(["status", "runs/s"]) == 0 and "ga: runs/s/.sweep/logs/ga.log\n" in capsys.readouterr().out
    assert (planned["state"], planned["max_steps"], planned["log"]) == ("planned", 4, "runs/s/.sweep/logs/ga.log")


def test_a_run_that_failed_in_a_launch_which_goes_on_is_no_longer_queued(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("runs/s/npo").write_failure("before the launch")
    os.utime("runs/s/npo/failure.json", (1.0, 1.0))
    with Sweep(Path("runs/s/.sweep")).launching() as name:
        launch("runs/s/npo", "local", name)
        assert told(capsys, "runs/s")["npo"]["state"] == "queued"
        RunDir(Path("runs/s/npo")).write_failure("in it")
        row = told(capsys, "runs/s")["npo"]
    assert (row["state"], row["why"]) == ("failed", "in it")


def test_the_headline_of_finished_runs_and_references(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("npo-s0-01234567", "rmu-s0-01234567", "ga-s0-01234567"):
        make_run(f"runs/s/{name}", 4, finished=True, stopped="retain_loss" if name.startswith("ga") else None)
    base = RunDir(Path("runs/s/base-01234567"))
    base.write_config({"stage": "evaluate"})
    base.write_manifest("evaluate", config_hash="h", inputs={}, seconds=1.0, peak_memory_mb=1.0)
    rows = [
        {"run": "npo-s0-01234567", "cutoff_change_status": "pinned", "cutoff_change_year": 1939.4},
        {"run": "rmu-s0-01234567", "cutoff_change_status": "right-censored", "cutoff_change_year": None},
        {"run": "base-01234567", "cutoff_change_status": None, "cutoff_status": "pinned", "cutoff_year": 1969.04},
    ]
    write_json("runs/s/summary.json", rows)
    assert told(capsys, "runs/s")["npo-s0-01234567"]["metric"] == {
        "cutoff_change_status": "pinned",
        "cutoff_change_year": 1939.4,
    }
    assert cli.run(["status", "runs/s"]) == 0
    shown = capsys.readouterr().out
    for words in ("changed at 1939.4", "change: right-censored", "knows up to 1969.0", "stopped: retain_loss"):
        assert words in shown
    assert shown.splitlines()[-1] == "4 runs: 4 finished"


def test_a_torn_history_and_a_broken_evaluation_do_not_matter(capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run("runs/s/npo", 3)
    with open(run.history_path, "ab") as file:
        file.write(b"what a full disk left\n" + b'{"step": 4, "lo')
    run.evaluation_dir.mkdir()
    (run.evaluation_dir / "question_scores.json").write_text("{")
    (row,) = told(capsys, "runs/s").values()
    assert (row["step"], row["metric"]) == (3, {"loss": 1 / 3})


def test_without_slurms_commands_the_queue_is_not_asked_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    launch("runs/s/npo", "slurm", "12_3", "/logs/npo.out")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert told(capsys, "runs/s")["npo"]["state"] == "planned"
    assert cli.run(["status", "runs/s"]) == 0
    assert "note: the queue cannot be asked" in (said := capsys.readouterr().out) and "squeue is not installed" in said


def test_a_thousand_finished_runs_are_told_in_seconds_and_without_torch(tmp_path: Path) -> None:
    for number in range(1000):
        path = Path(f"runs/s/npo-s{number}-01234567")
        path.mkdir(parents=True)
        (path / "config.yaml").write_text(
            "stage: unlearn\ntrainer:\n  max_steps: 200\n" + "filler: {a: 1, b: x}\n" * 150
        )
        (path / "history.jsonl").write_text("".join(f'{{"step": {n}, "loss": 0.5}}\n' for n in range(1, 201)))
        (path / "unlearn.manifest.json").write_text('{"seconds": 1.5, "results": {"stopped": null}}')
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", NO_HEAVY_IMPORTS, "status", "runs/s", "--json"],
        env=os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 1000 and all((row["state"], row["step"]) == ("finished", 200) for row in rows)
    assert time.monotonic() - began < 60, "on a busy machine; else it is two"


def test_on_a_low_screen_finished_runs_give_way(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(30):
        make_run(f"runs/s/npo-{number:02}", 1, finished=True)
    make_run("runs/s/rmu").write_failure("a reason")
    found = Reader().read(studies_in(Path("runs/s")))
    console().print(drawn(found.runs, Path("runs/s"), None, height=20))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 20 and "rmu: a reason" in lines
    assert lines[-1] == "31 runs: 30 finished, 1 failed (17 not shown)"


# Mistakes


def test_a_folder_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["status"]) == 2
    assert capsys.readouterr().err == "error: no folder runs: give runs/<study>, or the folder that holds the studies\n"


def test_a_finished_run_that_is_to_be_evaluated_otherwise_is_queued(capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run("runs/s/npo-s0", finished=True)
    manifest: dict[str, Any] = {"inputs": {}, "seconds": 1.0, "peak_memory_mb": 1.0}
    run.write_manifest("evaluate", config_hash="of the first settings", **manifest)
    payload = Payload("evaluate", "menard_unlearn.stages.evaluate", (), CONFIG, str(run.path), "of the second")
    sweep = Sweep.of(run)
    kept = sweep.keep(payload)
    with sweep.launching() as launch_name:
        sweep.append([Entry("npo-s0", str(kept), {"kind": "parallel"}, launch_name, None, time.time())])
        assert told(capsys, "runs/s")["npo-s0"]["state"] == "queued"
    run.write_manifest("evaluate", config_hash="of the second", **manifest)
    assert told(capsys, "runs/s")["npo-s0"]["state"] == "finished"


def test_several_folders(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["status", "runs/a", "runs/b"]) == 2
    assert "error: study_dir=['runs/a', 'runs/b']: give one folder" in capsys.readouterr().err


def test_nothing_to_show(capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/s").mkdir(parents=True)
    assert cli.run(["status", "runs/s"]) == 0 and capsys.readouterr().out == "no runs under runs/s\n"
    assert cli.run(["status", "runs/s", "--watch"]) == 0
    assert cli.run(["status", "runs/s", "every_s=0"]) == 2
    assert "every_s=0: give seconds" in capsys.readouterr().err
