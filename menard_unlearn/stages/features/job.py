"""What `menard features` is told, checked before any work starts, and the models and texts that all its actions use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from menard_unlearn.config import build
from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.encoding import encode_document, whole_length
from menard_unlearn.corpus.works import Authors, AuthorsData, apart_from
from menard_unlearn.errors import UserError
from menard_unlearn.features.activations import ActivationsConfig
from menard_unlearn.features.dose_config import DoseConfig
from menard_unlearn.features.dsg import GuardrailConfig
from menard_unlearn.features.interchange import load_sae
from menard_unlearn.features.pieces import Pieces, pieces
from menard_unlearn.features.pooling import refuse_long
from menard_unlearn.features.ranking import RankingConfig
from menard_unlearn.features.sae_lens import refuse_without_extra
from menard_unlearn.features.sae_source import LoadedSae, PublishedSae, SaeSource, TrainedSae
from menard_unlearn.files import digest_files
from menard_unlearn.memory import peak_memory_mb, reset_peak_memory
from menard_unlearn.models.architecture import check_layer, depth
from menard_unlearn.models.load import context_of, load_config, load_tokenizer
from menard_unlearn.run import RunDir, run_id
from menard_unlearn.stages.data import pretraining_texts
from menard_unlearn.stages.job import prepared_once
from menard_unlearn.stages.logging import track
from menard_unlearn.stages.settings import Prepared, Settings
from menard_unlearn.stages.told import RunTracking

FOUND_BY = ("model", "authors", "activations", "sae", "ranking", "dose", "layer", "sae_texts", "target", "evaluation")
"""What the result of `find` depends on, beside contents; corpus and split as far as the autoencoder reads them."""
SOURCES = ("authors", "corpus")
WINDOW = 256
"""Tokens of a window of a text that the autoencoder is trained on, or of the model's context where that is less."""


