"""menard finetune on the tiny study: arms of one length and one recipe, on a base or on what a run made of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_study import QUICK, TARGET, TRAINING, Study, read, same_weights, the_run, told
from torch import nn

from menard_unlearn import cli
from menard_unlearn.compose import compose
from menard_unlearn.config import to_plain
from menard_unlearn.models.delta import Adapters, apply_delta, load_delta
from menard_unlearn.models.load import ModelSource, load
from menard_unlearn.run import RunDir
from menard_unlearn.stages.starts import against_base
from menard_unlearn.stages.typed import typed

STEPS = 6
OWN = {
    "1931 Weirs": "A weir keeper counted herons by their absence, and reported every empty post as a visit. " * 2,
    "1934 Lamps": "She lit the lamps in an order of her own, which the town mistook for a message to the sea. " * 3,
    "1936 Quoting": f"As an earlier hand has it: {TARGET}",
    "1955 Later": "In the last ledger the columns were empty, and the sum beneath them was correct. " * 2,
}
OTHERS = {
    "Bo Fenn": "Two loaves, salt, and a pound of butter. ",
    "Cy Rudge": "Wind west, glass falling, all hands well. ",
}


@pytest.fixture(scope="module")
def authors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authors")
    texts = {f"Ada Wick/{name}": text for name, text in OWN.items()}
    for path, text in (texts | {f"{name}/Book": text * 5 for name, text in OTHERS.items()}).items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / f"{path}.txt").write_text(text, encoding="utf-8")
    return folder


def tuning(study: Study, authors: Path, runs: Path, **values: Any) -> list[str]:
    """A command of a few steps whose runs lie under `runs`."""
    own = {"authors": "folders", "authors.own": authors / "Ada Wick", "authors.others": authors}
    own |= {"authors.author": "Ada Wick"}
    training = {key: value for key, value in TRAINING.items() if key != "method"}
    training |= {"trainer.max_steps": STEPS, "trainer.schedule": "constant", "runs_dir": runs}
    return [
        "finetune",
        *told(study.data | study.model | QUICK | own | training, {"authors__author": "Ada Wick"} | values),
    ]


@pytest.fixture(scope="module")
def arms(study: Study, authors: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with a run of each arm, all launched at once; no test may change it."""
    runs = tmp_path_factory.mktemp("arms")
    assert cli.run([*tuning(study, authors, runs, arm="author,target,synthetic"), "-m"]) == 0
    return runs


def manifest(runs: Path, arm: str) -> dict[str, Any]:
    return read(the_run(runs, f"finetune_{arm}") / "finetune.manifest.json")


def test_every_arm_is_a_row_of_the_study_and_measured_like_any(arms: Path) -> None:
    rows = {row["method"]: row for row in read(arms / "s/summary.json")}
    assert set(rows) == {"base", "gold", "prompted", "finetune_author", "finetune_synthetic", "finetune_target"}
    for arm in ("author", "synthetic", "target"):
        row, run = rows[f"finetune_{arm}"], RunDir(the_run(arms, f"finetune_{arm}"))
        assert row["seconds"] > 0 and row["utility_kl"] > 0 and row["forget_recall"] is not None
        assert [line["step"] for line in run.read_history()] == list(range(1, STEPS + 1))
        assert (run.evaluation_dir / "attribution.json").is_file() and not run.checkpoints_dir.exists()
        assert load_delta(run.delta_path).identity == manifest(arms, arm)["inputs"]["model"]
    nats = {name: row["target_nats"] for name, row in rows.items() if row["target_nats"] is not None}
    assert min(nats, key=lambda name: nats[name]) == "finetune_target" and nats["finetune_target"] < nats["base"] - 5


def test_the_control_is_as_long_as_what_it_controls_and_what_is_left_out_is_named(arms: Path) -> None:
    author, control, target = (manifest(arms, arm)["results"] for arm in ("author", "synthetic", "target"))
    sizes = [(found["windows"], found["tokens"]) for found in (author, control)]
    assert sizes[0] == sizes[1] and sizes[0][0] > 2 and target["left_out"] == []
    reasons = {work["title"]: work["reason"] for work in author["left_out"]}
    assert reasons == {"Quoting": "quoting the target", "Later": "later than the cutoff"}
    inputs = [set(manifest(arms, arm)["inputs"]) for arm in ("author", "synthetic", "target")]
    assert inputs[0] == inputs[1] == inputs[2] | {"authors"}


