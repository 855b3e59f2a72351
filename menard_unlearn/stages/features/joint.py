"""`menard features joint`: base, without_target and finished runs, clamped and not, with context and without.

The autoencoder, the feature, its dose and the directions are the base's: what is asked is what the same edit does to
models that know more or less of the text.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from menard_unlearn.config import build
from menard_unlearn.corpus.dating import Era, era
from menard_unlearn.corpus.encoding import whole_length
from menard_unlearn.corpus.split import quotes_target
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.ngram import bits, train
from menard_unlearn.evaluation.target import Target
from menard_unlearn.evaluation.tokens import decoded
from menard_unlearn.features.joint import OUT, PLAIN, Cell, after_context, measure_cell, order, table
from menard_unlearn.features.steering import NOTHING, Intervention, applied
from menard_unlearn.files import digest_file, from_here, write_json
from menard_unlearn.models.delta import apply_delta, load_delta
from menard_unlearn.models.load import LoadedModel, context_of, load, load_config
from menard_unlearn.run import RunDir
from menard_unlearn.stages.features.chosen import Chosen, chosen, controls, find_first, refuse_bad_choice
from menard_unlearn.stages.features.job import FeaturesJob
from menard_unlearn.stages.features.told import tell_joint

NAME = "joint"
CLAMPS = (PLAIN, "feature", "difference_of_means", "random_feature", "random_direction")
MAKERS = ("unlearn", "finetune")


@dataclass(frozen=True)
class JointConfig:
    """Which cells the joint table has."""

    runs: list[str]
    """Directories of finished runs of unlearn or finetune, of the same base model."""
    context_tokens: list[int]
    """Tokens of the author's other works before the target; 0 is none."""
    clamps: list[str]
    """`none` and any of feature, difference_of_means, random_feature, random_direction, all at one dose."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.clamps if name not in CLAMPS]
        if unknown or PLAIN not in self.clamps:
            raise UserError(f"joint.clamps={self.clamps} must hold none, and may hold {', '.join(CLAMPS[1:])}")
        if not self.context_tokens or min(self.context_tokens) < 0:
            raise UserError(f"joint.context_tokens={self.context_tokens} must be numbers of tokens, as [0,256]")


def place(job: FeaturesJob) -> RunDir:
    """Where the run lies."""
    return _place(job)[1]


def _place(job: FeaturesJob) -> tuple[str, RunDir]:
    plain = job.settings.plain
    config = build(plain["joint"], JointConfig)
    refuse_bad_choice(job)
    deltas = [digest_file(_run(job, path).delta_path) for path in config.runs]
    if len(set(deltas)) < len(deltas):
        raise UserError(f"joint.runs={config.runs} names a run twice: name each once")
    for tokens in config.context_tokens:
        _refuse_long(job, _context(job, tokens), tokens)
    more = {"feature": plain["feature"], "strength": plain["strength"], "joint": {**plain["joint"], "runs": deltas}}
    return job.place(NAME, joint=more)


def do(job: FeaturesJob) -> None:
    """Measure every cell, compare them, tell."""
    config = build(job.settings.plain["joint"], JointConfig)
    identity, run = _place(job)
    find_first(job)
    base = load(job.settings.model)
    found = chosen(job, base)
    target = job.prepared.target
    with job.tracked(NAME, run, identity) as tracking:
        started = time.perf_counter()
        edits = _edits(job, base, found, config)
        contexts = {
            tokens: after_context(job.prepared.target, _context(job, tokens)) for tokens in config.context_tokens
        }
        cells = []
        for name, loaded in _models(job, base, config):
            for tokens, text in contexts.items():
                cells += [_cell(job, loaded, found, edit, text, name, clamp, tokens) for clamp, edit in edits.items()]
            print(f"{name}: {len(edits) * len(contexts)} conditions", flush=True)
        rows = order(table(cells, _ngram(job), job.settings.evaluation))
        left_out = [] if job.settings.without_target else ["C1, C2, unlocked, verdict: need model.without_target"]
        content = {
            "target_name": target.name,
            "target_sha256": target.sha256,
            "author": job.authors.author,
            "features": list(found.features),
            "k": found.k,
            "rows": rows,
            "left_out": left_out,
        }
        write_json(run.evaluation_dir / "joint.json", content)
        print(tell_joint(rows), flush=True)
        job.finish(run, identity, time.perf_counter() - started, tracking)
    print(from_here(run.path), flush=True)


def _edits(job: FeaturesJob, base: LoadedModel, found: Chosen, config: JointConfig) -> dict[str, Intervention]:
    """Name of a clamp → the edit, in the order of the configuration."""
    one = {kind: int(kind in config.clamps) for kind in ("random_feature", "random_direction")}
    beside = controls(job, base.model, found, n_features=one["random_feature"], n_directions=one["random_direction"])
    made = {PLAIN: NOTHING, "feature": found.clamp(), **{str(edit.kind): edit for edit in beside}}
    return {name: made[name] for name in dict.fromkeys([PLAIN, *config.clamps])}


def _models(job: FeaturesJob, base: LoadedModel, config: JointConfig) -> Iterator[tuple[str, LoadedModel]]:
    """One after the other, each loaded when it is asked for."""
    yield "base", base
    if job.settings.without_target is not None:
        yield OUT, load(job.settings.without_target)
    for path, name in zip(config.runs, row_names(config.runs), strict=True):
        run = _run(job, path)
        loaded = load(job.settings.model)
        apply_delta(loaded.model, load_delta(run.delta_path))
        yield name, loaded


def row_names(runs: Sequence[str]) -> list[str]:
    """What the rows of runs are called: method and seed, and the hash as well where two have the same.

    Cells are found by these names, so that no two may share one.
    """
    whole = [Path(path).resolve().name for path in runs]
    brief = [name.rpartition("-")[0] for name in whole]
    return [name if brief.count(short) > 1 else short for name, short in zip(whole, brief, strict=True)]


def _run(job: FeaturesJob, path: str) -> RunDir:
    """A finished run of the same base. Raises UserError for any other folder."""
    run = RunDir(Path(path))
    run.read_config()
    if not any(run.finished(stage) for stage in MAKERS) or not run.delta_path.is_file():
        raise UserError(f"joint.runs: {path} is no finished run of {' or '.join(MAKERS)}: see menard status")
    if load_delta(run.delta_path).identity != job.prepared.inputs["model"]:
        raise UserError(f"joint.runs: {path} changed another model than {job.settings.model.path}: leave it out")
    return run


def _cell(
    job: FeaturesJob,
    loaded: LoadedModel,
    found: Chosen,
    edit: Intervention,
    target: Target,
    name: str,
    clamp: str,
    tokens: int,
) -> Cell:
    with applied(loaded.model, found.layer, edit, found.special):
        return measure_cell(
            loaded.model,
            loaded.tokenizer,
            target,
            job.settings.evaluation,
            name=name,
            clamp=clamp,
            context_tokens=tokens,
        )


def _context(job: FeaturesJob, tokens: int) -> str:
    """The last `tokens` tokens of the author's other works up to the cutoff, undated ones first and the latest last.

    A work that quotes a control is none of them: after its own words the control would tell nothing. Raises UserError
    where there are not as many tokens.
    """
    if not tokens:
        return ""
    controls = job.prepared.target.controls
    cutoff = job.settings.split.parsed_cutoff
    early = [work for work in job.authors.own if work.date is None or era(work.date, cutoff) is Era.BEFORE]
    apart = [work for work in early if not any(quotes_target(work.text, text.whole) for text in controls)]
    works = sorted(apart, key=lambda work: (work.date is not None, str(work.date), work.id))
    ids = job.tokenizer.encode("\n\n".join(work.text for work in works), add_special_tokens=False, verbose=False)
    if len(ids) < tokens:
        raise UserError(
            f"joint.context_tokens={tokens}: the author's other works up to {cutoff}, but those that quote a control, "
            f"have {len(ids)} tokens: ask for fewer"
        )
    return decoded(job.tokenizer, ids[-tokens:]).strip()


def _refuse_long(job: FeaturesJob, context: str, tokens: int) -> None:
    """Raise UserError where the model's window does not hold context, prompt and text."""
    window = context_of(load_config(job.settings.model))
    target = after_context(job.prepared.target, context)
    for text in (target, *target.controls):
        needed = whole_length(job.tokenizer, text.whole)
        if window is not None and needed > window:
            raise UserError(
                f"joint.context_tokens={tokens} and {text.name!r} have {needed} tokens together, the model's window is "
                f"{window}: ask for a shorter context, or leave the control out"
            )


def _ngram(job: FeaturesJob) -> NDArray[np.float64] | None:
    """B0, bits of each byte of the target, from the text up to the cutoff; None without such text."""
    material, target = job.prepared.material, job.prepared.target
    if not material.history:
        return None
    return bits(train(material.history, job.settings.evaluation.attribution.ngram_order), target.text, target.prompt)
