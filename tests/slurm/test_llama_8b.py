"""experiments/llama_8b from end to end on a real Slurm, with the embedded model and a file of the checkout in place of
Llama and its articles: one override."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
import torch
from cluster import CHECKOUT
from slurm_scenario import Scenario

from menard_unlearn.compose import compose
from menard_unlearn.errors import UserError
from menard_unlearn.models.load import load_config
from menard_unlearn.run import RunDir
from menard_unlearn.stages.job import Job
from menard_unlearn.stages.settings import Settings
from menard_unlearn.stages.unlearn import items_of
from menard_unlearn.training.memory import GB, estimate

REHEARSAL = "llama_8b/at=rehearsal"
LAUNCHED = {"rmu": "slurm_gpu", "lora": "slurm_gpu", "full": "slurm_node"}
"""Part of the study → how its README launches it."""
SMALLER = {
    "slurm_gpu": ["hydra.launcher.mem_gb=4", "hydra.launcher.cpus_per_task=4"],
    "slurm_node": ["hydra.launcher.mem_gb=8", "hydra.launcher.cpus_per_task=8", "hydra.launcher.gpus_per_node=2"],
}
"""What a node of the test's cluster has."""
SECONDS = 600.0


def command(scenario: Scenario, part: str, *further: str) -> list[str]:
    """As in the README, for one seed."""
    launcher = LAUNCHED[part]
    own = [f"hydra/launcher={launcher}", *SMALLER[launcher], f"runs_dir={scenario.runs}", "tracking=none", "seed=0"]
    return ["unlearn", "-m", "study=llama_8b", f"llama_8b/part={part}", REHEARSAL, *own, *further]


@pytest.mark.timeout(1500)
def test_the_study_runs_from_end_to_end(scenario: Scenario) -> None:
    study, env = scenario.runs / "llama_8b", {"OMP_NUM_THREADS": "1"}
    for part in LAUNCHED:
        scenario.menard(*command(scenario, part), env=env)
    scenario.drain(SECONDS)
    states = {entry["run"]: scenario.state(entry["job"]) for entry in scenario.entries("llama_8b")}
    assert set(states.values()) == {"COMPLETED"}, states
    runs = [RunDir(path) for path in study.glob("*-s0-*")]
    methods = Counter(run.path.name.partition("-")[0] for run in runs)
    assert methods == {"rmu": 1, "grad_diff": 2, "npo": 2}

    kinds = []
    for run in runs:
        config, manifest = run.read_config(), run.manifest("unlearn")
        assert manifest is not None
        steps = config["trainer"]["max_steps"]
        assert [row["step"] for row in run.read_history()] == list(range(1, steps + 1))
        kinds.append((config["trainer"]["processes"], config["trainer"]["sharding"], bool(config["trainer"]["lora"])))
        assert run.delta_path.is_file()
        # evaluated in the same job, and compared with the base
        assert (run.evaluation_dir / "compared.json").is_file()
    assert sorted(kinds) == [(1, "none", False), *[(1, "none", True)] * 2, *[(2, "fsdp2", False)] * 2]

    rows = json.loads((study / "summary.json").read_text(encoding="utf-8"))
    assert {run.path.name for run in runs} <= {row["run"] for row in rows}
    assert sum(row["method"] == "base" for row in rows) == 1


def test_a_dry_run_shows_the_script_and_queues_nothing(scenario: Scenario) -> None:
    told = scenario.menard(*command(scenario, "full", "hydra.launcher.dry_run=true"))
    assert "#SBATCH --gpus-per-node=2" in told
    assert "2 jobs, none queued" in told
    assert not scenario.queue()
    assert not scenario.entries("llama_8b")


def test_eight_gpus_are_not_refused_for_what_one_would_need() -> None:
    chosen = ["study=llama_8b", "llama_8b/part=full", REHEARSAL, "method=npo"]
    job = Job.of(Settings.of(compose("unlearn", chosen)))
    items = [item for side in items_of(job).values() for item in side]
    config, length = load_config(job.prepared.settings.model), max(len(item.ids) for item in items)
    one, two = (
        estimate(config, job.trainer, dtype=torch.float32, length=length, n_processes=count).total for count in (1, 2)
    )
    assert two < one
    between = replace(job, trainer=replace(job.trainer, max_memory_gb=(one + two) / 2 / GB))
    between.refuse_what_does_not_fit(items)
    with pytest.raises(UserError, match="training would need"):
        replace(between, trainer=replace(between.trainer, processes=1)).refuse_what_does_not_fit(items)


def test_what_is_trained_whole_computes_in_fp32() -> None:
    job = Job.of(Settings.of(compose("unlearn", ["study=llama_8b", "llama_8b/part=full", REHEARSAL, "method=npo"])))
    config = load_config(job.prepared.settings.model)
    some = replace(job.trainer, trained=("down_proj",))
    half, single = (
        {
            trainer.trained: estimate(config, trainer, dtype=dtype, length=64, n_processes=2).activations
            for trainer in (job.trainer, some)
        }
        for dtype in (torch.bfloat16, torch.float32)
    )
    assert half[job.trainer.trained] == single[job.trainer.trained]
    assert half[some.trained] < single[some.trained]


def test_the_budget_is_what_the_readme_says() -> None:
    script = CHECKOUT / "experiments/llama_8b/budget.py"
    told = subprocess.run([sys.executable, str(script)], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    readme = (CHECKOUT / "experiments/llama_8b/README.md").read_text(encoding="utf-8")
    for line in told.stdout.splitlines():
        assert line.strip() in readme
