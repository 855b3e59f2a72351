"""The command line, with stages that only write down what they were given."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from menard_unlearn import cli, compose, compose_errors

FAKE_STAGE = """
import errno, json, os, pathlib
from menard_unlearn.errors import UserError

def main(cfg):
    if cfg.trouble == "user":
        raise UserError("tokenizer without pad")
    if cfg.trouble == "bug":
        raise RuntimeError("unforeseen")
    if cfg.trouble == "stop":
        raise KeyboardInterrupt
    if cfg.trouble == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/runs/delta.safetensors")
    if cfg.trouble == "full in Rust":
        raise Exception("I/O error: No space left on device (os error 28)")
    row = {"method": cfg.method.name, "beta": cfg.method.beta, "lr": cfg.trainer.lr, "steps": cfg.trainer.steps,
           "study": cfg.study, "seed": cfg.seed}
    with open("jobs.jsonl", "a") as file:
        file.write(json.dumps(row) + "\\n")
"""

CONF = {
    "fake.yaml": """
        defaults:
          - common
          - _self_
          - trainer: default
          - model: small
          - method: rmu
          - optional tuned: ${model}_${method}
        stage: fake
        trouble: null
    """,
    "trainer/default.yaml": "{lr: 1.0, steps: 1}",
    "model/small.yaml": "{path: small}",
    "model/big.yaml": "{path: big}",
    "method/rmu.yaml": "# @package _global_\nmethod: {name: rmu, beta: 1}\ntrainer: {steps: 10}",
    "method/npo.yaml": "# @package _global_\nmethod: {name: npo, beta: 2}\ntrainer: {steps: 20, lr: 2.0}",
    "tuned/small_npo.yaml": "# @package _global_\nmethod: {beta: 3}\ntrainer: {lr: 3.0}",
}

STUDY = {
    "study_a/experiment.yaml": """
        # @package _global_
        defaults:
          - override /method: npo
        trainer: {steps: 77}
        hydra:
          mode: MULTIRUN
          sweeper: {params: {seed: "0,1"}}
    """,
    "study_b/experiment.yaml": "defaults:\n  - override /method: npo\nmethod: {beta: 9}",
    "study_c/experiment.yaml": "data: here",
    "study_b/other.yaml": "method: {beta: 11}",
}


def lay_out(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text).lstrip())


@pytest.fixture
def here(tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and an installation whose one stage `fake` has small groups."""
    conf, studies, modules = (tmp_path / name for name in ("conf", "studies", "modules"))
    shutil.copytree(checkout / "conf" / "hydra", conf / "hydra")
    for name in ("base.yaml", "common.yaml"):
        shutil.copy(checkout / "conf" / name, conf / name)
    lay_out(conf, CONF)
    shutil.copy(conf / "fake.yaml", conf / "other.yaml")
    lay_out(studies, STUDY)
    lay_out(modules, {"fake_stage.py": FAKE_STAGE})
    monkeypatch.syspath_prepend(str(modules))
    for module in (compose, compose_errors):
        monkeypatch.setattr(module, "conf_dir", lambda: conf)
    monkeypatch.setattr(compose, "experiments_dir", lambda: studies)
    stages = {"fake": cli.Stage("fake_stage", "writes down", "study"), "other": cli.Stage("fake_stage", "the same")}
    monkeypatch.setattr(cli, "STAGES", stages)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str
    jobs: list[dict]


