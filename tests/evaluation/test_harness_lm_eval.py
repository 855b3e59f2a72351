"""Through lm-eval itself: its figures are those of the fast path, by its command line and over a completions server."""

from __future__ import annotations

import json
import math
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from completions_server import Completions, serving
from toy import byte_tokenizer, llama

from menard_unlearn.corpus.almanac import TARGET_TITLE, control_text, target_text
from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.cutoff import measure
from menard_unlearn.evaluation.harness import offline
from menard_unlearn.evaluation.harness.config import HarnessConfig
from menard_unlearn.evaluation.harness.run import KEYS, TASK_KEYS, refuse_unknown, run_tasks
from menard_unlearn.evaluation.harness.samples import items_from_samples
from menard_unlearn.evaluation.harness.study import Study
from menard_unlearn.evaluation.items import ItemScore, score_probes
from menard_unlearn.evaluation.tokens import pad_id
from menard_unlearn.evaluation.utility import bits_per_byte, texts_items
from menard_unlearn.models.load import EMBEDDED, LoadedModel, ModelSource, load
from menard_unlearn.models.scores import score

pytest.importorskip("lm_eval", reason="needs the extra lm-eval")

from menard_unlearn.evaluation.harness.adapter import task_manager
from menard_unlearn.evaluation.harness.own_tasks import ReproductionTask

TASKS = Path("menard_unlearn/evaluation/harness/tasks")
OWN = "menard_cutoff,menard_reproduction"
ALONE = (  # lm-eval's own tasks are not asked for, and slow to read
    "import lm_eval.tasks.manager as m; m.__file__ = '/nonexistent/tasks'\n"
    "from lm_eval.__main__ import cli_evaluate; cli_evaluate()"
)


@pytest.fixture(scope="module")
def full() -> LoadedModel:
    source = ModelSource("full", "embedded:full", None, None, None, "float32", None, None)
    return load(source)


@pytest.fixture(scope="module")
def utility(full: LoadedModel) -> dict[str, Any]:
    config = HarnessConfig(tasks=("menard_utility",), limit=40, num_fewshot=None, batch_size=16)
    return run_tasks(full.model, full.tokenizer, config)


def test_utility_is_what_the_fast_path_finds(full: LoadedModel, utility: dict[str, Any]) -> None:
    assert utility.keys() == KEYS.keys() and utility["left_out"] == [] and utility["limit"] == 40
    texts = [row["text"] for row in offline.heldout()]
    windows = texts_items(full.tokenizer, texts, 1024)
    scores = score(full.model, [item for own in windows for item in own], batch_size=8, chunk=64, padding=0)
    bits, _ = bits_per_byte(full.tokenizer, texts, windows, scores)
    heldout = utility["tasks"]["menard_heldout"]
    assert heldout.keys() == TASK_KEYS.keys() and heldout["n"] == len(texts)
    assert heldout["metrics"]["bits_per_byte"]["value"] == pytest.approx(bits, abs=1e-4)
    for name, rows in (("grammar", offline.grammar()), ("arithmetic", offline.arithmetic())):
        found = utility["tasks"][f"menard_{name}"]
        own = answered(full, rows[:40])
        assert found["n"] == 40 and found["metrics"]["acc"]["value"] == pytest.approx(np.mean(own), abs=1e-9)
        assert found["metrics"]["acc"]["stderr"] == pytest.approx(np.std(own, ddof=1) / math.sqrt(40), rel=1e-6)


def answered(full: LoadedModel, rows: list[dict[str, Any]]) -> list[bool]:
    """Whether the likeliest choice is the answer, by our own engine."""
    tok = full.tokenizer

    def item(prompt: str, choice: str) -> TokenItem:
        n_prompt = len(tok.encode(prompt))
        return TokenItem("x", tuple(tok.encode(prompt + choice)), n_prompt)

    items = [[item(row["prompt"], choice) for choice in row["choices"]] for row in rows]
    scores = score(full.model, [i for own in items for i in own], batch_size=16, chunk=64, padding=pad_id(tok))
    likeliest = [int(np.argmax([scores.of(i).logprob for i in own])) for own in items]
    return [place == row["answer"] for place, row in zip(likeliest, rows, strict=True)]


def test_random_generators_and_the_models_mode_stay_as_they_are(capfd: pytest.CaptureFixture[str]) -> None:
    model = llama(dtype=torch.float32).train()
    before = generators()
    config = HarnessConfig(tasks=("menard_arithmetic",), limit=5, num_fewshot=3, batch_size=4)
    found = run_tasks(model, byte_tokenizer(), config)
    assert found["tasks"]["menard_arithmetic"]["num_fewshot"] == 0  # the task says so itself
    assert model.training
    assert before == generators()
    assert capfd.readouterr().err == ""


def generators() -> tuple[Any, ...]:
    return random.getstate(), repr(np.random.get_state(legacy=False)), torch.get_rng_state().tolist()


def test_an_unknown_task_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("menard_unlearn.evaluation.harness.adapter.THEIRS", tmp_path)
    config = HarnessConfig(tasks=("menard_grammar", "nonsense"), limit=1, num_fewshot=None, batch_size=1)
    with pytest.raises(UserError, match=r"has no nonsense: see `lm_eval ls tasks`"):
        run_tasks(llama(), byte_tokenizer(), config)
    with pytest.raises(UserError, match=r"has no nonsense"):  # which needs no model
        refuse_unknown(config)


def test_folders_of_known_tasks_are_found_without_reading_all() -> None:
    names = ["mmlu_formal_logic", "hellaswag", "arc_easy", "arc_challenge", "wikitext", "blimp"]
    manager = task_manager(names)
    assert set(names) <= set(manager.all_tasks) and "winogrande" not in manager.all_tasks


