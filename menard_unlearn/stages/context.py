"""`menard context`: how much context would the target need?

The target is scored after dated documents of more and more tokens, and a law is fitted to what it costs. Everything is
checked before a model is loaded: which documents may be used, whether they hold the target, whether contexts fit.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from menard_unlearn.config import build, to_plain
from menard_unlearn.context.answer import answer_of
from menard_unlearn.context.config import ContextConfig
from menard_unlearn.context.documents import Chosen, Overlaps, choose, read_quotations
from menard_unlearn.context.draws import Frame, Passages, lengths_of, refuse_too_few, text_item
from menard_unlearn.context.study import ContextPlan, measure, write_arrays
from menard_unlearn.errors import UserError
from menard_unlearn.files import digest_file, write_json
from menard_unlearn.memory import peak_memory_mb, reset_peak_memory
from menard_unlearn.models.load import ModelSource, context_of, identity, load, load_config, load_tokenizer
from menard_unlearn.run import RunDir, run_id
from menard_unlearn.stages.context_table import print_context
from menard_unlearn.stages.job import prepared_once
from menard_unlearn.stages.logging import track
from menard_unlearn.stages.settings import Prepared, Settings

STAGE = "context"
IDENTITY_KEYS = ("corpus", "split", "wording", "target", "context", "seed")
"""What the figures depend on, beside the contents of data and models and the dtype of these."""
SCORES = "context_tokens.npz"


@dataclass(frozen=True)
class Work:
    """Everything that is to be scored, checked."""

    prepared: Prepared
    config: ContextConfig
    models: dict[str, ModelSource]
    plan: ContextPlan
    about: dict[str, Any]
    """Keys of context.json that are known before any model is loaded."""
    inputs: dict[str, str]
    identity: str

    @property
    def run(self) -> RunDir:
        """Where it is kept."""
        return RunDir(self.prepared.settings.study_dir / f"{STAGE}-{self.identity[:8]}")

    @classmethod
    def of(cls, plain: Mapping[str, Any], known: dict[str, Prepared]) -> Work:
        """Build and check everything. Raises UserError at the first that is wrong."""
        config = build(plain["context"], ContextConfig)
        quotations = read_quotations(config.documents.quotations)
        prepared = prepared_once(Settings.of(plain), known)
        settings = prepared.settings
        models, left_out = _models(settings, config)
        own, other = _chosen(prepared, config, quotations)
        plan, about = _planned(prepared, config, models, own, other)
        inputs = {"data": prepared.inputs["data"], "target": prepared.inputs["target"]}
        inputs |= {name: identity(source) for name, source in models.items()}
        if config.documents.quotations is not None:
            inputs["quotations"] = digest_file(config.documents.quotations)
        decisive = {key: settings.plain[key] for key in IDENTITY_KEYS} | {"dtype": settings.model.dtype}
        found = run_id(decisive, inputs)
        about = {**about, "left_out": [*left_out, *about["left_out"]]}
        return cls(prepared, config, models, plan, about, inputs, found)


def plan(config: Mapping[str, Any], known: dict[str, Any]) -> RunDir:
    """Where this configuration's figures lie. All of the configuration is checked, and nothing is written.

    `known` keeps what was read, for the other jobs of a sweep.
    """
    return Work.of(config, known).run


def main(cfg: DictConfig) -> None:
    """Score what is not scored yet, fit, and print the answer."""
    work = Work.of(to_plain(cfg), {})
    run = work.run
    if run.finished(STAGE):
        print(f"{run.path} is finished; nothing to do")
    else:
        with run.attempt():
            if not run.finished(STAGE):  # by another process, while this one was reading
                _do(work)
    print_context(json.loads((run.evaluation_dir / "context.json").read_text(encoding="utf-8")))
    print(run.evaluation_dir / "context.json")


def _models(settings: Settings, config: ContextConfig) -> tuple[dict[str, ModelSource], list[str]]:
    all_of_them = {"base": settings.model, "without_target": settings.without_target, "gold": settings.gold}
    found = {name: source for name in config.models if (source := all_of_them[name]) is not None}
    if not found:
        raise UserError(
            f"context.models={list(config.models)}: model={settings.model.name} has none of them; "
            "set context.models=[base]"
        )
    left_out = [f"{name}: model.{name} is null" for name in config.models if name not in found]
    return found, left_out


def _chosen(prepared: Prepared, config: ContextConfig, quotations: tuple[str, ...]) -> tuple[Chosen, Chosen | None]:
    """The documents of both kinds of contexts."""
    target, cutoff = prepared.target, prepared.settings.split
    texts = {"the target": target.text} | {f"edition {text.name!r}": text.text for text in target.editions}
    if config.placebos.other_target and target.controls:
        texts[f"control {target.controls[0].name!r}"] = target.controls[0].text
    overlaps = Overlaps(texts, quotations, config.documents.ngram)
    own = choose(prepared.data, cutoff, config.documents, config.documents.include, overlaps)
    if config.placebos.other is None:
        return own, None
    other = choose(prepared.data, cutoff, config.documents, config.placebos.other, overlaps)
    if shared := {document.id for document in own.documents} & {document.id for document in other.documents}:
        raise UserError(
            f"context.placebos.other={config.placebos.other!r} finds {len(shared)} of the documents that contexts are "
            f"made of ({min(shared)}): name another author's, and this one's by context.documents.include"
        )
    return own, other


def _planned(
    prepared: Prepared,
    config: ContextConfig,
    models: Mapping[str, ModelSource],
    own: Chosen,
    other: Chosen | None,
) -> tuple[ContextPlan, dict[str, Any]]:
    """What is scored, and what can be said of it before."""
    tokenizer = load_tokenizer(prepared.settings.model)  # the references have the same: `prepare` has seen to it
    target, frame = prepared.target, Frame.of(tokenizer, config.separator)
    item = text_item(tokenizer, target)
    control = target.controls[0] if config.placebos.other_target and target.controls else None
    beside = None if control is None else text_item(tokenizer, control, len(item.ids) - item.n_prompt)
    windows = [window for source in models.values() if (window := context_of(load_config(source))) is not None]
    window = min(windows, default=None)
    taken = max(len(text.ids) for text in (item, beside) if text is not None) + len(frame.separator)
    lengths = lengths_of(config.first, config.last, window=window, taken=taken)
    size, draws = config.documents.passage, config.draws
    passages = Passages.of(tokenizer, own.documents, size)
    others = None if other is None else Passages.of(tokenizer, other.documents, size)
    refuse_too_few(passages, lengths[-1], draws, "documents")
    if others is not None:
        refuse_too_few(others, lengths[-1], draws, "other author's documents")
    seed, shuffle = int(prepared.settings.plain["seed"]), config.placebos.shuffled
    work = ContextPlan(frame, lengths, draws, item, beside, passages, shuffle, others, seed)
    return work, {
        "target_name": target.name,
        "target_sha256": target.sha256,
        "lengths": list(lengths),
        "window": window,
        **_about(own, passages, other, others),
        "control_name": None if control is None else control.name,
        "left_out": _without(config, control is not None),
    }


def _about(own: Chosen, passages: Passages, other: Chosen | None, others: Passages | None) -> dict[str, Any]:
    """What contexts are made of."""
    return {
        "made_of": own.made_of,
        "documents": len(own.documents),
        "document_tokens": passages.n_tokens,
        "excluded": dict(own.left_out),
        "other_documents": None if other is None else len(other.documents),
        "other_document_tokens": None if others is None else others.n_tokens,
    }


def _without(config: ContextConfig, has_control: bool) -> list[str]:
    """Which placebos are missing, and what they need."""
    missing = [] if config.placebos.other else ["placebo other: name another author (context.placebos.other=<regex>)"]
    if config.placebos.other_target and not has_control:
        missing.append("placebo other_target: the target has no control (target.controls)")
    return missing


def _do(work: Work) -> None:
    run, prepared, config = work.run, work.prepared, work.config
    settings = prepared.settings
    reset_peak_memory()
    started = time.perf_counter()
    run.write_config(settings.plain)
    evaluation = settings.evaluation
    scores, models = {}, {}
    for name, source in work.models.items():
        print(f"scoring after contexts of {work.plan.lengths[0]} to {work.plan.lengths[-1]} tokens: {name}", flush=True)
        arrays = measure(
            load(source).model,
            work.plan,
            run.path / STAGE / name,
            piece=evaluation.reproduction.piece,
            chunk=evaluation.chunk,
        )
        scores |= {f"{name}/{kind}": logprob for kind, logprob in arrays.items()}
        models[name] = answer_of(arrays, work.plan.lengths, config.probabilities, config.rules)
    write_arrays(run.evaluation_dir / SCORES, scores)
    write_json(run.evaluation_dir / "context.json", {**work.about, "models": models})
    seconds, memory = time.perf_counter() - started, peak_memory_mb()
    with track(settings, run, work.identity, STAGE, STAGE, work.inputs, prepared.data) as tracking:
        run.write_manifest(STAGE, config_hash=work.identity, inputs=work.inputs, seconds=seconds, peak_memory_mb=memory)
        tracking.results()
    shutil.rmtree(run.path / STAGE, ignore_errors=True)  # all of it is in `SCORES` now
