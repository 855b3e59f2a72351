"""Every name on the dashboard is one that a real run logs, and every run says which method it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import wandb
from offline import OfflineRun, read_runs
from tiny_study import Study

from menard_unlearn import cli
from menard_unlearn.tracking.dashboard import View, views
from menard_unlearn.tracking.dashboard_panels import METHOD

PROSE = ("chartTitle", "text")
"""Where text for people stands."""
CONFIG = re.compile(r"(?:config:)?(?P<first>\w+)\.value(?P<rest>(?:\.\w+)*)")
"""How wandb writes a key of a run's configuration."""


@pytest.fixture(scope="module")
def runs(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[OfflineRun]]:
    """What a run and its references logged, with evaluations on the way."""
    folder = tmp_path_factory.mktemp("tracked")
    tracked = {"tracking": "wandb", "tracking__mode": "offline", "evaluation__every": 3}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HOME", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR"):
            patch.setenv(name, str(folder / "home"))
        try:
            assert cli.run(study.unlearning(folder / "runs", **tracked)) == 0
        finally:
            wandb.teardown()
        yield read_runs(folder / "runs/s/wandb")


def strings(node: Any, key: str = "") -> Iterator[str]:
    """Every string of the JSON that is not prose, and every key of its objects."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield name
            yield from strings(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from strings(value, key)
    elif isinstance(node, str) and key not in PROSE:
        yield node


def figures(view: View) -> set[str]:
    """Names with a slash: all that is logged has one, and nothing else in a view."""
    return {text.removeprefix("summary:") for text in strings(json.loads(view.spec)) if "/" in text}


def settings(view: View) -> set[str]:
    """Dotted keys of the configuration."""
    found = (CONFIG.fullmatch(text) for text in strings(json.loads(view.spec)))
    return {match["first"] + match["rest"] for match in found if match}


def flat(config: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def logged(run: OfflineRun) -> set[str]:
    """Names of history and summary; those of a table or a page without what they are made of."""
    names = {name for row in run.history for name in row} | set(run.summary)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("view", views(), ids=lambda view: view.kind)
def test_a_run_logs_every_name(view: View, runs: list[OfflineRun]) -> None:
    (run,) = (run for run in runs if run.run["job_type"] == "unlearn")
    assert figures(view) - logged(run) == set()
    assert settings(view) - set(flat(run.config)) == set()
    # What the search must have met, so that it cannot pass by finding nothing.
    met = {"curve/recall", "eval/year", "eval/by_year", "eval/target_tokens", "train/forget", "final/utility_kl"}
    assert met < figures(view) and {METHOD, "trainer.learning_rate", "seed"} <= settings(view)


def test_every_run_is_grouped_under_its_own_method(runs: list[OfflineRun]) -> None:
    assert sorted(run.summary["final/method"] for run in runs) == ["base", "gold", "npo", "prompted"]
    assert [run.config[METHOD] for run in runs] == [run.summary["final/method"] for run in runs]
    assert all(run.run["job_type"] == ("unlearn" if run.config[METHOD] == "npo" else "evaluate") for run in runs)
    # A reference is drawn where references are, without the hyper-parameters of the method that asked for it first.
    assert [run.config[METHOD] for run in runs if "trainer" in run.config] == ["npo"]