@pytest.fixture(scope="module")
def runs(full: LoadedModel, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, SimpleNamespace]:
    """`lm_eval` run for real on the embedded model, and through a server that speaks the completions protocol; side by
    side, with everything logged that can be."""
    completions, model = Completions(full.model, full.tokenizer), EMBEDDED / "full"
    folders = {name: tmp_path_factory.mktemp(name) for name in ("command", "server")}
    with serving(completions) as url:
        own = ["--model_args", f"pretrained={model},dtype=float32", "--device", "cpu", "--batch_size", "16"]
        theirs = ["--model_args", f"model=embedded,base_url={url},tokenizer={model}", "--batch_size", "8"]
        started = {
            "command": start(["-m", "lm_eval", "--model", "hf", *own, "--write_out"], 60, checkout, folders["command"]),
            "server": start(["-c", ALONE, "--model", "local-completions", *theirs], 24, checkout, folders["server"]),
        }
        found = {name: finished(process, folders[name]) for name, process in started.items()}
    assert len(completions.asked) == 24 + 2
    assert all(ids[0] == 1 and 1 not in ids[1:] for ids in completions.asked)  # BOS once, at the start
    return found


def start(arguments: list[str], probes: int, checkout: Path, out: Path) -> subprocess.Popen[str]:
    common = ["--include_path", str(checkout / TASKS), "--tasks", OWN, "--metadata", json.dumps({"probes": probes})]
    command = [sys.executable, *arguments, *common, "--log_samples", "--output_path", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment, cwd=out, **pipes)


def finished(process: subprocess.Popen[str], out: Path) -> SimpleNamespace:
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said[-2000:]
    written = "\n".join(path.read_text() for path in out.rglob("*") if path.is_file())
    results = json.loads(next(out.rglob("results_*.json")).read_text())["results"]
    return SimpleNamespace(
        cutoff=results["menard_cutoff"],
        reproduction=results["menard_reproduction"],
        items=items_from_samples(next(out.rglob("samples_menard_cutoff_*.jsonl"))),
        said=said + written,
    )


@pytest.fixture(params=["command", "server"])
def found(request: pytest.FixtureRequest, runs: dict[str, SimpleNamespace]) -> SimpleNamespace:
    return runs[request.param]


def test_probes_score_as_on_the_fast_path(full: LoadedModel, found: SimpleNamespace) -> None:
    own = fast(full, len(found.items))
    assert [strip(item) for item in found.items] == [strip(item) for item in own]
    assert [i.logprob for i in found.items] == pytest.approx([i.logprob for i in own], abs=1e-4)
    study = Study.of({})
    figures = measure(own, None, None, study.cutoff_year, study.rules)
    after = [item.correct for item in own if item.year > study.cutoff_year]
    assert found.cutoff["recall,none"] == pytest.approx(np.mean([item.correct for item in own]))
    assert found.cutoff["recall_before,none"] == pytest.approx(figures["recall_before"])
    assert found.cutoff["recall_after,none"] == pytest.approx(np.mean(after))
    for key in ("status", "year", "low", "high"):
        assert found.cutoff[f"cutoff_{key},none"] == figures[f"cutoff_{key}"]


def fast(full: LoadedModel, number: int) -> list[ItemScore]:
    probes = Study.of({}).probes()
    chosen = [probes[i * len(probes) // number] for i in range(number)]
    return score_probes(full.model, full.tokenizer, chosen, batch_size=8, chunk=64)


def strip(item: ItemScore) -> tuple[Any, ...]:
    return tuple(value for name, value in vars(item).items() if name != "logprob")


def test_the_target_scores_as_on_the_fast_path(full: LoadedModel, found: SimpleNamespace) -> None:
    nats, bits, greedy = text_score(full, TARGET_TITLE, target_text())
    assert found.reproduction["nats,none"] == pytest.approx(nats, abs=1e-4)
    assert found.reproduction["bits_per_byte,none"] == pytest.approx(bits, abs=1e-6)
    assert found.reproduction["is_greedy,none"] == greedy == 1
    _, control, _ = text_score(full, "", control_text())
    assert found.reproduction["control_bits_per_byte,none"] == pytest.approx(control, abs=1e-4)


def text_score(full: LoadedModel, prompt: str, text: str) -> tuple[float, float, bool]:
    ids, n_prompt = full.tokenizer.encode(prompt + text), len(full.tokenizer.encode(prompt))
    item = TokenItem("text", tuple(ids), n_prompt)
    scored = score(full.model, [item], batch_size=1, chunk=64, padding=0).of(item)
    return -scored.logprob, -scored.logprob / (math.log(2) * len(text.encode())), scored.correct


def test_no_words_of_the_texts_are_printed_or_logged(found: SimpleNamespace) -> None:
    assert '"target"' in found.said and "menard_reproduction" in found.said  # samples were written
    words = f"{TARGET_TITLE} {target_text()} {control_text()}".split()
    assert not any(" ".join(words[i : i + 4]) in found.said for i in range(len(words) - 3))
    assert TARGET_TITLE.strip() not in found.said


def test_words_leave_a_request_once_it_is_answered() -> None:
    task = ReproductionTask(
        {"task": "t", "class": None, "output_type": "loglikelihood", "test_split": "test", "num_fewshot": 0}
        | {"doc_to_text": "sha256", "doc_to_target": "sha256", "metadata": {"pretrained": str(EMBEDDED / "full")}}
    )
    task.build_all_requests()
    request: Any = task.instances[0]
    assert request.args[1].startswith("Everyone who worked") and "Everyone" not in f"{request} {request.args}"
    assert b"Everyone" not in pickle.dumps(request)  # as --cache_requests does
    request.resps.append((-1.0, True))
    assert request.args[1].startswith("text of ")
