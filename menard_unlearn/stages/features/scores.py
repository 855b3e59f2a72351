"""`menard features score`: follow the target token by token, unclamped, clamped and under the controls."""

from __future__ import annotations

import time

from menard_unlearn.features.token_scores import score_tokens
from menard_unlearn.files import from_here, write_json
from menard_unlearn.models.load import LoadedModel, load
from menard_unlearn.run import RunDir
from menard_unlearn.stages.features.chosen import Chosen, chosen, controls, find_first, refuse_bad_choice
from menard_unlearn.stages.features.job import FeaturesJob
from menard_unlearn.stages.features.told import tell_tokens

NAME = "feature_scores"


def place(job: FeaturesJob) -> RunDir:
    """Where the run lies."""
    return _place(job)[1]


def _place(job: FeaturesJob) -> tuple[str, RunDir]:
    plain = job.settings.plain
    refuse_bad_choice(job)
    return job.place(NAME, scored={"feature": plain["feature"], "strength": plain["strength"]})


def do(job: FeaturesJob) -> None:
    """Score, and tell."""
    identity, run = _place(job)
    find_first(job)
    loaded = load(job.settings.model)
    found = chosen(job, loaded)
    with job.tracked(NAME, run, identity) as tracking:
        started = time.perf_counter()
        result = _scored(job, loaded, found)
        write_json(run.evaluation_dir / "feature_tokens.json", result)
        print(tell_tokens(result), flush=True)
        job.finish(run, identity, time.perf_counter() - started, tracking)
    print(from_here(run.path), flush=True)


def _scored(job: FeaturesJob, loaded: LoadedModel, found: Chosen) -> dict:
    dose, reproduction = job.dose, job.settings.evaluation.reproduction
    beside = controls(
        job, loaded.model, found, n_features=dose.n_random_features, n_directions=dose.n_random_directions
    )
    return score_tokens(
        loaded.model,
        loaded.tokenizer,
        job.prepared.target,
        [found.clamp(), *beside],
        found.layer,
        found.special,
        piece=reproduction.piece,
        chunk=job.settings.evaluation.chunk,
        stride=reproduction.stride,
    )
