"""Sweeps of real runs: the launchers change nothing of what is computed, and what is done is not done again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml
from tiny_study import Study, read, same_weights

from menard_unlearn import cli
from menard_unlearn.config import to_plain
from menard_unlearn.run import RunDir
from menard_unlearn.stages import unlearn

FILES = ("history.jsonl", "evaluation/items.jsonl", "evaluation/cutoff.json")


def test_jobs_of_the_parallel_launcher_end_in_the_bits_of_a_single_run(
    study: Study,
    finished: Path,
    tmp_path: Path,
    checkout: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(checkout), os.environ.get("PYTHONPATH", "")]))
    sweep = [*study.unlearning(tmp_path, seed="0,1"), "-m", "hydra/launcher=parallel", "hydra.launcher.jobs=2"]
    assert cli.run(sweep) == 0, capsys.readouterr().err
    runs = {path.name.partition("-s")[2][0]: path for path in tmp_path.glob("s/npo-s*")}
    assert runs["0"].name == finished.name and same_weights(runs["0"], finished)
    assert not same_weights(runs["0"], runs["1"])
    for name in FILES:
        assert (runs["0"] / name).read_bytes() == (finished / name).read_bytes(), name
    capsys.readouterr()
    assert cli.run(sweep) == 0 and capsys.readouterr().err == "2 runs: 2 finished\n"


def test_runs_are_evaluated_again_in_a_sweep_once_for_each_setting(
    study: Study, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished.parent, tmp_path / "s")
    own = tmp_path / "s" / finished.name
    other = shutil.copytree(own, own.with_name("npo-s1-00000000"))
    evaluating = [*study.evaluating(tmp_path, run=f"{own},{other}"), "-m"]
    for given, decided in (
        ([], "2 to do"),
        ([], "2 finished"),
        (["evaluation.bootstrap=11"], "2 to do"),
        ([f"run={own}", "evaluation.bootstrap=11"], "1 finished"),
    ):
        capsys.readouterr()
        assert cli.run([*evaluating, *given]) == 0
        assert f": {decided}\n" in capsys.readouterr().err, given
    assert RunDir(own).finished("evaluate") and RunDir(other).finished("evaluate")
    assert cli.run([*evaluating, f"run={own},{tmp_path}/none"]) == 2
    assert "job 1 " in (said := capsys.readouterr().err) and "is not a run directory" in said


def test_a_search_is_told_the_objective_and_goes_on_where_it_was(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    told = study.unlearning(tmp_path, trainer__max_steps=1, objective__utility_floor=0.5)
    told = [argument for argument in told if not argument.startswith("trainer.learning_rate=")]
    search = [*told, "-m", "hydra/sweeper=search", "trainer.learning_rate=tag(log,interval(1e-4,1e-2))"]
    assert cli.run([*search, "hydra.sweeper.n_trials=2"]) == 0
    assert capsys.readouterr().err.count("1 run: 1 to do\n") == 2
    assert cli.run([*search, "hydra.sweeper.n_trials=3"]) == 0
    said = capsys.readouterr().err
    assert said.count("1 run: 1 finished\n") == 2 and said.count("1 run: 1 to do\n") == 1
    runs = [RunDir(path) for path in tmp_path.glob("s/npo-s*")]
    values = {
        run.read_config()["trainer"]["learning_rate"]: unlearn.outcome(to_plain(run.read_config()), run) for run in runs
    }
    best = yaml.safe_load((tmp_path / "s/.sweep/optimization_results.yaml").read_text())
    assert len(values) == 3 and best["best_value"] == min(values.values())
    assert values[best["best_params"]["trainer.learning_rate"]] == best["best_value"]
    groups = {read(file)["config"]["tracking"].get("group") for file in tmp_path.glob("s/.sweep/jobs/*.json")}
    assert len(groups) == 1, "trials of one search are folded together"


def test_a_search_on_slurm_has_to_wait(study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    search = ["-m", "hydra/sweeper=search", "seed=0,1", "hydra/launcher=slurm", "hydra.sweeper.n_trials=1"]
    assert cli.run([*study.unlearning(tmp_path), *search]) == 2
    assert "hydra.launcher.wait=true" in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.glob("s/npo-*"))
