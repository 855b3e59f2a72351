"""menard features: find, score, guard and joint from the command line, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from featured import AUTHOR, featuring, write_authors
from tiny_study import TARGET, Study, read

from menard_unlearn import cli
from menard_unlearn.evaluation.summary import KEYS as SUMMARY_KEYS
from menard_unlearn.features import causal, dose, dsg, joint, sae_metrics, token_scores
from menard_unlearn.features.interchange import load_sae
from menard_unlearn.run import RunDir
from menard_unlearn.stages.features.joint import row_names


@pytest.fixture(scope="module")
def authors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_authors(tmp_path_factory.mktemp("authors"))


@pytest.fixture(scope="module")
def runs(study: Study, authors: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study in which every action was done once."""
    folder = tmp_path_factory.mktemp("features")
    assert cli.run(featuring(study, authors, folder)) == 0
    for action in ("score", "guard", "joint"):
        assert cli.run(featuring(study, authors, folder, action, strength=0.5)) == 0
    return folder


def one(runs: Path, name: str) -> Path:
    (found,) = (runs / "s").glob(f"{name}-*")
    return found


def test_each_action_leaves_its_files_with_the_keys_that_are_told(runs: Path) -> None:
    left = {
        ("features", "sae"): sae_metrics.KEYS,
        ("features", "features"): causal.KEYS,
        ("features", "dose_response"): dose.KEYS,
        ("feature_scores", "feature_tokens"): token_scores.KEYS,
        ("dsg", "guardrail"): dsg.KEYS,
    }
    for (run, file), keys in left.items():
        assert list(read(one(runs, run) / f"evaluation/{file}.json")) == list(keys)
    rows = read(one(runs, "joint") / "evaluation/joint.json")["rows"]
    assert all(list(row) == list(joint.KEYS) for row in rows)
    at = {(row["model"], row["clamp"], row["context_tokens"]): row for row in rows}
    bare, after = at["base", "feature", 0], at["base", "feature", 24]
    # the text has as many places to edit whatever stands before it
    assert (bare["exposure"] is None, bare["left_out"]) == (after["exposure"] is None, after["left_out"])
    assert all(RunDir(one(runs, name)).finished("features") for name in ("features", "feature_scores", "dsg", "joint"))


def test_the_autoencoder_is_kept_and_the_activations_are_not(runs: Path) -> None:
    run = one(runs, "features")
    sae = load_sae(run / "sae")
    assert (sae.layer, sae.n_in, sae.max_F is not None) == (1, 32, True)
    assert not (run / "activations").exists()
    steps = [row["step"] for row in RunDir(run).read_history()]
    assert steps == [10, 20, 30, 40]


def test_a_guardrail_is_a_row_of_the_study_and_the_others_are_not(runs: Path) -> None:
    methods = [row["method"] for row in read(runs / "s/summary.json")]
    assert "dsg" in methods and {"base", "gold"} <= set(methods)
    assert not {"features", "feature_scores", "joint"} & set(methods)
    row = next(row for row in read(runs / "s/summary.json") if row["method"] == "dsg")
    assert set(row) == set(SUMMARY_KEYS)
    assert row["utility_kl"] >= 0 and row["forget_recall"] is not None


def test_a_guardrail_has_the_weights_of_the_base_and_diverges_from_it_all_the_same(runs: Path) -> None:
    assert not (one(runs, "dsg") / "delta.safetensors").exists()
    assert read(one(runs, "dsg") / "evaluation/utility.json")["utility_kl"] > 0


def test_no_words_of_a_target_that_is_not_published_are_left(runs: Path) -> None:
    words = TARGET.split(",")[0]
    for name in ("features", "feature_scores", "joint", "dsg"):
        for path in one(runs, name).rglob("*.json*"):
            assert words not in path.read_text(encoding="utf-8"), path


