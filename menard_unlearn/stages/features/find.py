"""`menard features`: from a model's activations to the feature of an author, and how much of it helps."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.errors import UserError
from menard_unlearn.features.activations import collect
from menard_unlearn.features.causal import rerank
from menard_unlearn.features.clamp import fitted
from menard_unlearn.features.dose import dose_response
from menard_unlearn.features.dose_config import DoseTexts
from menard_unlearn.features.hooks import special_ids
from menard_unlearn.features.interchange import load_sae, save_sae
from menard_unlearn.features.pooling import PooledActivations, pooled
from menard_unlearn.features.ranking import live_features, rank
from menard_unlearn.features.sae import Sae
from menard_unlearn.features.sae_lens import download
from menard_unlearn.features.sae_metrics import measure_sae, measure_scale
from menard_unlearn.features.sae_source import LoadedSae, PublishedSae, TrainedSae
from menard_unlearn.features.sae_training import OnLog, train_sae
from menard_unlearn.files import from_here, write_json
from menard_unlearn.models.load import LoadedModel, load
from menard_unlearn.run import RunDir
from menard_unlearn.stages.features.job import FeaturesJob
from menard_unlearn.stages.features.told import tell_dose, tell_ranking, tell_sae
from menard_unlearn.stages.told import RunTracking

MEASURED = 200
"""Windows that the autoencoder's figures are taken from."""


def place(job: FeaturesJob) -> RunDir:
    """Where the run lies."""
    return job.place("features")[1]


def do(job: FeaturesJob) -> None:
    """Train or load the autoencoder, rank its features, sweep the dose of the one that is chosen."""
    identity, run = job.place("features")
    with job.tracked("features", run, identity) as tracking:
        started = time.perf_counter()
        print(f"{run.path}\n{_describe(job)}", flush=True)
        loaded = load(job.settings.model)
        special = special_ids(loaded.model, loaded.tokenizer)
        sae = _sae(job, run, loaded, special, tracking)
        read = pooled(loaded.model, sae, job.pieces, special, job.activations.batch_size)
        found = _rank(job, run, loaded, sae, read, special)
        if found["chosen"] is not None:
            _dose(job, run, loaded, sae, found["chosen"], live_features(read, job.pieces, job.ranking), special)
        job.finish(run, identity, time.perf_counter() - started, tracking)
    shutil.rmtree(run.path / "activations", ignore_errors=True)  # a manifest says that nothing is left to resume
    print(from_here(run.path), flush=True)


def sae_folder(run: RunDir) -> Path:
    """Where the autoencoder of a run lies, in the interchange format."""
    return run.path / "sae"


def _describe(job: FeaturesJob) -> str:
    counts = job.pieces.counts()
    sides = (
        f"  {side:<8} {n['pieces_own']} pieces of {n['works_own']} works by {job.authors.author}, "
        f"{n['pieces_others']} of {n['authors_others']} other authors"
        for side, n in counts.items()
    )
    left = [f"  left out: {line}" for line in job.authors.left_out]
    return "\n".join([*sides, *left])


def _sae(job: FeaturesJob, run: RunDir, loaded: LoadedModel, special: frozenset[int], tracking: RunTracking) -> Sae:
    """The run's own, from its folder, or trained or read now; its figures go into sae.json."""
    folder, config = sae_folder(run), job.activations
    items = job.training_items()
    if not items:
        raise UserError("the autoencoder has no text to read: name a corpus with texts, or sae_texts=[authors]")
    random.Random(config.seed).shuffle(items)
    n_held = min(MEASURED, max(1, len(items) // 10))
    held, used = items[:n_held], items[n_held:] or items
    if (folder / "cfg.json").is_file():
        sae = load_sae(folder)
    else:
        sae = _made(job, run, loaded, used, special, tracking)
        save_sae(sae, folder)
    figures = measure_sae(
        loaded.model,
        sae,
        held,
        special=special,
        batch_size=config.batch_size,
        chunk=job.settings.evaluation.chunk,
    )
    write_json(run.evaluation_dir / "sae.json", figures)
    print(tell_sae(sae, figures), flush=True)
    return fitted(loaded.model, sae)


def _made(
    job: FeaturesJob,
    run: RunDir,
    loaded: LoadedModel,
    items: Sequence[TokenItem],
    special: frozenset[int],
    tracking: RunTracking,
) -> Sae:
    source, config = job.sae, job.activations
    if isinstance(source, TrainedSae):
        key = f"{loaded.identity}-{job.settings.model.dtype}"
        shards = collect(
            loaded.model,
            items,
            layer=job.layer,
            special=special,
            config=config,
            folder=run.path / "activations" / "shards",
            key=key,
        )
        return train_sae(
            shards,
            source,
            layer=job.layer,
            model_name=job.settings.model.path,
            on_log=_log(run, tracking),
            resume=run.path / "activations",
        )
    if isinstance(source, PublishedSae):
        sae = load_sae(download(source.release, source.sae_id, run.path / "activations" / "published"))
    elif isinstance(source, LoadedSae):
        sae = load_sae(Path(source.path))
    else:
        raise UserError(f"sae={type(source).__name__} is no source: sae=batch_topk, topk, jumprelu, load or published")
    sae.refuse_other_layer(job.settings.plain["layer"])
    sae = fitted(loaded.model, sae)
    if sae.max_F is not None:
        return sae
    return measure_scale(loaded.model, sae, items, special=special, batch_size=config.batch_size)


def _log(run: RunDir, tracking: RunTracking) -> OnLog:
    """What keeps a training's rows; its first one ends what a killed session told beyond its checkpoint."""
    begun = False

    def log(step: int, values: Mapping[str, float]) -> None:
        nonlocal begun
        if not begun:
            run.truncate_history(step - 1)
            begun = True
        row = {"step": step, **values}
        run.append_history(row)
        tracking.log(row)

    return log


def _rank(
    job: FeaturesJob, run: RunDir, loaded: LoadedModel, sae: Sae, read: PooledActivations, special: frozenset[int]
) -> dict:
    config, evaluation = job.ranking, job.settings.evaluation
    found = rerank(
        loaded.model,
        sae,
        rank(read, job.pieces, config),
        read,
        job.pieces,
        config,
        special=special,
        batch_size=evaluation.batch_size,
        chunk=evaluation.chunk,
    )
    write_json(run.evaluation_dir / "features.json", found)
    print(tell_ranking(found), flush=True)
    return found


def _dose(
    job: FeaturesJob,
    run: RunDir,
    loaded: LoadedModel,
    sae: Sae,
    feature: int,
    live: Sequence[int],
    special: frozenset[int],
) -> None:
    control_P = job.pieces.on("heldout") & ~job.pieces.own_P
    texts = DoseTexts(
        target=job.prepared.target,
        controls=job.pieces.items("heldout", own=False),
        control_cluster=job.pieces.cluster_P[control_P].tolist(),
        own=job.pieces.items("train", own=True),
        other=job.pieces.items("train", own=False),
    )
    response = dose_response(
        loaded.model,
        loaded.tokenizer,
        sae,
        feature,
        texts,
        live,
        special,
        job.dose,
    )
    write_json(run.evaluation_dir / "dose_response.json", response)
    print(tell_dose(response), flush=True)
