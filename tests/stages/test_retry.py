"""menard retry does again what is left of a sweep, as it was launched, and nothing twice."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
import swept
import yaml

from menard_unlearn import cli
from menard_unlearn.compose import compose
from menard_unlearn.config import to_plain
from menard_unlearn.launch.local import ParallelConfig
from menard_unlearn.launch.slurm import SlurmConfig
from menard_unlearn.run import RunDir
from menard_unlearn.stages.typed import typed

STUDY = "runs/default"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sweep(*arguments: str, launcher: str) -> None:
    """A sweep of x=1,2,3 in which x=2 is killed when it has saved."""
    swept.launch("-m", f"hydra/launcher={launcher}", "x=1,2,3", "steps=12", "hard_kill=2", *arguments)


def kinds() -> list[str]:
    lines = Path(STUDY, ".sweep/jobs.jsonl").read_text().splitlines()
    return [json.loads(line)["launcher"]["kind"] for line in lines]


def test_what_was_killed_is_done_again_as_it_was_launched_and_by_one_of_two_retries() -> None:
    sweep("hydra.launcher.jobs=2", launcher="parallel")
    assert swept.states(STUDY) == {"x1": "finished", "x2": "failed", "x3": "finished"}
    both = [swept.start_menard("retry", STUDY, "launcher.jobs=1") for _ in range(2)]
    said = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert any("3 runs: 2 finished, 1 to do" in text for text in said)
    assert swept.states(STUDY) == {"x1": "finished", "x2": "finished", "x3": "finished"}
    assert swept.starts(STUDY) == {"x1": 1, "x2": 2, "x3": 1}
    assert set(kinds()) == {"parallel"}
    assert "nothing to do, all 3 runs of sweeps are finished" in swept.menard("retry", STUDY)


def test_a_local_sweep_that_was_killed_goes_on_and_a_run_can_be_chosen() -> None:
    sweep(launcher="local")  # which is killed with its job
    assert swept.states(STUDY) == {"x1": "finished", "x2": "begun", "x3": "planned"}
    assert "1 run: 1 to do" in swept.menard("retry", swept.run_of(STUDY, 3))
    assert swept.states(STUDY) == {"x1": "finished", "x2": "begun", "x3": "finished"}
    assert "launcher.mem_gb is not of hydra/launcher=local" in swept.menard("retry", STUDY, "launcher.mem_gb=8", code=2)
    swept.menard("retry", STUDY)
    assert swept.starts(STUDY) == {"x1": 1, "x2": 2, "x3": 1} and set(kinds()) == {"local"}


def test_a_run_that_fails_again_is_an_error_and_the_others_are_done() -> None:
    swept.launch("-m", "hydra/launcher=local", "x=1", "steps=2", "fail=1")
    swept.launch("-m", "hydra/launcher=parallel", "x=2,3", "steps=12", "hard_kill=2")
    said = swept.menard("retry", STUDY, code=2)
    assert "this x fails, as ordered" in said and "1 failed" in said
    assert swept.states(STUDY) == {"x1": "failed", "x2": "finished", "x3": "finished"}


def test_a_failure_keeps_neither_other_settings_nor_other_studies_from_their_turn() -> None:
    swept.launch("-m", "hydra/launcher=parallel", "hydra.launcher.jobs=1", "x=1", "steps=2", "fail=1")
    swept.launch("-m", "hydra/launcher=parallel", "hydra.launcher.jobs=2", "x=2,3", "steps=12", "hard_kill=2")
    swept.launch("-m", "hydra/launcher=parallel", "study=other", "x=4", "steps=12", "hard_kill=4")
    assert swept.states(STUDY) == {"x1": "failed", "x2": "failed", "x3": "finished"}
    said = swept.menard("retry", STUDY, "runs/other", code=2)
    assert "error: 1 failed (see above)" in said
    assert swept.states(STUDY) == {"x1": "failed", "x2": "finished", "x3": "finished"}
    assert swept.states("runs/other") == {"x4": "finished"}


def test_nothing_begins_before_all_of_it_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(launcher="parallel")
    Path("sub").mkdir()
    monkeypatch.chdir("sub")
    sweep(launcher="local")
    monkeypatch.chdir(tmp_path)
    ledger = Path(STUDY, ".sweep/jobs.jsonl").read_bytes()
    assert "jobs=0: give 1 or more" in swept.menard("retry", STUDY, "launcher.jobs=0", code=2)
    assert f"type this in {tmp_path}/sub" in swept.menard("retry", STUDY, f"sub/{STUDY}", code=2)
    assert Path(STUDY, ".sweep/jobs.jsonl").read_bytes() == ledger
    assert swept.starts(STUDY) == {"x1": 1, "x2": 1, "x3": 1}


def test_slurm_is_not_asked_about_runs_that_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands are installed here, and no Slurm is behind them."""
    swept.launch("-m", "hydra/launcher=parallel", "x=1", "steps=2")
    ledger = Path(STUDY, ".sweep/jobs.jsonl")
    ledger.write_text(ledger.read_text().replace('"parallel"', '"slurm"'))
    for name in ("squeue", "sbatch"):
        Path(name).write_text("#!/bin/sh\nexit 1\n")
        Path(name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert "nothing to do, all 1 runs of sweeps are finished" in swept.menard("retry", STUDY)


def test_elsewhere_the_folder_to_go_to_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(launcher="local")
    monkeypatch.chdir(tmp_path / "runs")
    said = swept.menard("retry", "default", code=2)
    assert f"was launched as {STUDY}/x1-" in said and said.endswith(f"type this in {tmp_path}\n")


def test_every_setting_of_a_launcher_can_be_changed_and_no_other(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = yaml.safe_load((checkout / "conf/retry.yaml").read_text())["launcher"].keys()
    assert keys == {field.name for kind in (SlurmConfig, ParallelConfig) for field in dataclasses.fields(kind)}
    assert cli.run(["retry", STUDY, "launcher.timeout=600"]) == 2
    assert "no key 'launcher.timeout' (did you mean launcher.timeout_min?)" in capsys.readouterr().err


# Runs that no sweep has launched


def test_a_single_run_is_named_with_the_command_that_resumes_it(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["study=single", "method=npo", "seed=3", "trainer.max_steps=7", "model.path='a b'", "tracking=none"]
    config = to_plain(compose("unlearn", given))
    run = RunDir(Path("runs/single/npo-s3-01234567"))
    run.write_config(config)
    RunDir(Path("runs/single/base-01234567")).write_config({"stage": "evaluate"})
    command = typed(run)
    assert command.startswith("menard unlearn study=single method=npo") and "trainer.max_steps=7" in command
    assert cli.run(["retry", "runs/single"]) == 0
    said = capsys.readouterr().out
    assert f"npo-s3-01234567: no run of a sweep; resume it by: {command}" in said
    assert "base-01234567: a reference" in said and "no run of a sweep among these" in said


def test_a_configuration_that_cannot_be_composed_is_pointed_at() -> None:
    run = RunDir(Path("runs/single/npo-s3-01234567"))
    run.write_config({"stage": "unlearn", "study": "single", "method_name": "of_an_older_version"})
    assert typed(run) == "menard unlearn with the settings in runs/single/npo-s3-01234567/config.yaml"
