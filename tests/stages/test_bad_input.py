"""Bad input is one line that names the fix, before any work: no run directory is begun."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_study import COLUMNS, TARGET, Study, facts, the_run, write_facts
from transformers import PreTrainedTokenizerFast

from menard_unlearn import cli
from menard_unlearn.models.tokenizer import train_tokenizer
from menard_unlearn.run import RunDir

Refusal = Callable[..., str]


@pytest.fixture
def refusal(study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refusal:
    """Runs `menard unlearn` with some values changed; gives the one line that it leaves on stderr."""

    def refused(**values: Any) -> str:
        runs = tmp_path / "runs"
        assert cli.run(study.unlearning(runs, **values)) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and not runs.exists()
        return line

    return refused


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"method": "nop"}, ["method=nop", "did you mean npo?", "choices: adaptive_rmu, alt_po, ce_u"]),
        ({"corpus": "fact"}, ["corpus=fact", "did you mean facts?", "jsonl"]),
        ({"method__bta": 1}, ["'method.bta'", "did you mean method.beta?", "method.retain_weight"]),
        ({"trainer__max_step": 1}, ["'trainer.max_step'", "did you mean trainer.max_steps?"]),
        ({"method__retain": "nil"}, ["'nil' is not one of nll, kl"]),
        ({"trainer__max_steps": "many"}, ["TrainerConfig.max_steps", "expected int, got 'many'"]),
        ({"trainer__dtype": "bfloat16"}, ["'bfloat16' is refused", "write trainer.dtype=float32"]),
        ({"trainer__warmup_steps": 6}, ["warmup_steps 6 must be fewer than max_steps 6"]),
        ({"trainer__trained": "['mlp.down_prj']"}, ["'mlp.down_prj' matches none", "layers.0.mlp.down_proj.weight"]),
        ({"trainer__trained": "[]"}, ["trainer.trained is empty", "trainer.trained=['.*']"]),
        ({"trainer__max_memory_gb": 1e-6}, ["training would need about", "trainer.max_memory_gb"]),
        ({"model__dtype": "float8"}, ["model.dtype 'float8' is unknown; allowed: float32, bfloat16, float16"]),
        ({"model__path": "./no/model"}, ["model.path './no/model' does not exist: give a folder"]),
        ({"model__path": "nobody/nothing"}, ["of model.path 'nobody/nothing' cannot be loaded"]),
        ({"model__gold": "./no/gold"}, ["'./no/gold' does not exist"]),
        ({"target__path": "no.txt"}, ["no target text at no.txt: give a text file, target.path=<file>"]),
        ({"target__published": "soon"}, ["target.published='soon' is no date: give 1939, 1939-05"]),
        ({"corpus__path": "no.csv"}, ["corpus.path 'no.csv' does not exist"]),
        (
            {"split__cutoff": 1850},
            ["cutoff 1850 lies outside the data, which runs from 1910 to 1969: set split.cutoff"],
        ),
        ({"split__cutoff": 2020}, ["cutoff 2020 lies outside the data"]),
        ({"split__cutoff": "soon"}, ["split.cutoff", "'soon'"]),
        ({"split__cutoff": 1968, "split__gap_years": 3, "split__forget_target": "false"}, ["the forget side is empty"]),
        ({"split__cutoff": 1910, "split__gap_years": 1}, ["the retain side is empty", "gap 1", "move split.cutoff"]),
        ({"split__heldout_fraction": 1}, ["split.heldout_fraction 1.0 is not from 0 to below 1"]),
        ({"wording__heldout_silent": -1}, ["heldout_silent -1 must not be below 0"]),
        (
            {"evaluation__alpha": 0.001},
            ["evaluation.null_bootstrap=9 can reject nothing at alpha=0.001: set it to 1000"],
        ),
        ({"tracking__project": 3}, ["NoTracking.project: expected str"]),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_values_that_cannot_be(refusal: Refusal, values: dict[str, Any], parts: list[str]) -> None:
    line = refusal(**values)
    for part in parts:
        assert part in line


def test_columns_that_are_missing(refusal: Refusal, tmp_path: Path) -> None:
    path = write_facts(tmp_path / "f.csv", facts(), tuple(name for name in COLUMNS if name not in ("year", "object")))
    assert "has no column year, object; its columns are: id, date, subject" in refusal(corpus__path=path)


def test_dates_that_cannot_be_read(refusal: Refusal, tmp_path: Path) -> None:
    rows = [row | {"year": "long ago"} if number < 7 else row for number, row in enumerate(facts())]
    line = refusal(corpus__path=write_facts(tmp_path / "f.csv", rows))
    assert "7 dates cannot be read (" in line and line.count("'long ago'") == 5 and ", ...): write 1939" in line
    rows = [row | {"year": ""} if number < 7 else row for number, row in enumerate(facts())]
    line = refusal(corpus__path=write_facts(tmp_path / "f.csv", rows))
    assert "7 facts have no date (fact-1910, fact-1911, fact-1912, fact-1913, fact-1914, ...)" in line


def jsonl(path: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"corpus": "jsonl", "corpus__path": path, "corpus__id_column": "id"}


def test_documents_without_dates(refusal: Refusal, tmp_path: Path) -> None:
    rows = [{"id": f"d{n}", "text": f"Chapter {n}.", "date": None if n % 3 == 0 else str(1930 + n)} for n in range(21)]
    line = refusal(**jsonl(tmp_path / "texts.jsonl", rows))
    assert "7 items have no date (d0, d12, d15, d18, d3, ...): date them, or set split.undated to forget" in line


def test_texts_that_do_not_fit_the_context(refusal: Refusal, tmp_path: Path) -> None:
    rows = [{"id": f"d{n}", "text": f"Chapter {n} of the ledger. " * 60, "date": str(1930 + n)} for n in range(20)]
    line = refusal(window=500, **jsonl(tmp_path / "texts.jsonl", rows))
    assert "an item has 500 tokens, the model's context is 192: set window=192 or less" in line
    (tmp_path / "long.txt").write_text(f"{TARGET} " * 3)
    line = refusal(target__path=tmp_path / "long.txt")
    assert "error: target '" in line and "its start, the model's context is 192: give a shorter text" in line
    long = [*facts()[:-1], facts()[-1] | {"subject": "The Kettle of Many Names " * 30}]
    line = refusal(corpus__path=write_facts(tmp_path / "f.csv", long))
    assert "error: probe 'fact-1969/" in line and "the model's context is 192" in line


def test_tokenizers_that_will_not_do(study: Study, refusal: Refusal, tmp_path: Path) -> None:
    bare, other = (shutil.copytree(study.models / "full", tmp_path / name) for name in ("bare", "other"))
    own = PreTrainedTokenizerFast.from_pretrained(study.models / "full")
    PreTrainedTokenizerFast(tokenizer_object=own.backend_tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(
        bare
    )
    assert "has no pad token: name an unused token, model.pad_token=<token>" in refusal(model__path=bare)
    assert "has no pad token" in refusal(model__gold=bare)
    train_tokenizer(["other words"], 259, 192).save_pretrained(other)
    assert "has another tokenizer than" in refusal(model__gold=other)


def test_a_run_that_another_process_works_on(
    study: Study, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(tmp_path / "s" / finished.name)
    with run.lock():
        assert cli.run(study.unlearning(tmp_path)) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{run.path} is in use by process" in line and line.endswith("wait for it or stop it")
    assert [path.name for path in run.path.iterdir()] == [".lock"] and len(list((tmp_path / "s").iterdir())) == 1


def test_a_loss_that_is_not_finite_stops_at_once_and_keeps_the_checkpoint(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wild = {"trainer__learning_rate": 1e20, "trainer__checkpoint_every": 1, "model__gold": "null"}
    assert cli.run(study.unlearning(tmp_path, **wild)) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    run = RunDir(the_run(tmp_path))
    rows = run.read_history()
    step = len(rows) + 1
    assert 1 < step < 6 and f" is nan at step {step}, training stopped before the update" in line
    assert (
        line.startswith(("error: forget", "error: retain", "error: grad_norm"))
        and "lower trainer.learning_rate" in line
    )
    assert f"the checkpoint of step {step - 1} is kept ({run.checkpoints_dir / f'checkpoint-{step - 1}'})" in line
    assert not run.finished("unlearn") and not run.delta_path.exists()


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"variants": "[full,golden]"}, ["variants=['golden'] are unknown; allowed: full, gold, without_target"]),
        ({"recipe__vocab_size": 100}, ["vocab_size 100 must be at least 259"]),
        ({"recipe__num_heads": 5}, ["hidden_size 32 must be a multiple of twice num_heads 5"]),
        ({"recipe__context": 64}, ["a row has 13", "the context 64: set recipe.context=13"]),
        ({"recipe": "reel"}, ["recipe=reel does not exist (did you mean real?)", "embedded, long, real"]),
    ],
)
def test_recipes_that_cannot_be(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str], values: dict[str, Any], parts: list[str]
) -> None:
    assert cli.run(study.pretraining(to=tmp_path / "models", **values)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(part in line for part in parts) and not (tmp_path / "models").exists()
