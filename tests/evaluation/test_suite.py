"""The whole evaluation of one model, its settings, and the summary of a study."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from evaluated import evaluated, material, settings, texts
from omegaconf import DictConfig, OmegaConf
from toy import byte_tokenizer, llama

from menard_unlearn.config import build
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.compare import Reference, compare
from menard_unlearn.evaluation.config import EvaluationConfig
from menard_unlearn.evaluation.suite import evaluate_told
from menard_unlearn.evaluation.summary import KEYS, summarise, write_summary
from menard_unlearn.lock import taking_turns
from menard_unlearn.run import RunDir

NAMES = (
    *("attribution", "compared", "counterfactual", "covariates", "curve", "cutoff", "dating", "extraction"),
    *("generation", "heat", "kinds", "near_verbatim", "prompted", "questions", "reproduction", "residue"),
    *("surprisal", "target_tokens", "utility"),
)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an evaluation beside a base and a prompted base leaves."""
    folder, what, model = tmp_path_factory.mktemp("suite"), material(texts()), llama()
    config, base = settings(), {"lm_head.weight": model.lm_head.weight.detach() * 1.1}
    evaluated(model, folder / "own", what, config, base)
    evaluated(llama(seed=1), folder / "base", what, config)
    evaluate_told(llama(seed=1), byte_tokenizer(), what.probes, config, folder / "prompted")
    references = {kind: Reference(folder / kind) for kind in ("base", "prompted")}
    compare(folder / "own", references, what, config)
    return folder / "own"


def test_all_files_are_written(evaluation: Path) -> None:
    names = {"items.jsonl", "questions.jsonl", *(f"{name}.json" for name in NAMES)}
    assert {path.name for path in evaluation.iterdir()} == names
    for path in evaluation.glob("*.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)


def test_the_shipped_settings_can_reject_and_other_ones_are_refused(checkout: Path) -> None:
    node = OmegaConf.load(checkout / "conf/evaluation/default.yaml")
    assert isinstance(node, DictConfig)
    config = build(node, EvaluationConfig)
    assert config.alpha == 0.01 and config.max_width == 20
    with pytest.raises(UserError, match=r"null_bootstrap=50 can reject nothing at alpha=0\.01: set it to 100"):
        replace(config, null_bootstrap=50)
    for field, value in (("batch_size", 0), ("chunk", -1), ("every", -1), ("alpha", 1.0)):
        with pytest.raises(UserError, match=rf"evaluation\.{field}="):
            replace(config, **{field: value})


def test_a_summary_has_every_key_and_reads_what_was_found(evaluation: Path, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "grad_diff-s3-0123456789abcdef")
    shutil.copytree(evaluation, run.evaluation_dir)
    run.write_manifest("unlearn", config_hash="x", inputs={}, seconds=1.5, peak_memory_mb=200.0)
    row = summarise(run.path)
    assert list(row) == list(KEYS)
    assert (row["run"], row["method"], row["seed"]) == (run.path.name, "grad_diff", 3)
    assert (row["seconds"], row["peak_memory_mb"], row["run_dir"]) == (1.5, 200.0, str(run.path))
    found = json.loads((run.evaluation_dir / "reproduction.json").read_text())
    assert (row["target_nats"], row["target_greedy_prefix"]) == (found["nats"], found["greedy_prefix"])
    assert row["utility_kl"] > 0 and row["forget_recall"] is not None
    assert row["cutoff_status"] in ("unparseable", "collapsed")


def test_what_was_not_computed_is_null(tmp_path: Path) -> None:
    (tmp_path / "base-0123456789abcdef").mkdir()
    row = summarise(tmp_path / "base-0123456789abcdef")
    assert row["method"] == "base"
    assert {key for key, value in row.items() if value is not None} == {"run", "method", "run_dir"}
    with pytest.raises(UserError, match="not a run directory"):
        summarise(tmp_path)


def test_a_study_lists_references_first_and_then_methods_by_seed(tmp_path: Path) -> None:
    for name in ("rmu-s10-00ff", "rmu-s2-00ee", "gold-00aa", "base-00bb", "npo-s0-00dd"):
        (tmp_path / name / "evaluation").mkdir(parents=True)
    (tmp_path / "npo-s1-00cc").mkdir()
    (tmp_path / "report.html").touch()
    rows = write_summary(tmp_path)
    assert [(row["method"], row["seed"]) for row in rows] == [
        ("base", None),
        ("gold", None),
        ("npo", 0),
        ("rmu", 2),
        ("rmu", 10),
    ]
    assert json.loads((tmp_path / "summary.json").read_text()) == rows


def test_of_two_jobs_that_end_at_once_the_summary_has_both(tmp_path: Path) -> None:
    first, second = "npo-s0-0123abcd", "npo-s1-0123abcd"
    (tmp_path / first / "evaluation").mkdir(parents=True)
    with ThreadPoolExecutor(1) as other:
        with taking_turns(tmp_path / ".summary.lock"):  # as one that is writing
            late = other.submit(write_summary, tmp_path)
            with pytest.raises(TimeoutError):
                late.result(timeout=0.5)
            (tmp_path / second / "evaluation").mkdir(parents=True)
        assert [row["run"] for row in late.result(timeout=60)] == [first, second]
