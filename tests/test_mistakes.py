"""Mistakes of other frameworks that concern more than a loss or a step; the others are named so in their folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluated import material, settings, texts
from toy import byte_tokenizer, llama

from menard_unlearn.compose import compose
from menard_unlearn.config import conf_dir, to_plain
from menard_unlearn.evaluation import suite
from menard_unlearn.run import run_id

CHANGES = (
    ["seed=1"],
    ["seed=2"],
    ["trainer.max_steps=7"],
    ["trainer.max_steps=7", "seed=1"],
    ["trainer.packing=false"],
    ["method.beta=0.5"],
    ["wrapper=sam"],
    ["window=64"],
)


def test_mistake_8_no_two_jobs_of_a_multirun_share_a_directory() -> None:
    """A run's directory is named after all that it is told, so jobs that differ in anything are apart."""
    methods = sorted(path.stem for path in (conf_dir() / "method").glob("*.yaml"))
    jobs = [*([f"method={method}"] for method in methods), *(["method=npo", *change] for change in CHANGES)]
    ids = [run_id(to_plain(compose("unlearn", job)), {}) for job in jobs]
    assert len(set(ids)) == len(jobs) and ids[0] == run_id(to_plain(compose("unlearn", jobs[0])), {})


@pytest.mark.parametrize("part", ["reproduce_all", "item_scores", "utility"])
def test_mistake_10_what_goes_wrong_in_an_evaluation_is_never_a_number(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error comes through as it is, and nothing is written in place of what could not be computed."""

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError(part)

    monkeypatch.setattr(suite, part, fail)
    with pytest.raises(ZeroDivisionError, match=part):
        suite.evaluate(
            llama(),
            byte_tokenizer(),
            material=material(texts()),
            base_tensors=None,
            config=settings(),
            out=tmp_path,
        )
    lost = {"reproduce_all": "reproduction.json", "item_scores": "items.jsonl", "utility": "utility.json"}[part]
    assert lost not in {path.name for path in tmp_path.iterdir()}
