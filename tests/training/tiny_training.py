"""A tiny random model, items of unequal length, and the configuration of each method: what the tests train."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from transformers import LlamaConfig, LlamaForCausalLM

from menard_unlearn.config import build, conf_dir
from menard_unlearn.corpus.batches import TokenBatch, TokenItem, UnlearnBatch, collate, pack
from menard_unlearn.corpus.encoding import Encoder
from menard_unlearn.corpus.pairs import PairedDataset
from menard_unlearn.methods.base import Method, Recipe
from menard_unlearn.methods.kinds import Wrapper
from menard_unlearn.run import RunDir
from menard_unlearn.training.config import TrainerConfig
from menard_unlearn.training.frozen import FrozenModel
from menard_unlearn.training.loop import TrainResult, train
from menard_unlearn.training.lora import LoraConfig
from menard_unlearn.training.trained import copies, prepare

METHODS = sorted(path.stem for path in (conf_dir() / "method").glob("*.yaml"))
PAD = 0
ENCODER = Encoder(PAD, (1,), lambda text: tuple(3 + ord(letter) % 61 for letter in text))


def tiny_model(seed: int = 0, layers: int = 8, vocabulary: int = 64, width: int = 16) -> LlamaForCausalLM:
    """Eight layers, because that is how many RMU's published layer needs."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        initializer_range=0.3,
        pad_token_id=PAD,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config).eval()


def items(n: int, side: str, vocabulary: int = 64) -> list[TokenItem]:
    """Lengths from 4 to 12, prompts of 1 to 3 tokens, BOS first."""
    letters = sum(map(ord, side))
    generator = torch.Generator().manual_seed(letters)
    made = []
    for i in range(n):
        length = 4 + (5 * i + letters) % 9
        ids = torch.randint(3, vocabulary, (length - 1,), generator=generator).tolist()
        made.append(TokenItem(f"{side}-{i}", (1, *ids), 1 + i % 3))
    return made


def others(forget: list[TokenItem], vocabulary: int = 64) -> list[TokenItem]:
    """Another answer to the prompt of each, two tokens longer."""
    made = []
    for item in forget:
        generator = torch.Generator().manual_seed(sum(item.ids))
        answer = torch.randint(3, vocabulary, (len(item.ids) - item.n_prompt + 2,), generator=generator)
        made.append(TokenItem(item.id, (*item.ids[: item.n_prompt], *answer.tolist()), item.n_prompt))
    return made


def tiny_batch(n: int = 4, pad_to: int | None = None) -> UnlearnBatch:
    return pair(items(n, "forget"), items(n, "retain"), pad_to)


def pair(forget: list[TokenItem], retain: list[TokenItem], pad_to: int | None = None) -> UnlearnBatch:
    """Padded, with an alternate side, which most methods leave alone."""
    sides = {"forget": forget, "retain": retain, "alternate": others(forget)}
    return UnlearnBatch(*(collate(side, name, PAD, pad_to) for name, side in sides.items()))


def packed(forget: list[TokenItem], retain: list[TokenItem]) -> UnlearnBatch:
    """The same, packed."""
    sides = {"forget": forget, "retain": retain, "alternate": others(forget)}
    return UnlearnBatch(*(pack(side, name, PAD) for name, side in sides.items()))


def clamp(node: DictConfig, last_layer: int) -> DictConfig:
    """A method or wrapper with its layers within the model's."""
    if "layer" in node:
        node.layer = min(node.layer, last_layer)
    if "layers" in node:
        node.layers = list(dict.fromkeys(min(layer, last_layer) for layer in node.layers))
    if "method" in node:
        clamp(node.method, last_layer)
    return node


def method_config(name: str, last_layer: int = 7, **trainer: Any) -> tuple[Recipe, TrainerConfig]:
    """The recipe and trainer as `method=<name>` composes them, with some of the trainer's values replaced."""
    preset = OmegaConf.load(conf_dir() / "method" / f"{name}.yaml")
    default = OmegaConf.load(conf_dir() / "trainer" / "default.yaml")
    merged = OmegaConf.merge(default, preset.trainer, OmegaConf.create(trainer))
    assert isinstance(merged, DictConfig)
    return build(clamp(preset.method, last_layer), Recipe), build(merged, TrainerConfig)


