"""The reference of results is what the code says, and leaves no file out; the fault table names tests that exist."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path

import pytest
from evaluated import evaluated, material, settings, texts
from made_asides import write_asides
from toy import llama

from menard_unlearn.evaluation.compare import Reference, compare, write_ngram


def test_the_committed_reference_is_the_one_that_the_code_makes(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(checkout / "docs"))
    made = runpy.run_path(str(checkout / "docs/results.py"))["page"]()
    committed = (checkout / "docs/results.md").read_text(encoding="utf-8")
    assert committed == made, "python docs/results.py > docs/results.md"


def test_every_file_of_an_evaluation_has_a_section(checkout: Path, tmp_path: Path) -> None:
    what, config = material(texts()), settings()
    evaluated(llama(), tmp_path, what, config)
    write_ngram(tmp_path, what, config)
    compare(tmp_path, {"prompted": Reference(tmp_path)}, what, config)
    sections = (checkout / "docs/results.md").read_text(encoding="utf-8").splitlines()
    missing = {path.name for path in tmp_path.iterdir()} - {line.removeprefix("## ") for line in sections}
    assert not missing and (tmp_path / "prompted.json").is_file()


def test_every_file_of_a_run_beside_the_methods_has_one(checkout: Path, tmp_path: Path) -> None:
    files = {path.name for path in write_asides(tmp_path, published=False, n_tokens=2).glob("*/evaluation/*.json")}
    sections = (checkout / "docs/results.md").read_text(encoding="utf-8").splitlines()
    assert len(files) == 6 and not files - {line.removeprefix("## ") for line in sections}


def functions_in(path: Path) -> set[str]:
    """Names of the test functions, by reading: some files cannot be imported everywhere."""
    body = ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else []
    return {node.name for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_fault_has_a_test_that_exists(checkout: Path) -> None:
    lines = (checkout / "docs/reliability.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ") and not line.startswith("| fault")]
    assert len(rows) > 60 and {len(row) for row in rows} == {3}
    for fault, _, tests in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
        assert named and tests == ", ".join(f"`{file}::{name}`" for file, name in named), fault
        missing = [f"{file}::{name}" for file, name in named if name not in functions_in(checkout / file)]
        assert not missing, fault