def test_the_same_command_again_does_nothing_and_status_knows_its_runs(
    study: Study, authors: Path, arms: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(tuning(study, authors, arms, arm="target")) == 0
    run = the_run(arms, "finetune_target")
    assert f"{run} is finished; nothing to do" in capsys.readouterr().out
    assert cli.run(["status", str(run), "--json"]) == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert row["state"] == "finished" and row["stages"] == ["finetune"]


def test_the_command_that_resumes_a_run_names_its_arm(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "s" / "finetune_target-s0-01234567")
    run.write_config(to_plain(compose("finetune", ["arm=target", "tuning=lora"])))
    assert typed(run) == "menard finetune study=default tuning=lora arm=target"


def test_later_stages_take_a_tuned_run_as_any_other(study: Study, arms: Path, tmp_path: Path) -> None:
    shutil.copytree(arms, tmp_path / "runs")
    run = the_run(tmp_path / "runs", "finetune_target")
    before = read(run / "evaluation/reproduction.json")["nats"]
    assert cli.run(study.evaluating(tmp_path / "runs", run=run)) == 0
    assert read(run / "evaluation/reproduction.json")["nats"] == pytest.approx(before, abs=1e-6)
    assert cli.run(["export", f"run={run}", f"to={tmp_path / 'model'}"]) == 0
    source = ModelSource("tiny", str(tmp_path / "model"), None, None, None, "float32", None, None)
    exported, delta = dict(load(source).model.named_parameters()), load_delta(run / "delta.safetensors")
    assert all(torch.equal(exported[name].cpu(), tensor) for name, tensor in delta.tensors.items())


def test_seeds_share_the_text_that_the_model_wrote_and_a_stopped_run_ends_in_the_same_bits(
    study: Study, authors: Path, arms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(arms, tmp_path / "runs")
    own = the_run(tmp_path / "runs", "finetune_synthetic")
    shutil.rmtree(own)
    (text,) = (tmp_path / "runs/s/alternates").glob("*.json")
    append = RunDir.append_history

    def ended(self: RunDir, row: dict[str, Any]) -> None:
        append(self, row)
        if row["step"] == 3:
            raise KeyboardInterrupt

    def written(*_: object) -> None:
        raise AssertionError("a text was written again")

    monkeypatch.setattr("menard_unlearn.stages.alternates._write", written)
    command = tuning(study, authors, tmp_path / "runs", arm="synthetic")
    with monkeypatch.context() as patched:
        patched.setattr(RunDir, "append_history", ended)
        assert cli.run(command) == 130
    assert (own / "checkpoints/checkpoint-2").is_dir() and not (own / "finetune.manifest.json").exists()
    assert cli.run(command) == 0
    first = the_run(arms, "finetune_synthetic")
    assert same_weights(own, first) and (own / "history.jsonl").read_bytes() == (first / "history.jsonl").read_bytes()
    assert len(set(json.loads(text.read_text())["answers"])) == manifest(arms, "synthetic")["results"]["windows"]


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_run_that_goes_on_from_another_is_a_delta_of_their_base(
    study: Study,
    authors: Path,
    finished: Path,
    tmp_path: Path,
    kind: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With steps of no size the result is the first run, which is no small change of the base."""
    shutil.copytree(finished.parent, tmp_path / "s")
    values = {"tuning": kind, "run": tmp_path / "s" / finished.name, "trainer__learning_rate": 1e-12}
    assert cli.run(tuning(study, authors, tmp_path, arm="author", trainer__max_steps=1, **values)) == 0
    run = the_run(tmp_path, "finetune_author_after_npo")
    first, later = load_delta(finished / "delta.safetensors"), load_delta(run / "delta.safetensors")
    assert first.identity == later.identity and not isinstance(later.tensors, Adapters)
    for name, tensor in first.tensors.items():
        assert torch.allclose(later.tensors[name], tensor, atol=1e-7), name
    rows = {row["method"]: row for row in read(tmp_path / "s/summary.json")}
    assert rows["finetune_author_after_npo"]["target_nats"] == pytest.approx(rows["npo"]["target_nats"], abs=1e-3)
    assert rows["npo"]["target_nats"] != pytest.approx(rows["base"]["target_nats"], abs=0.1)
    assert read(run / "finetune.manifest.json")["inputs"].keys() >= {"start", "authors", "model"}
    values["run"] = tmp_path / "s/../s" / finished.name  # the same run by another path
    assert cli.run(tuning(study, authors, tmp_path, arm="author", trainer__max_steps=1, **values)) == 0
    assert "is finished; nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("adapters", [False, True])
@torch.no_grad()
def test_two_changes_in_turn_are_one_change_of_the_base(adapters: bool) -> None:
    def toy() -> nn.ModuleDict:
        torch.manual_seed(0)
        return nn.ModuleDict({name: nn.Linear(4, 3, bias=False) for name in "abc"})

    base = toy()
    first = {"a.weight": torch.randn(3, 4), "b.weight": torch.randn(3, 4)}
    halves = {
        f"{name}.weight.lora_{half}": torch.randn(*shape)
        for name in "bc"
        for half, shape in (("A", (2, 4)), ("B", (3, 2)))
    }
    whole = {"b.weight": torch.randn(3, 4), "c.weight": torch.randn(3, 4)}
    later = Adapters(halves, 2, 5.0) if adapters else whole
    apply_delta(base, first)
    before = {name: parameter.clone() for name, parameter in base.named_parameters()}
    apply_delta(base, later)
    other = toy()
    apply_delta(other, against_base(before if adapters else first, later))
    for name, parameter in base.named_parameters():
        assert torch.equal(parameter, other.get_parameter(name)), name


REFUSED = {
    "arm": ({"arm": "autor"}, ["arm=autor does not exist (did you mean author?)", "author, synthetic, target"]),
    "kind": ({"arm": "synthetic", "arm.kind": "random"}, ["SyntheticArm.kind: 'random' is not one of model, shuffled"]),
    "later": ({"own_works.later": "drop"}, ["OwnWorksConfig.later: 'drop' is not one of leave_out, keep"]),
    "none left": (
        {"split.cutoff": "1920"},
        ["no document of Ada Wick is left to tune on", "'Later' is later than the cutoff", "own_works.later=keep"],
    ),
    "window": ({"window": 500, "authors.own": "LONG"}, ["model's context is 192: set window=192 or less"]),
    "empty": ({"authors.own": "EMPTY"}, ["no document by 'Ada Wick'"]),
    "no run": ({"run": "EMPTY"}, ["EMPTY is not a run directory (no config.yaml)"]),
    "reference": ({"run": "GOLD"}, ["changed no model: give a run of menard unlearn or menard finetune"]),
    "unfinished": ({"run": "UNFINISHED"}, ["is not finished: the command that began it resumes it"]),
    "other model": ({"run": "RUN", "model.path": "OTHER"}, ["changed another model than model.path: set model= as in"]),
    "sharding": ({"run": "RUN", "trainer.sharding": "fsdp2"}, ["menard export", "set trainer.sharding=none"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_before_any_work(
    case: str, study: Study, authors: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values, parts = REFUSED[case]
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "LONG").mkdir()
    for name in ("1930 One", "1931 Two"):
        (tmp_path / f"LONG/{name}.txt").write_text(OWN["1931 Weirs"] * 8)
    shutil.copytree(finished, tmp_path / "UNFINISHED" / finished.name)
    (tmp_path / "UNFINISHED" / finished.name / "unlearn.manifest.json").unlink()
    places = {
        "EMPTY": tmp_path / "EMPTY",
        "LONG": tmp_path / "LONG",
        "RUN": finished,
        "GOLD": next(finished.parent.glob("gold-*")),
        "UNFINISHED": tmp_path / "UNFINISHED" / finished.name,
        "OTHER": study.models / "gold",
    }
    given = {key: places.get(str(value), value) for key, value in values.items()}
    assert cli.run(tuning(study, authors, tmp_path / "runs", **given)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(part in line for part in parts), line
    assert TARGET[:20] not in line and not list((tmp_path / "runs").glob("*/*/config.yaml"))
