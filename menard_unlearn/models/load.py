"""Load a causal language model and its tokenizer, and say by its contents which model it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as hf_logging

from menard_unlearn.corpus.encoding import check_tokenizer
from menard_unlearn.errors import UserError
from menard_unlearn.files import digest_files
from menard_unlearn.models.architecture import auto_class

# A bar that is full at once says nothing; downloads have bars of their own.
hf_logging.disable_progress_bar()

EMBEDDED = Path(__file__).parent / "embedded"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class ModelSource:
    """Where a model is, and where its references are."""

    name: str
    """Short name for tables and file names."""
    path: str
    """A folder, a Hugging Face id, or `embedded:full`, `embedded:gold`, `embedded:without_target`."""
    gold: str | None
    """A model of the same recipe that never saw what is to be forgotten; null where there is none."""
    without_target: str | None
    """A model of the same recipe that saw everything but the target, its editions and quotations; null where there is
    none."""
    revision: str | None
    """Branch, tag or commit of a Hugging Face id; null is its default branch."""
    dtype: str
    """Of the weights in memory: float32, bfloat16 or float16. Trained tensors are fp32 whatever this says."""
    attn_implementation: str | None
    """As transformers names it (sdpa, eager, flash_attention_2); null lets transformers choose."""
    pad_token: str | None
    """Token to pad with where the tokenizer names none; null keeps the tokenizer's own."""

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UserError(f"model.dtype {self.dtype!r} is unknown; allowed: {', '.join(DTYPES)}")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for use."""

    model: PreTrainedModel
    """In evaluation mode, on the GPU where there is one."""
    tokenizer: PreTrainedTokenizerBase
    """Pads on the right with a token that means nothing else."""
    identity: str
    """SHA-256 of the files of a folder, or `<id>@<commit>` of a Hugging Face model."""


def resolve(path: str) -> str:
    """The folder of an embedded model, an existing folder, or the id unchanged. Raises UserError for a folder that is
    not there."""
    if path.startswith("embedded:"):
        folder = EMBEDDED / path.removeprefix("embedded:")
        if not folder.is_dir():
            shipped = ", ".join(f"embedded:{p.name}" for p in sorted(EMBEDDED.iterdir()) if p.is_dir())
            raise UserError(f"model.path {path!r} is not shipped; there are: {shipped or 'none'}")
        return str(folder)
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"model.path {path!r} holds no config.json: give the folder of a saved model")
        return str(folder)
    if path.startswith((".", "/", "~")) or path.count("/") > 1:
        raise UserError(f"model.path {path!r} does not exist: give a folder, a Hugging Face id, or model=embedded")
    return path


def identity(source: ModelSource) -> str:
    """Which model this is, without loading it: by the contents of a folder, by the commit of a Hugging Face id."""
    where = resolve(source.path)
    folder = Path(where)
    if folder.is_dir():
        return digest_files(sorted(p for p in folder.iterdir() if p.suffix in {".safetensors", ".json"}))
    commit = getattr(load_config(source), "_commit_hash", None)  # what the branch or tag stands for now
    return f"{where}@{commit or source.revision or 'main'}"


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """The tokenizer, padding on the right. Raises UserError where it cannot pad, or pads with a token that means
    something else."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(**_where(source))
    except (OSError, ValueError, ImportError) as error:
        raise UserError(not_loaded("tokenizer", source, error)) from error
    if source.pad_token is not None:
        if source.pad_token not in tokenizer.get_vocab():
            raise UserError(f"model.pad_token {source.pad_token!r} is not in the vocabulary: name a token that is")
        tokenizer.pad_token = source.pad_token
    tokenizer.padding_side = "right"
    check_tokenizer(tokenizer)
    return tokenizer


def load_config(source: ModelSource) -> PretrainedConfig:
    """The configuration alone, which says what a model is before any weight is read."""
    try:
        return AutoConfig.from_pretrained(**_where(source))
    except (OSError, ValueError) as error:
        raise UserError(not_loaded("configuration", source, error)) from error


def context_of(config: PretrainedConfig) -> int | None:
    """The longest sequence in tokens; None where the configuration sets no limit."""
    return getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)


def load(source: ModelSource) -> LoadedModel:
    """Load model and tokenizer, on the GPU where there is one. Raises UserError where they are not to be had."""
    tokenizer = load_tokenizer(source)
    config = load_config(source)
    try:
        model = auto_class(config).from_pretrained(
            **_where(source),
            config=config,
            dtype=DTYPES[source.dtype],
            attn_implementation=source.attn_implementation,
        )
    except (OSError, ValueError, ImportError) as error:
        raise UserError(not_loaded("model", source, error)) from error
    return LoadedModel(placed(model), tokenizer, identity(source))


def placed(model: PreTrainedModel) -> PreTrainedModel:
    """The model in evaluation mode, on the GPU where there is one."""
    # `.to` of a PreTrainedModel is annotated too narrowly for a plain string
    model = model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))  # pyright: ignore[reportArgumentType]
    return model.eval()


def _where(source: ModelSource) -> dict[str, Any]:
    """What every loader of transformers is told. Who the user is, it finds by itself: HF_TOKEN or `hf auth login`.
    A model's own code is never run."""
    return {
        "pretrained_model_name_or_path": resolve(source.path),
        "revision": source.revision or "main",
        "trust_remote_code": False,
    }


def not_loaded(what: str, source: ModelSource, error: BaseException) -> str:
    """One line that says why something of this model could not be loaded, and what to do."""
    begun = f"the {what} of model.path {source.path!r} cannot be loaded"
    causes = list(_causes(error))
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        return (
            f"{begun} (gated): accept its terms at huggingface.co/{source.path}, then `hf auth login` or set HF_TOKEN"
        )
    if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        return f"{begun} (unknown, or private): check the id; for a private one `hf auth login` or set HF_TOKEN"
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "trust_remote_code" in str(error):
        return f"{begun} (it brings code of its own, which is never run): give a model that transformers knows"
    return f"{begun} ({reason}): give a folder, or an id in reach"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
