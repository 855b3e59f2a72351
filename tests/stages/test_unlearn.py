"""menard unlearn from end to end on the tiny study: what a run leaves, what it does again, and what it does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_study import TARGET, Study, read, same_weights, the_run
from transformers import AutoModelForCausalLM, AutoTokenizer

from menard_unlearn import cli
from menard_unlearn.evaluation import curves, cutoff, reproduction, summary, utility
from menard_unlearn.evaluation.items import ItemScore, read_items
from menard_unlearn.models.delta import load_delta
from menard_unlearn.run import RunDir

# no kinds.json: with two makers there are no wrong answers to ask questions with
NAMES = (
    *("attribution", "compared", "counterfactual", "covariates", "curve", "cutoff", "dating", "extraction"),
    *("generation", "heat", "near_verbatim", "prompted", "questions", "reproduction", "residue"),
    *("surprisal", "target_tokens", "utility"),
)
EVALUATION = {"items.jsonl", "questions.jsonl", *(f"{name}.json" for name in NAMES)}


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of every file: a file that was written again has others."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def test_a_run_leaves_what_is_documented(finished: Path) -> None:
    there = {path.name for path in finished.iterdir() if not path.name.startswith(".")}
    assert there == {"config.yaml", "history.jsonl", "delta.safetensors", "evaluation", "unlearn.manifest.json"}
    assert {path.name for path in (finished / "evaluation").iterdir()} == EVALUATION
    keys = {f"{prefix}{key}" for prefix in curves.PROBES for key in cutoff.MEASURES}
    assert read(finished / "evaluation/cutoff.json").keys() == keys
    assert read(finished / "evaluation/reproduction.json").keys() == reproduction.KEYS.keys()
    assert read(finished / "evaluation/utility.json").keys() == utility.KEYS.keys()
    assert read(finished / "evaluation/curve.json").keys() == {"bins", "years"}
    tokens = read(finished / "evaluation/target_tokens.json")["tokens"]
    assert all(token.keys() == reproduction.TOKEN_KEYS.keys() - {"text"} for token in tokens)
    items = read_items(finished / "evaluation/items.jsonl")
    assert len(items) == 180 and all(isinstance(item, ItemScore) for item in items)
    assert {item.split for item in items} == {"forget", "retain", "heldout_forget", "heldout_retain"}


def test_history_has_a_row_a_step_with_each_term(finished: Path) -> None:
    rows = RunDir(finished).read_history()
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for row in rows:
        assert row.keys() == {"step", "loss", "forget", "retain", "learning_rate", "grad_norm"}
        assert row["loss"] == pytest.approx(row["forget"] + row["retain"])


def test_the_manifest_names_everything_that_went_in(finished: Path) -> None:
    manifest = read(finished / "unlearn.manifest.json")
    assert manifest["config_hash"].startswith(finished.name.rpartition("-")[2])
    assert manifest["inputs"].keys() == {"data", "target", "model", "gold"}
    assert all(len(digest) == 64 for digest in manifest["inputs"].values())
    assert manifest["seconds"] > 0 and manifest["peak_memory_mb"] > 0 and "torch" in manifest["versions"]
    assert manifest["results"] == {"steps": 6, "stopped": None, "best_step": None}
    assert load_delta(finished / "delta.safetensors").identity == manifest["inputs"]["model"]


def test_the_summary_has_base_gold_and_the_method(finished: Path) -> None:
    rows = read(finished.parent / "summary.json")
    assert [(row["method"], row["seed"]) for row in rows] == [
        ("base", None),
        ("gold", None),
        ("prompted", None),
        ("npo", 0),
    ]
    assert all(row.keys() == summary.KEYS.keys() for row in rows)
    base, gold, told, npo = rows
    assert told["target_nats"] is told["utility_kl"] is None and told["forget_recall"] is not None
    assert gold["forget_recall"] == 0 and gold["retain_recall"] > 0.5 and base["forget_recall"] > 0.1
    assert npo["run_dir"] == str(finished) and npo["seconds"] > 0 and npo["utility_kl"] > 0
    assert base["cutoff_change_status"] is base["utility_kl"] is None is gold["distance_to_gold"]
    assert gold["cutoff_status"] == "pinned" and gold["cutoff_low"] <= gold["cutoff_year"] <= gold["cutoff_high"]


def test_base_and_gold_are_runs_of_their_own_and_finished(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["status", str(finished.parent), "--json"]) == 0
    states = {Path(row["run"]).name: row["state"] for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert sorted(name.partition("-")[0] for name in states) == ["base", "gold", "npo", "prompted"]
    assert set(states.values()) == {"finished"}
    told = {f"{name}.json" for name in ("covariates", "curve", "cutoff", "prompted")} | {"items.jsonl"}
    own = {"base": EVALUATION | {"ngram.json"}, "prompted": told}
    for name in states:
        files = {path.name for path in (finished.parent / name / "evaluation").iterdir()}
        assert files == own.get(name.partition("-")[0], EVALUATION)


def test_the_same_command_again_does_nothing(study: Study, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(finished.parent)
    assert cli.run(study.unlearning(finished.parents[1])) == 0
    assert f"{finished} is finished; nothing to do" in capsys.readouterr().out
    assert cli.run(study.unlearning(finished.parents[1], tracking__tags="[other]", tracking__project="x")) == 0
    assert contents(finished.parent) == before


def test_another_seed_is_another_run_with_the_same_base_and_gold(study: Study, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished.parents[1], tmp_path / "runs")
    before = contents(tmp_path / "runs")
    assert cli.run(study.unlearning(tmp_path / "runs", seed=1)) == 0
    after = contents(tmp_path / "runs")
    # The cache is there to be filled
    assert {name for name in before if after[name] != before[name] and "/cache/" not in name} == {"s/summary.json"}
    (other,) = (tmp_path / "runs/s").glob("npo-s1-*")
    assert other.name[-8:] != finished.name[-8:]
    assert RunDir(other).read_history()[0]["loss"] != RunDir(finished).read_history()[0]["loss"]
    assert [row["seed"] for row in read(tmp_path / "runs/s/summary.json")] == [None, None, None, 0, 1]


def test_a_run_that_was_ended_while_it_was_scored_is_not_trained_again(
    study: Study, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: object) -> None:
        raise KeyboardInterrupt

    def trained(*_: object) -> None:
        raise AssertionError("a step was trained")

    with monkeypatch.context() as patched:
        patched.setattr("menard_unlearn.stages.descent.evaluate", ended)
        assert cli.run(study.unlearning(tmp_path)) == 130
    run = the_run(tmp_path)
    assert not (run / "unlearn.manifest.json").exists() and not (run / "evaluation").exists()
    with monkeypatch.context() as patched:
        patched.setattr(RunDir, "append_history", trained)
        assert cli.run(study.unlearning(tmp_path)) == 0
    assert same_weights(run, finished)
    for name in ("history.jsonl", *(f"evaluation/{name}" for name in EVALUATION)):
        assert (run / name).read_bytes() == (finished / name).read_bytes(), name
    assert read(run / "unlearn.manifest.json")["results"]["steps"] == 6


def test_evaluations_during_training_choose_the_best_weights(study: Study, tmp_path: Path) -> None:
    choice = {"trainer__best_metric": "forget_recall", "trainer__best_mode": "max", "evaluation__every": 2}
    assert cli.run(study.unlearning(tmp_path, model__gold="null", **choice)) == 0
    run = the_run(tmp_path)
    rows = [row for row in RunDir(run).read_history() if "eval/forget_recall" in row]
    assert [row["step"] for row in rows] == [2, 4, 6]
    best = max(rows, key=lambda row: (row["eval/forget_recall"], -row["step"]))
    assert read(run / "unlearn.manifest.json")["results"]["best_step"] == best["step"]
    # what is stored, and therefore scored, is the best and not the last
    assert read(run / "evaluation/cutoff.json")["forget_recall"] == best["eval/forget_recall"]
    rows = read(tmp_path / "s/summary.json")
    assert [row["method"] for row in rows] == ["base", "prompted", "npo"] and rows[2]["distance_to_gold"] is None


def test_a_multirun_ends_what_it_can(study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A learning rate of 1e30 leaves weights that are not finite, which is seen at the second step."""
    command = study.unlearning(tmp_path, method="grad_diff", trainer__learning_rate="1e30,1e-3")
    assert cli.run([*command, "-m"]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert errors[0].startswith("error: job 0 (") and "training stopped before the update" in errors[0]
    assert errors[1].startswith("error: 1 failed") and len(errors) == 2
    runs = [RunDir(path) for path in tmp_path.glob("s/grad_diff-*")]
    assert sorted(run.finished("unlearn") for run in runs) == [False, True]
    assert {row["method"] for row in read(tmp_path / "s/summary.json")} == {"base", "gold", "prompted", "grad_diff"}


def test_of_a_multirun_with_a_bad_job_none_begins(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = study.unlearning(tmp_path, method="rmu,gradient_ascent", trainer__trained="['.*']")
    assert cli.run([*command, "-m"]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "job 0" in error and "layer 7 asked for, the model has layers 0 to 1: set method.layer" in error
    assert not list(tmp_path.glob("s/*-*"))


@torch.no_grad()
def test_an_exported_run_scores_as_the_run_did(study: Study, finished: Path, tmp_path: Path) -> None:
    assert cli.run(["export", f"run={finished}", f"to={tmp_path / 'model'}"]) == 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    ids_1T = torch.tensor([[tokenizer.bos_token_id, *tokenizer.encode(TARGET, add_special_tokens=False)]])
    logprob_TV = model(ids_1T).logits[0, :-1].double().log_softmax(-1)
    logprob_T = logprob_TV.gather(1, ids_1T[0, 1:, None])[:, 0]
    tokens = read(finished / "evaluation/target_tokens.json")["tokens"]
    assert logprob_T.tolist() == pytest.approx([token["logprob"] for token in tokens], abs=1e-4)
    base = read(next(finished.parent.glob("base-*")) / "evaluation/reproduction.json")["nats"]
    assert float(-logprob_T.sum()) != pytest.approx(base, abs=1e-3)