def wrapper(name: str, last_layer: int = 7) -> Wrapper:
    preset = OmegaConf.load(conf_dir() / "wrapper" / f"{name}.yaml")
    return build(clamp(preset.wrapper, last_layer), Wrapper)


@dataclasses.dataclass
class Bench:
    """A method on a tiny model whose trained tensors have already moved away from the base."""

    model: LlamaForCausalLM
    method: Method
    config: TrainerConfig
    frozen: FrozenModel
    trained: dict[str, torch.nn.Parameter]


FULL = "+full"
"""Marks a case whose preset trains adapters and that is to train the tensors themselves."""


def cases() -> list[str]:
    """Each preset, or each of its phases that descends as <preset>:<phase>; with adapters also without them."""
    found = []
    for name in METHODS:
        recipe, config = method_config(name)
        phases = [phase for phase in recipe.phases() if phase.method is not None]
        found += [name] if len(phases) == 1 else [f"{name}:{phase.name}" for phase in phases]
        found += [] if config.lora is None else [f"{name}{FULL}"]
    return found


CASES = cases()


def bench(case: str, moved: float = 0.02, lora: LoraConfig | None = None) -> Bench:
    """A case on its bench; with `lora` in place of the preset's."""
    name, _, wanted = case.removesuffix(FULL).partition(":")
    recipe, config = method_config(name)
    if lora is not None or case.endswith(FULL):
        config = dataclasses.replace(config, lora=lora)
    phase = next(p for p in recipe.phases() if p.method is not None and wanted in ("", p.name))
    assert phase.method is not None
    model, sample = tiny_model(), collate(items(8, "retain"), "retain", PAD)
    trained = prepare(model, config.trained, config.frozen, config.lora)
    frozen = FrozenModel(model, copies(trained), sample, ENCODER)
    if phase.reference == "gold":
        frozen = FrozenModel(tiny_model(seed=1), {}, sample, ENCODER)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in trained.values():
            parameter += moved * torch.randn(parameter.shape, generator=generator)
    return Bench(model, phase.method, config, frozen, trained)


def elsewhere(
    model: torch.nn.Module, originals: Mapping[str, torch.Tensor], sample: TokenBatch, encoder: Encoder
) -> FrozenModel:
    """A base other than the model at the first step: where both are one, the gradient of some losses is rounding, of
    which AdamW makes steps as long as any other."""
    return FrozenModel(model, moved(originals), sample, encoder)


def moved(originals: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {name: value + 0.05 * torch.randn(value.shape, generator=generator) for name, value in originals.items()}


def near(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    """Whether two histories say the same up to rounding."""
    return [
        {
            key: value if isinstance(value, str) else pytest.approx(value, rel=1e-5, abs=1e-5)
            for key, value in row.items()
        }
        for row in expected
    ] == found


QUICK: dict[str, Any] = {
    "learning_rate": 1e-3,
    "max_steps": 8,
    "batch_size": 4,
    "checkpoint_every": 3,
    "trained": [r"\.layers\.[012]\.mlp\.down_proj\.weight$"],
}


def tiny_train(folder: Path, method: str | Recipe = "npo", **changes: Any) -> TrainResult:
    """A quick training in `folder`; `hooks` are train's own arguments, the rest are the trainer's values.

    Adapters, where the preset has them, sit beside the matrices that QUICK trains.
    """
    hooks = {"on_log": None, "on_evaluate": None, "evaluate_every": 0, "model": None} | changes.pop("hooks", {})
    changes = {"last_layer": 2} | QUICK | changes
    recipe, config = method_config(method if isinstance(method, str) else "npo", **changes)
    if config.lora is not None:
        config = dataclasses.replace(config, lora=dataclasses.replace(config.lora, targets=tuple(changes["trained"])))
    if isinstance(method, Recipe):
        recipe = method
    model, forget = hooks.pop("model") or tiny_model(layers=3), items(11, "forget")
    alternates = {item.id: item for item in others(forget)} if recipe.alternates() is not None else None
    length = config.max_steps * config.batch_size + 5
    dataset = PairedDataset(forget, items(7, "retain"), length, 3, alternates)
    if any(phase.reference == "gold" for phase in recipe.phases()):
        hooks = {"gold": tiny_model(seed=1, layers=3)} | hooks
    return train(model, recipe, dataset, ENCODER, config, RunDir(folder), **({"seed": 0} | hooks))
