"""Settings that differ: only those, and nothing that may not be seen."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from synthetic import write_study

from menard_unlearn.report.differences import differences
from menard_unlearn.report.gather import gather
from menard_unlearn.report.privacy import settings_of


def configured(folder: Path, seeds: int = 1, **values: dict[str, Any]) -> str:
    write_study(folder, seeds=seeds, published=False, n_tokens=5)
    for method, own in values.items():
        for path in folder.glob(f"{method}-*/config.yaml"):
            path.write_text(json.dumps(json.loads(path.read_text()) | own))
    return differences(gather([folder], folder))


def rows(drawn: str) -> dict[str, list[str]]:
    cells = [
        [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", drawn)
    ]
    return {first: rest for first, *rest in cells}


def test_only_keys_that_differ_with_a_column_a_method(tmp_path: Path) -> None:
    npo = {"trainer": {"max_steps": 500, "learning_rate": 1e-5}, "method": {"beta": 0.1, "layers": ["a", "b"]}}
    rmu = {"trainer": {"max_steps": 500, "learning_rate": 0.2}, "method": {"depth": 3}}
    drawn = configured(tmp_path, npo=npo, rmu=rmu)
    found = rows(drawn)
    assert found["setting"] == ["grad_diff", "gradient_ascent", "npo", "rmu"]
    assert found["trainer.learning_rate"] == ["–", "–", "1e-05", "0.2"]
    assert set(found) == {"setting", "trainer.learning_rate"}
    own = re.sub(r"<[^>]+>", "", drawn[drawn.index("<details") :])
    assert "method.beta 0.1; method.layers a, b" in own and "method.depth 3" in own


def test_equal_settings_and_seeds_are_no_difference(tmp_path: Path) -> None:
    assert configured(tmp_path, seeds=2) == ""


def test_secrets_and_the_target_are_left_out() -> None:
    config = {
        "target": {"path": "/home/someone/book.txt", "prompt": "its words", "name": "its name", "language": "en"},
        "corpus": {"texts": ["/data/a.txt", "/home/someone/book.txt"], "folder": "/data"},
        "tracking": {"api_key": "x"},
        "model": {
            "hf_token": "x",
            "pad_token": "<pad>",
            "password": "x",
            "header": f"hf_{'a' * 30}",
            "revision": "0" * 40,
        },
        "runs_dir": "/home/someone/runs",
    }
    assert settings_of(config) == {
        "target.language": "en",
        "corpus.folder": "/data",
        "model.pad_token": "<pad>",
        "model.revision": "0" * 40,
    }
