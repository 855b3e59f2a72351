"""Models are found, named by their contents, and refused in one line where they will not do."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from safetensors import safe_open
from tiny_training import tiny_model
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from menard_unlearn.errors import UserError
from menard_unlearn.models.load import EMBEDDED, ModelSource, context_of, identity, load, load_config, load_tokenizer
from menard_unlearn.models.tokenizer import train_tokenizer

VARIANTS = ("full", "gold", "without_target")
EMBEDDED_SOURCE = ModelSource("embedded", "embedded:full", None, None, None, "float32", None, None)


def source(path: Path | str, **changes: str | None) -> ModelSource:
    made = ModelSource("tiny", str(path), None, None, None, "float32", None, None)
    return dataclasses.replace(made, **changes)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model; no test may change it."""
    path = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer(["a few words"], vocab_size=259, context=32)
    tiny_model(layers=2, vocabulary=259).bfloat16().save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_a_folder_is_loaded_in_the_dtype_asked_for(folder: Path) -> None:
    loaded = load(source(folder))
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32} and not loaded.model.training
    assert loaded.tokenizer.padding_side == "right" and loaded.identity == identity(source(folder))
    half = load(source(folder, dtype="bfloat16")).model
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    assert context_of(load_config(source(folder))) == 32


def test_the_identity_is_that_of_the_contents(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("notes change nothing")
    assert identity(source(tmp_path / "copy")) == identity(source(folder)) and len(identity(source(folder))) == 64
    config = tmp_path / "copy" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"rms_norm_eps": 1e-5}))
    assert identity(source(tmp_path / "copy")) != identity(source(folder))


def test_a_branch_is_the_commit_that_it_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    config = LlamaConfig()
    monkeypatch.setattr("menard_unlearn.models.load.load_config", lambda source: config)
    assert identity(source("someone/model", revision="v2")) == "someone/model@v2"
    config._commit_hash = "0a1b2c"
    assert identity(source("someone/model", revision="v2")) == "someone/model@0a1b2c"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("./nothing/here", r"model.path './nothing/here' does not exist: give a folder, a Hugging Face id"),
        ("/nothing", r"'/nothing' does not exist"),
        ("a/b/c", r"'a/b/c' does not exist"),
        ("embedded:ful", r"'embedded:ful' is not shipped; there are: embedded:full, embedded:gold, embedded:without"),
        ("nobody/nothing", r"the tokenizer of model.path 'nobody/nothing' cannot be loaded"),
        ("not a name!", r"the tokenizer of model.path 'not a name!' cannot be loaded"),
    ],
)
def test_what_is_not_there_is_named(path: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load(source(path))
    assert "\n" not in str(caught.value)


def test_a_folder_that_holds_no_model(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no config.json: give the folder of a saved model"):
        load(source(tmp_path))
    shutil.copy(folder / "config.json", tmp_path)
    with pytest.raises(UserError, match=r"the tokenizer of model.path .* cannot be loaded"):
        load(source(tmp_path))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, tmp_path)
    with pytest.raises(UserError, match=r"the model of model.path .* cannot be loaded"):
        load(source(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"the configuration of model.path .* cannot be loaded"):
        load_config(source(tmp_path))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            GatedRepoError,
            r"\(gated\): accept its terms at huggingface.co/some/model, then `hf auth login` or set HF_TOKEN",
        ),
        (
            RepositoryNotFoundError,
            r"\(unknown, or private\): check the id; for a private one `hf auth login` or set HF_T",
        ),
        (HfHubHTTPError, r"\(\w[\w ]+\): give a folder, or an id in reach"),
    ],
)
@pytest.mark.parametrize("wrapped", [True, False])
def test_who_may_not_read_a_model_is_told_to_log_in(
    kind: type[HfHubHTTPError], message: str, wrapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers wraps what the hub answers in errors of its own, and not always alike."""

    def refuse(**_: object) -> None:
        answer = kind.__new__(kind, "some words\nand more")  # made by hand, as the real one wants a whole response
        if not wrapped:
            raise answer
        raise OSError("some words\nand more") from answer

    monkeypatch.setattr("menard_unlearn.models.load.AutoTokenizer.from_pretrained", refuse)
    monkeypatch.setattr("menard_unlearn.models.load.AutoConfig.from_pretrained", refuse)
    for what, function in (("tokenizer", load), ("configuration", load_config)):
        with pytest.raises(
            UserError, match=rf"the {what} of model.path 'some/model' cannot be loaded {message}"
        ) as caught:
            function(source("some/model"))
        assert "\n" not in str(caught.value)


def test_a_models_own_code_is_never_run(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(
        UserError, match=r"brings code of its own, which is never run\): give a model that transformers"
    ):
        load_config(source(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_revision_and_attention_are_passed_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    real = AutoModelForCausalLM.from_pretrained

    def note(**kwargs: Any) -> object:
        told.append(kwargs)
        return real(**kwargs)

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", note)
    loaded = load(source(folder, revision="v2", attn_implementation="eager"))
    assert loaded.model.config._attn_implementation == "eager"
    assert told[0]["revision"] == "v2" and told[0]["trust_remote_code"] is False and "token" not in told[0]


def test_unknown_dtypes_are_refused_with_the_choices(folder: Path) -> None:
    with pytest.raises(UserError, match=r"model.dtype 'float8' is unknown; allowed: float32, bfloat16, float16"):
        source(folder, dtype="float8")


def test_a_tokenizer_without_pad_is_refused_until_a_token_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    tokenizer = train_tokenizer(["a few words"], vocab_size=259, context=32)
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, bos_token="<s>", eos_token="</s>")
    bare.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"has no pad token: name an unused token, model.pad_token=<token>"):
        load_tokenizer(source(tmp_path))
    assert load_tokenizer(source(tmp_path, pad_token="<pad>")).pad_token_id == 0
    with pytest.raises(UserError, match=r"model.pad_token '<pdd>' is not in the vocabulary"):
        load_tokenizer(source(tmp_path, pad_token="<pdd>"))
    with pytest.raises(UserError, match=r"pads with its end-of-sequence token '</s>'.*model.pad_token=<token>"):
        load_tokenizer(source(tmp_path, pad_token="</s>"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_shipped_models_are_small_stored_in_bf16_and_used_in_fp32(variant: str) -> None:
    weights = EMBEDDED / variant / "model.safetensors"
    assert weights.stat().st_size <= 6e6 and sum(p.stat().st_size for p in weights.parent.iterdir()) <= 6e6
    with safe_open(weights, framework="pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118
    loaded = load(dataclasses.replace(EMBEDDED_SOURCE, path=f"embedded:{variant}"))
    parameters = dict(loaded.model.named_parameters())
    assert {parameter.dtype for parameter in parameters.values()} == {torch.float32}
    assert sum(parameter.numel() for parameter in parameters.values()) <= 2.5e6
    assert loaded.tokenizer.pad_token_id != loaded.tokenizer.eos_token_id


def test_shipped_models_differ_in_weights_alone() -> None:
    tokenizers = {(EMBEDDED / variant / "tokenizer.json").read_bytes() for variant in VARIANTS}
    configs = {(EMBEDDED / variant / "config.json").read_bytes() for variant in VARIANTS}
    weights = {(EMBEDDED / variant / "model.safetensors").read_bytes() for variant in VARIANTS}
    assert (len(tokenizers), len(configs), len(weights)) == (1, 1, 3)
