"""menard context: from a corpus and a model to an answer, and every refusal before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_study import QUICK, TARGET, Study, facts, read, told, write_facts

from menard_unlearn import cli
from menard_unlearn.context import keys
from menard_unlearn.run import RunDir

CONTROL = (
    "A grey cat read the tide tables aloud to a lighthouse that had stopped listening, and was paid in small fish."
)


def command(study: Study, runs: Path, **values: Any) -> list[str]:
    control = study.folder / "control.txt"
    control.write_text(CONTROL, encoding="utf-8")
    own = {
        "study": "s",
        "runs_dir": runs,
        "context.models": "[base,gold]",
        "context.first": 4,
        "context.last": 32,
        "context.draws": 3,
        "context.rules.block": 8,
        "context.rules.bootstrap": 60,
        "+target.controls.unseen": f"{{path: {control}, language: en, prompt: null}}",
    }
    return ["context", *told(study.data | study.model | QUICK | own, values)]


def test_the_answer_lies_in_a_run_of_its_own(study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(command(study, tmp_path, tracking="jsonl")) == 0
    out = capsys.readouterr().out
    (run,) = (path for path in (tmp_path / "s").iterdir() if path.name.startswith("context-"))
    assert out.splitlines()[-1] == str(run / "evaluation/context.json") and "nats a token" in out
    found = read(run / "evaluation/context.json")
    assert set(found) == set(keys.FILE) and list(found["models"]) == ["base", "gold"]
    assert found["lengths"] == [4, 8, 16, 32] and found["made_of"] == "statements"
    assert found["documents"] == 30 and found["excluded"] == {"after the cutoff": 30}
    for model in found["models"].values():
        assert set(model) == set(keys.MODEL) and set(model["placebos"]) == {"shuffled", "other_target"}
    with np.load(run / "evaluation/context_tokens.npz") as arrays:
        own_DLT = arrays["base/own"]
        assert own_DLT.shape == (3, 4, found["models"]["base"]["n_tokens"])
        means = [row["nats"] for row in found["models"]["base"]["curve"]]
        assert -own_DLT.mean((0, 2)) == pytest.approx(means)
    assert RunDir(run).finished("context") and not (run / "context").exists()
    written = "".join(path.read_text(errors="ignore") for path in run.rglob("*.json*"))
    assert "heron" not in written and "heron" in TARGET
    before = (run / "evaluation/context.json").stat().st_mtime_ns
    assert cli.run(command(study, tmp_path, tracking="none")) == 0  # tracking is no part of its identity
    assert "is finished; nothing to do" in capsys.readouterr().out
    assert (run / "evaluation/context.json").stat().st_mtime_ns == before
    assert cli.run(["report", str(tmp_path / "s")]) == 0 and cli.run(["status", str(tmp_path / "s")]) == 0
    assert "finished" in capsys.readouterr().out


def texts_with(tmp_path: Path, text: str, date: str = "1930") -> dict[str, Any]:
    words = "The ledger of that harbour was kept in chalk, and rain was its only auditor. " * 4
    rows = [("early.txt", "1920", words), ("other.txt", date, text), ("late.txt", "1950", words)]
    (tmp_path / "manifest.csv").write_text("file,year,date\n" + "".join(f"{f},{y},\n" for f, y, _ in rows))
    for file, _, content in rows:
        (tmp_path / file).write_text(content)
    held = {"split.heldout_fraction": 0, "context.documents.passage": 16}
    return {"corpus": "texts", "corpus.folder": tmp_path, "corpus.manifest": tmp_path / "manifest.csv"} | held


def refusals(tmp_path: Path) -> list[tuple[dict[str, Any], str]]:
    quoting = texts_with(tmp_path / "quoting", f"Some say {TARGET}")
    clean = texts_with(tmp_path / "clean", "Nothing of it here. " * 20)
    refuse = {"context.documents.decontaminate": "refuse"}
    return [
        ({"context.last": 4096}, "context longer than the window: 4096 tokens of context and"),
        ({"context.first": 5}, "context.first=5 is no power of two"),
        ({"context.models": "[basis]"}, "context.models=['basis']: give one or more of base, without_target, gold"),
        ({"context.models": "[without_target]"}, "has none of them; set context.models=[base]"),
        ({"context.documents.include": "borges"}, "no document has an id with 'borges'"),
        ({"context.documents.include": "'('"}, "is no regular expression"),
        ({"context.placebos.other": "fact-195"}, "no document is left for contexts up to 1939-12-31 (10 after"),
        ({"context.documents.quotations": "nowhere.txt"}, "quotations=nowhere.txt cannot be read"),
        ({"context.draws": 31}, "are 30 passages, 31 draws were asked for"),
        (quoting | refuse, "document 'other.txt' shares 8 words with the target, from its word 2 on"),
        (clean | refuse | {"context.documents.include": "late"}, "no document is left"),
        ({"context.rules.bootstrap": 3}, "bootstrap 3 must be at least 40"),
        ({"context.probabilities": "[1.5]"}, "context.probabilities=[1.5]: give numbers between 0 and 1"),
    ]


def test_bad_input_is_refused_before_any_work(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("quoting", "clean"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr("menard_unlearn.stages.context.load", lambda source: pytest.fail("a model was loaded"))
    for values, message in refusals(tmp_path):
        arguments = [a for a in command(study, tmp_path / "runs") if a.split("=")[0].lstrip("+") not in values]
        if "corpus" in values:
            arguments = [a for a in arguments if not a.startswith(("corpus.path=", "corpus="))]
        assert cli.run([*arguments, *told(values, {})]) == 2, message
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line and "heron" not in line
    assert not (tmp_path / "runs").exists()


def test_a_document_that_holds_the_target_is_cut_and_a_later_date_is_never_in(study: Study, tmp_path: Path) -> None:
    """Two corpora that differ in what may not be read give the same curve."""
    found = []
    for name, text, date in (("a", f"Some say {TARGET}", "1930"), ("b", "Later words. " * 20, "1940")):
        (tmp_path / name).mkdir()
        values = texts_with(tmp_path / name, text, date) | {
            "context.models": "[base]",
            "context.placebos.shuffled": "false",
        }
        if name == "b":
            (tmp_path / name / "manifest.csv").write_text(
                "file,year,date\nearly.txt,1920,\nother.txt,,1940\nlate.txt,1950,\n"
            )
        arguments = [a for a in command(study, tmp_path / name) if a.split("=")[0] not in values]
        arguments = [a for a in arguments if not a.startswith(("corpus.path=", "corpus="))]
        assert cli.run([*arguments, *told(values, {})]) == 0
        (path,) = (tmp_path / name / "s").glob("context-*/evaluation/context.json")
        found.append(read(path))
    assert [one["excluded"] for one in found] == [{"after the cutoff": 1, "quoting": 1}, {"after the cutoff": 2}]
    assert found[0]["models"]["base"]["curve"] == found[1]["models"]["base"]["curve"]


def test_the_identity_holds_what_the_figures_depend_on(study: Study, tmp_path: Path) -> None:
    from menard_unlearn.compose import compose
    from menard_unlearn.config import to_plain
    from menard_unlearn.stages import context

    more = write_facts(tmp_path / "more.csv", [*facts(), {**facts()[0], "id": "fact-x", "subject": "The Grey Boat"}])
    changes = [
        {},
        {"seed": 1},
        {"context.draws": 4},
        {"context.documents.ngram": 7},
        {"corpus.path": more},
        {"model.dtype": "bfloat16"},
    ]
    runs = []
    for change in changes:
        arguments = [a for a in command(study, tmp_path)[1:] if a.split("=")[0] not in change]
        runs.append(context.plan(to_plain(compose("context", [*arguments, *told(change, {})])), {}).path)
    assert len(set(runs)) == len(changes) and not any(path.exists() for path in runs)