@pytest.fixture
def menard(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def call(*arguments: str) -> Outcome:
        code = cli.run(list(arguments))
        captured = capsys.readouterr()
        path = here / "jobs.jsonl"
        jobs = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        path.unlink(missing_ok=True)
        return Outcome(code, captured.out, captured.err, jobs)

    return call


def test_tuned_beats_method_beats_trainer_and_the_command_line_beats_all(menard: Callable[..., Outcome]):
    assert menard("fake").jobs[0] == {"method": "rmu", "beta": 1, "lr": 1.0, "steps": 10, "study": "default", "seed": 0}
    npo = menard("fake", "method=npo").jobs[0]
    assert (npo["beta"], npo["lr"], npo["steps"]) == (3, 3.0, 20)
    assert menard("fake", "method=npo", "model=big").jobs[0]["beta"] == 2
    told = menard("fake", "method=npo", "method.beta=7", "trainer.lr=8").jobs[0]
    assert (told["beta"], told["lr"]) == (7, 8)


def test_a_run_leaves_nothing_of_hydras_behind(menard: Callable[..., Outcome], here: Path):
    assert menard("fake").code == 0
    assert list(here.iterdir()) == []
    assert menard("fake", "-m", "seed=1,2", "study=s").code == 0
    assert [path for path in here.rglob("*") if path.is_file()] == [here / "runs/s/.sweep/multirun.yaml"]


def test_multirun_runs_every_combination(menard: Callable[..., Outcome]):
    outcome = menard("fake", "--multirun", "method=npo,rmu", "seed=0,1,2")
    assert outcome.code == 0
    assert [(job["method"], job["seed"]) for job in outcome.jobs] == [(m, s) for m in ("npo", "rmu") for s in range(3)]


def test_a_failing_job_does_not_lose_the_others(menard: Callable[..., Outcome]):
    outcome = menard("fake", "-m", "seed=1,2", "trouble=user,null,bug")
    assert outcome.code == 2
    assert [job["seed"] for job in outcome.jobs] == [1, 2]
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 5 and "4 failed" in errors[-1]
    assert "job 0" in errors[0] and "seed=1 trouble=user" in errors[0] and "tokenizer without pad" in errors[0]
    assert "Traceback" in outcome.err and "unforeseen" in outcome.err


def test_values_may_stand_on_both_sides_of_a_flag(menard: Callable[..., Outcome]):
    assert [job["seed"] for job in menard("fake", "trainer.lr=4", "-m", "seed=1,2").jobs] == [1, 2]
    assert "lr: 4" in menard("fake", "study=study_b", "--cfg", "job", "trainer.lr=4").out


def test_a_study_is_composed_over_the_stage_and_swept(menard: Callable[..., Outcome]):
    jobs = menard("fake", "study=study_a").jobs
    assert [(job["method"], job["steps"], job["study"], job["seed"]) for job in jobs] == [
        ("npo", 77, "study_a", 0),
        ("npo", 77, "study_a", 1),
    ]
    told = menard("fake", "study=study_a", "seed=5", "method=rmu", "trainer.steps=3").jobs
    assert [(job["method"], job["steps"], job["seed"]) for job in told] == [("rmu", 3, 5)]


def test_a_study_without_header_or_given_as_a_folder(menard: Callable[..., Outcome], here: Path):
    assert menard("fake", "study=study_b").jobs[0]["beta"] == 9
    lay_out(here, {"my studies, all/mine/experiment.yaml": "method: {beta: 13}"})
    for path in ("my studies, all/mine", str(here / "my studies, all/mine/")):
        job = menard("fake", f"study={path}").jobs[0]
        assert (job["beta"], job["study"]) == (13, "mine")
    assert menard("fake", "my studies, all/mine").jobs[0]["beta"] == 13


def test_a_study_may_hold_a_file_for_another_stage(menard: Callable[..., Outcome]):
    job = menard("other", "study=study_b").jobs[0]
    assert (job["method"], job["beta"]) == ("rmu", 11)


def test_a_study_keeps_the_users_own_searchpath(menard: Callable[..., Outcome], here: Path):
    lay_out(here, {"more/method/mine.yaml": "# @package _global_\nmethod: {name: mine, beta: 5}"})
    job = menard("fake", "study=study_b", f"hydra.searchpath=[file://{here}/more]", "method=mine").jobs[0]
    assert (job["method"], job["beta"]) == ("mine", 9)


def test_a_study_without_a_folder_is_a_label(menard: Callable[..., Outcome]):
    assert menard("fake", "study=anything").jobs[0]["study"] == "anything"
    near = menard("fake", "study=study_aa")
    assert near.jobs[0]["study"] == "study_aa" and "did you mean study_a?" in near.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fak"], ["unknown stage 'fak'", "did you mean fake?", "other"]),
        (["fake", "method=nop"], ["method=nop", "did you mean npo?", "npo, rmu"]),
        (["fake", "-m", "method=npo,nop"], ["method=nop", "npo, rmu"]),
        (["fake", "trainer.step=3"], ["'trainer.step'", "did you mean trainer.steps?", "trainer.lr"]),
        (["fake", "-m", "seed=1,2", "hydra/launcher=parallel"], ["fake", "one by one", "hydra/launcher=local"]),
        (["fake", "-m", "seed=1,2", "hydra/launcher=slurm"], ["one by one", "hydra/launcher=local"]),
        (["fake", "-m", "trainer.lr=interval(0,1)"], ["interval", "hydra/sweeper=search"]),
        (["fake", "-m", "hydra/launcher=paralel"], ["hydra/launcher=paralel", "did you mean parallel?", "slurm_gpu"]),
        (["fake", "-m", "hydra/launcher=parallel", "hydra.launcher.jobs=0"], ["jobs=0", "1 or more"]),
        (["fake", "-m", "hydra/launcher=parallel", "hydra.launcher.job=2"], ["did you mean hydra.launcher.jobs?"]),
        (["fake", "-m", "seed=1,2", "hydra.launcher.jobs=2"], ["'hydra.launcher.jobs'", "hydra/launcher=parallel"]),
        (["fake", "-m", "seed=1,2", "runs_dir=/dev/null"], ["/dev/null/", "Not a directory", "runs_dir="]),
        (["fake", "-m", "trainer.step=3,4"], ["'trainer.step'", "did you mean trainer.steps?"]),
        (["fake", "method=npo", "method.bta=3"], ["did you mean method.beta?"]),
        (["fake", "metod=npo"], ["'metod'", "did you mean method?", "trainer"]),
        (["fake", "study=study_c", "dat=3"], ["did you mean data?"]),
        (["fake", "beta=3"], ["'beta'", "method.beta"]),
        (["fake", "method=npo,rmu"], ["several values", "--multirun"]),
        (["fake", "study=missing/folder"], ["no experiment.yaml", "study_a, study_b, study_c"]),
        (["fake", "study=study_a,study_b", "-m"], ["one study"]),
        (["fake", "trainer.lr={"], ["cannot read", "key=value"]),
        (["other", "npo"], ["'npo'", "key=value", "menard other --help"]),
        (["fake", "--multirnu"], ["unknown flag '--multirnu'", "--multirun"]),
        (["fake", "+hf_token=abc"], ["secret", "environment"]),
        (["fake", "hydra.launcher.setup=['export WANDB_API_KEY=abc']"], ["secret", "environment"]),
        (["fake", "tracking.api_key=abc"], ["secret", "WANDB_API_KEY"]),
        (["fake", "model.path=hf_abcdefghijklmnopqrstuvwxyz"], ["secret"]),
    ],
)
def test_bad_input_is_one_line_and_nothing_runs(menard: Callable[..., Outcome], arguments: list[str], words: list[str]):
    outcome = menard(*arguments)
    lines = [line for line in outcome.err.splitlines() if line]
    assert outcome.code == 2 and outcome.jobs == [] and len(lines) == 1 and lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]
    assert "abc" not in lines[0]