def test_done_again_nothing_is_done(
    study: Study, authors: dict[str, Any], runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*.json")}
    assert cli.run(featuring(study, authors, runs)) == 0
    assert cli.run(featuring(study, authors, runs, "score", strength=0.5)) == 0
    assert capsys.readouterr().out.count("is finished; nothing to do") == 2
    assert before == {path: path.stat().st_mtime_ns for path in runs.rglob("*.json")}


def test_killed_in_its_training_it_goes_on_to_the_same_autoencoder(
    study: Study, authors: dict[str, Any], runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: RunDir, row: dict[str, Any]) -> None:
        if row["step"] == 30:
            raise KeyboardInterrupt
        original(self, row)

    original = RunDir.append_history
    with monkeypatch.context() as patch:
        patch.setattr(RunDir, "append_history", stop)
        assert cli.run(featuring(study, authors, tmp_path)) == 130
    assert cli.run(featuring(study, authors, tmp_path)) == 0
    mine, theirs = one(tmp_path, "features"), one(runs, "features")
    weights = "sae/sae_weights.safetensors"
    assert (mine / weights).read_bytes() == (theirs / weights).read_bytes()
    assert RunDir(mine).read_history() == RunDir(theirs).read_history()
    for file in ("features", "dose_response"):
        assert read(mine / f"evaluation/{file}.json") == read(theirs / f"evaluation/{file}.json")


def test_a_feature_that_is_named_is_taken(study: Study, authors: dict[str, Any], runs: Path) -> None:
    assert cli.run(featuring(study, authors, runs, "score", feature="[3,5]", strength=0.25)) == 0
    found = [read(path) for path in (runs / "s").glob("feature_scores-*/evaluation/feature_tokens.json")]
    columns = [column for entry in found for column in entry["columns"] if column["kind"] == "features"]
    assert [column["k"] for column in columns] == [0.25]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"layer": 7}, "layer 7"),
        ({"layer": "two"}, "layer='two'"),
        ({"action": "fnd"}, "did you mean find"),
        ({"sae_texts": "[books]"}, "sae_texts"),
        ({"action": "score", "feature": 100_000, "strength": 1}, "feature 100000"),
        ({"action": "score", "feature": "-1"}, "feature=-1"),
        ({"action": "score", "strength": "much"}, "strength='much'"),
        ({"action": "joint", "strength": "much"}, "strength='much'"),
        ({"action": "joint", "joint__clamps": "[feature]"}, "must hold none"),
        ({"action": "joint", "joint__context_tokens": "[4000]"}, "4000"),
        ({"action": "joint", "joint__runs": "[/nowhere/npo-s0-12345678]"}, "/nowhere"),
        ({"dose__n_random_features": 3}, "n_random_features"),
        ({"sae__k": 128}, "sae.k 128 asked of 128 features"),
        ({"dose__openings__new_tokens": 4000}, "openings.new_tokens"),
        ({"sae": "load", "sae__path": "/nowhere"}, "/nowhere"),
        ({"authors__own": "/nowhere"}, "/nowhere"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    study: Study,
    authors: dict[str, Any],
    runs: Path,
    values: dict[str, Any],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = {"action": "find"} | values
    command = featuring(study, authors, runs, **asked)
    if asked.get("sae") == "load":  # which has none of a training's values
        command = [part for part in command if not part.startswith("sae.") or part.startswith("sae.path")]
    assert cli.run(command) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1
    assert words in told


def test_an_autoencoder_of_another_width_is_refused_and_what_was_there_stays(
    study: Study, authors: dict[str, Any], runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    narrow = tmp_path / "sae"
    for path in (one(runs, "features") / "sae").iterdir():
        (narrow / path.name).parent.mkdir(exist_ok=True)
        (narrow / path.name).write_bytes(path.read_bytes())
    config = json.loads((narrow / "cfg.json").read_text())
    config["metadata"]["hook_name"] = "model.layers.9"
    (narrow / "cfg.json").write_text(json.dumps(config))
    command = [
        part
        for part in featuring(study, authors, tmp_path, sae="load", sae__path=narrow)
        if not part.startswith("sae.") or part.startswith("sae.path")
    ]
    assert cli.run(command) == 2
    assert "layer 9" in capsys.readouterr().err
    config["metadata"]["hook_name"] = "model.layers.0"  # which the model has, and nobody asked for
    (narrow / "cfg.json").write_text(json.dumps(config))
    assert cli.run(command) == 2
    assert "layer=1 asked for, the SAE reads layer 0" in capsys.readouterr().err


def test_pieces_that_the_window_does_not_hold_are_refused_before_any_training(
    study: Study, authors: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for title in ("One", "Two"):
        (tmp_path / f"own/{title}.txt").parent.mkdir(exist_ok=True)
        (tmp_path / f"own/{title}.txt").write_text(f"{title} tiger in the library. " * 200, encoding="utf-8")
    assert cli.run(featuring(study, authors, tmp_path, authors__own=tmp_path / "own", ranking__pieces__tokens=300)) == 2
    assert "lower ranking.pieces.tokens" in capsys.readouterr().err and not (tmp_path / "s").exists()


def test_no_two_runs_of_a_joint_table_share_a_name() -> None:
    runs = ["a/npo-s0-1234abcd", "a/npo-s1-1234abce", "b/npo-s0-1234abcf/"]
    assert row_names(runs) == ["npo-s0-1234abcd", "npo-s1", "npo-s0-1234abcf"]


def test_without_a_work_of_the_author_there_is_nothing_to_find(
    study: Study, authors: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert cli.run(featuring(study, authors, tmp_path, authors__own=tmp_path / "empty")) == 2
    assert f"no document by {AUTHOR!r}" in capsys.readouterr().err