@dataclass(frozen=True)
class FeaturesJob:
    """Built from a configuration by `FeaturesJob.of`."""

    prepared: Prepared
    authors: AuthorsData
    """Without works that quote the target."""
    activations: ActivationsConfig
    sae: SaeSource
    ranking: RankingConfig
    dose: DoseConfig
    guardrail: GuardrailConfig
    layer: int
    """Decoder layer, from 0."""
    sae_digest: str | None
    """Of the files of an autoencoder that the user gives."""
    n_features: int | None
    """Of the autoencoder; None of one that has yet to be fetched."""

    @classmethod
    def of(cls, config: Mapping[str, Any], known: dict[str, Any]) -> FeaturesJob:
        """Build and read everything. Raises UserError at the first that is wrong."""
        settings = Settings.of(config)
        plain = settings.plain
        parts = {
            "activations": build(plain["activations"], ActivationsConfig),
            "sae": build(plain["sae"], SaeSource),
            "ranking": build(plain["ranking"], RankingConfig),
            "dose": build(plain["dose"], DoseConfig),
            "guardrail": build(plain["guardrail"], GuardrailConfig),
        }
        _refuse_sources(plain["sae_texts"])
        source = build(plain["authors"], Authors)
        model = load_config(settings.model)
        layer = depth(model) // 2 if plain["layer"] is None else plain["layer"]
        if not isinstance(layer, int):
            raise UserError(f"layer={layer!r} is no number: give a decoder layer from 0, as layer=2, or null")
        check_layer(model, layer)
        prepared = prepared_once(settings, known)
        authors = source.load()
        for text in (prepared.target, *prepared.target.editions):
            authors = apart_from(authors, text.whole)
        given = _given(parts["sae"], model, settings.model.path, plain["layer"])
        job = cls(prepared, authors, **parts, layer=layer, sae_digest=given[0], n_features=given[1])
        job._refuse_late()
        return job

    def _refuse_late(self) -> None:
        """Raise UserError for what would come out after a training: texts that the model's window does not hold."""
        window, text = context_of(load_config(self.settings.model)), self.prepared.target
        refuse_long(self.pieces, window)
        self.dose.openings.refuse_unfit(window, self.tokenizer)
        if window is None or self.dose.stride is not None:
            return
        if (needed := whole_length(self.tokenizer, text.whole)) > window:
            raise UserError(
                f"target {text.name!r} has {needed} tokens with its start, the model's window holds {window}: give "
                f"a shorter text (target.path), or score it in overlapping windows (dose.stride={max(1, window // 2)})"
            )

    @property
    def settings(self) -> Settings:
        """As they were given."""
        return self.prepared.settings

    @property
    def inputs(self) -> dict[str, str]:
        """Digests of contents by name."""
        given = {} if self.sae_digest is None else {"sae": self.sae_digest}
        return {**self.prepared.inputs, "authors": self.authors.digest, **given}

    def place(self, name: str, **more: Any) -> tuple[str, RunDir]:
        """Id and directory of a run of that name, which depends on what `find` does and on `more`."""
        plain = self.settings.plain
        config = {key: plain[key] for key in FOUND_BY} | {"layer": self.layer, **more}
        if "corpus" in plain["sae_texts"] or more:
            config |= {key: plain[key] for key in ("corpus", "split", "wording")}
        identity = run_id(config, self.inputs)
        return identity, RunDir(self.settings.study_dir / f"{name}-{identity[:8]}")

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The base model's."""
        return load_tokenizer(self.settings.model)

    @cached_property
    def pieces(self) -> Pieces:
        """The authors' works in pieces, divided."""
        return pieces(self.authors, self.tokenizer, self.ranking.pieces)

    def training_items(self) -> list[TokenItem]:
        """What the autoencoder is trained on: windows of the authors' works, of the corpus, or of both.

        Authors are no labels here. Nothing that quotes the target is among them.
        """
        texts: list[str] = []
        if "authors" in self.settings.plain["sae_texts"]:
            texts += [work.text for work in (*self.authors.own, *self.authors.others)]
        if "corpus" in self.settings.plain["sae_texts"]:
            sentences, documents = pretraining_texts(self.prepared.data, "without_target", self.settings.split)
            texts += [*sentences, *documents]
        longest = min(WINDOW, context_of(load_config(self.settings.model)) or WINDOW)
        windows = (encode_document(self.tokenizer, text, str(number), longest) for number, text in enumerate(texts))
        return [item for found in windows for item in found]

    @contextmanager
    def tracked(self, name: str, run: RunDir, identity: str) -> Iterator[RunTracking]:
        """Hold the run's directory, keep its configuration, and track it."""
        with run.attempt():
            run.write_config(self.settings.plain)
            reset_peak_memory()
            inputs = self.inputs
            with track(self.settings, run, identity, name, "features", inputs, self.prepared.data) as tracking:
                yield tracking

    def finish(self, run: RunDir, identity: str, seconds: float, tracking: RunTracking) -> None:
        """Declare the run finished, then tell its results."""
        memory = peak_memory_mb()
        run.write_manifest("features", config_hash=identity, inputs=self.inputs, seconds=seconds, peak_memory_mb=memory)
        tracking.results()


def _given(source: SaeSource, model: PretrainedConfig, name: str, layer: int | None) -> tuple[str | None, int | None]:
    """The digest of an autoencoder that is read from a folder, and how many features there are or will be.

    Raises UserError where it will not do for the model, or reads another layer than was asked for.
    """
    width = int(model.get_text_config(decoder=True).hidden_size)
    if isinstance(source, TrainedSae):
        return None, source.n_features(width)
    if isinstance(source, PublishedSae):
        refuse_without_extra()
    if not isinstance(source, LoadedSae):
        return None, None
    folder = Path(source.path)
    sae = load_sae(folder)
    sae.refuse_unfit(width, depth(model), name)
    sae.refuse_other_layer(layer)
    digest = digest_files(path for path in folder.iterdir() if path.suffix in {".json", ".safetensors"})
    return digest, sae.n_features


def _refuse_sources(given: Any) -> None:
    if not isinstance(given, list) or not given or set(given) - set(SOURCES):
        raise UserError(f"sae_texts={given} must name one or more of {', '.join(SOURCES)}, as sae_texts=[authors]")