def test_tokens_of_a_tokenizer_are_no_secret():
    for argument in (
        "model.pad_token=<pad>",
        "trainer.max_tokens=3",
        "model.tokenizer=x",
        f"model.revision={'a1' * 20}",
        "hydra.launcher.setup=['export WANDB_API_KEY=$MY_KEY HF_HOME=/scratch/hf']",
    ):
        cli._refuse_secret(argument)


def test_trouble_inside_a_stage(menard: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch):
    user = menard("fake", "trouble=user")
    assert (user.code, user.err) == (2, "error: tokenizer without pad\n")
    stopped = menard("fake", "trouble=stop")
    assert stopped.code == 130 and "resumes" in stopped.err and stopped.err.count("\n") == 1
    full = menard("fake", "trouble=full")
    assert full.code == 2 and "/data/runs/delta.safetensors" in full.err and full.err.count("\n") == 1
    assert "runs/default" in menard("fake", "trouble='full in Rust'").err
    with pytest.raises(RuntimeError, match="unforeseen"):
        menard("fake", "trouble=bug")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(Exception, match="Could not find 'method/nop'"):
        menard("fake", "method=nop")


def test_help_of_a_stage_names_groups_choices_and_values(menard: Callable[..., Outcome]):
    outcome = menard("fake", "--help", "method=npo")
    assert outcome.code == 0 and outcome.jobs == []
    assert "method: npo, rmu" in outcome.out and "model: big, small" in outcome.out
    assert "beta: 3" in outcome.out and "heldout_fraction" in outcome.out and "hydra" not in outcome.out
    assert "lr: 1.0" in menard("fake", "--cfg", "job", "--package", "trainer").out


def test_help_is_quick_and_imports_nothing_heavy():
    child = (
        "import sys, time; start = time.perf_counter(); from menard_unlearn import cli; code = cli.run(['--help'])\n"
        "heavy = {'torch', 'transformers', 'hydra', 'omegaconf', 'numpy', 'wandb'} & set(sys.modules)\n"
        "print(code, heavy, time.perf_counter() - start < 0.5)"
    )
    out = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True).stdout
    assert "menard unlearn method=npo" in out and out.splitlines()[-1] == "0 set() True"


def test_jobs_survive_pickling_into_another_process(here: Path):
    cloudpickle = pytest.importorskip("cloudpickle")
    job = cloudpickle.loads(cloudpickle.dumps(compose.Job("fake", "fake_stage", owner=-1)))
    cfg = compose.compose("fake", ["trouble=user"])
    with pytest.raises(Exception, match="without pad"):
        job(cfg)
