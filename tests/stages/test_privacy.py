"""The words of a user's target stay out of everything that is written, unless the user says otherwise."""

from __future__ import annotations

import html
import os
import re
import shutil
from pathlib import Path

import pytest
import wandb
from tiny_study import TARGET, Study

from menard_unlearn import cli
from menard_unlearn.corpus.split import words


def told(text: str) -> list[str]:
    """Runs of four words of the target that a text holds: as it stands, without tags, or put together from tokens."""
    pieces = "".join(re.findall(r'"text": "((?:[^"\\]|\\.)*)"', text))
    readable = " ".join(" ".join(words(html.unescape(form))) for form in (text, re.sub(r"<[^>]*>", "", text), pieces))
    own = words(TARGET)
    return [run for at in range(len(own) - 3) if (run := " ".join(own[at : at + 4])) in readable]


def files_that_tell(folder: Path) -> dict[str, list[str]]:
    found = {
        str(path.relative_to(folder)): told(path.read_bytes().decode("utf-8", errors="ignore"))
        for path in folder.rglob("*")
        if path.is_file()
    }
    return {name: runs for name, runs in found.items() if runs}


def test_the_words_are_found_where_they_stand() -> None:
    assert len(told(TARGET)) == len(words(TARGET)) - 3
    assert told("".join(f"<i>{letter}</i>" for letter in TARGET)) and told(
        '{"text": "none of which"},{"text": " agreed"}'
    )
    assert told("none of which disagreed") == []


def test_a_tracked_run_and_its_page_tell_nothing(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("WANDB_DATA_DIR", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    text = shutil.copy(study.target, tmp_path / "my secret text.txt")
    runs = tmp_path / "runs"
    tracked = {"tracking": "wandb", "tracking__mode": "offline", "target__path": f"'{text}'"}
    try:
        assert cli.run(study.unlearning(runs, model__gold="null", **tracked)) == 0
    finally:
        wandb.teardown()
    assert cli.run(["report", str(runs / "s")]) == 0
    said = capfd.readouterr()
    assert told(said.out + said.err) == []
    assert len(list(runs.rglob("run-*.wandb"))) == 3 and (runs / "s/report.html").is_file()
    assert files_that_tell(runs) == {}
    # nor does what may leave this machine name the file
    logged = [path for path in runs.rglob("*") if path.is_file() and "wandb" in path.parts]
    assert logged and not any(b"my secret text" in path.read_bytes() for path in logged)
    assert b"my secret text" not in (runs / "s/report.html").read_bytes()


def test_a_published_target_is_told(study: Study, tmp_path: Path) -> None:
    assert cli.run(study.unlearning(tmp_path, model__gold="null", target__publish="true", trainer__max_steps=2)) == 0
    assert cli.run(["report", str(tmp_path / "s")]) == 0
    tells = files_that_tell(tmp_path)
    assert {Path(name).name for name in tells} == {"heat.json", "target_tokens.json", "report.html"}
    assert all(len(runs) > 20 for runs in tells.values())


def test_no_error_tells_the_words(study: Study, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "long.txt").write_text(f"{TARGET} " * 5)
    (tmp_path / "latin.txt").write_bytes(TARGET.encode() + b"\xe9")
    for name in ("long.txt", "latin.txt"):
        assert cli.run(study.unlearning(tmp_path / "runs", target__path=tmp_path / name)) == 2
        said = capfd.readouterr()
        assert "error: target" in said.err and told(said.out + said.err) == []
    assert "HYDRA_FULL_ERROR" not in os.environ
