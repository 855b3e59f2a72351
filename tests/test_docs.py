"""The reference of results is what the code says, and leaves no file out."""

from __future__ import annotations

import runpy
from pathlib import Path

from evaluated import evaluated, material, settings, texts
from toy import llama

from menard_unlearn.evaluation.compare import Reference, compare, write_ngram


def test_the_committed_reference_is_the_one_that_the_code_makes(checkout: Path) -> None:
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
