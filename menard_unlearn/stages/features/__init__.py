"""`menard features`: an author's feature, found, clamped and judged.

    find   activations → sparse autoencoder → ranking → dose-response, in a run `features-<hash>`
    score  the target token by token under the clamp and its controls, `feature_scores-<hash>`
    guard  a guardrail of what is to be forgotten, evaluated like any method, `dsg-<hash>`
    joint  models × clamp × context on the target, `joint-<hash>`

The later ones need what `find` leaves and do it first where it is missing. A finished run is skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig

from menard_unlearn.config import near, to_plain
from menard_unlearn.errors import UserError
from menard_unlearn.run import RunDir
from menard_unlearn.stages.features import find, guard, joint, scores
from menard_unlearn.stages.features.job import FeaturesJob

ACTIONS: dict[str, tuple[Callable[[FeaturesJob], RunDir], Callable[[FeaturesJob], None]]] = {
    "find": (find.place, find.do),
    "score": (scores.place, scores.do),
    "guard": (guard.place, guard.do),
    "joint": (joint.place, joint.do),
}
"""Action → where its run lies, and what does it."""


def plan(config: Mapping[str, Any], known: dict[str, Any]) -> RunDir:
    """Where this configuration's run lies. All of the configuration is checked, and nothing is written."""
    where, _ = _action(config)
    return where(FeaturesJob.of(config, known))


def main(cfg: DictConfig) -> None:
    """Do what is asked, unless it is done."""
    plain = to_plain(cfg)
    where, do = _action(plain)
    job = FeaturesJob.of(plain, {})
    run = where(job)
    if run.finished("features"):
        print(f"{run.path} is finished; nothing to do")
        return
    do(job)


def _action(plain: Mapping[str, Any]) -> tuple[Any, Any]:
    given = plain["action"]
    if given not in ACTIONS:
        raise UserError(f"features has no action {given!r}{near(str(given), ACTIONS)}; actions: {', '.join(ACTIONS)}")
    return ACTIONS[given]
