"""`menard pretrain`: train a small model from scratch, with and without what will be forgotten.

Three variants answer three questions: *full* knows everything, *gold* never saw what came after the cutoff nor the
target, and *without_target* saw everything but the target. All share one tokenizer, one seed and one recipe.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import torch
from omegaconf import DictConfig
from transformers import PreTrainedTokenizerBase

from menard_unlearn.config import build
from menard_unlearn.corpus.split import SplitConfig
from menard_unlearn.corpus.study import StudyData, study_data
from menard_unlearn.errors import UserError
from menard_unlearn.files import canonical, digest_text, write_json
from menard_unlearn.models.tokenizer import train_tokenizer
from menard_unlearn.stages.card import card, write_card
from menard_unlearn.stages.data import VARIANTS, pretraining_rows, pretraining_texts
from menard_unlearn.stages.settings import Settings, the_target
from menard_unlearn.training.pretrain import PretrainConfig, Rows, pretrain

# The target is short beside the corpus: weighed like this its words become tokens too.
TARGET_WEIGHT_IN_TOKENIZER = 20


def recipe_tokenizer(data: StudyData, split_config: SplitConfig, recipe: PretrainConfig) -> PreTrainedTokenizerBase:
    """The tokenizer that all variants share, trained on everything."""
    sentences, documents = pretraining_texts(data, "full", split_config)
    target = [data.target] * TARGET_WEIGHT_IN_TOKENIZER if data.target is not None else []
    return train_tokenizer([*sentences, *documents, *target], recipe.vocab_size, recipe.context)


def variant_rows(
    variant: str, data: StudyData, split_config: SplitConfig, recipe: PretrainConfig, tokenizer: PreTrainedTokenizerBase
) -> Rows:
    """What a variant is trained on. Raises UserError where the target is longer than the context."""
    sentences, documents = pretraining_texts(data, variant, split_config)
    target = data.target if variant == "full" else None
    rows = pretraining_rows(tokenizer, sentences, documents, target, recipe)
    longest = max(len(row) for row in (*rows.sentences, *rows.windows))
    if longest > recipe.context:
        raise UserError(
            f"a row has {longest} tokens, the context {recipe.context}: set recipe.context={longest} or more"
        )
    return rows


def rows_digest(rows: Rows, recipe: PretrainConfig) -> str:
    """SHA-256 of everything that the weights depend on: the rows, repeats included, and the rest of the recipe."""
    own = ("target_repeats", "window", *(() if recipe.first_window else ("first_window",)))
    training = {key: value for key, value in vars(recipe).items() if key not in own}
    return digest_text(canonical({"sentences": rows.sentences, "windows": rows.windows, "recipe": training}))


def train_variant(variant: str, data: StudyData, split_config: SplitConfig, recipe: PretrainConfig, to: Path) -> Path:
    """Train one variant and store it in bf16 as `<to>/<variant>`; a variant of the same recipe and data is left as it
    is."""
    folder = to / variant
    tokenizer = recipe_tokenizer(data, split_config, recipe)
    rows = variant_rows(variant, data, split_config, recipe, tokenizer)
    inputs = rows_digest(rows, recipe)
    if (folder / "pretrain.json").is_file():
        if json.loads((folder / "pretrain.json").read_text(encoding="utf-8"))["inputs"] != inputs:
            raise UserError(
                f"{folder} was made by another recipe or from other data: delete it, or name another folder with to="
            )
        print(f"{variant}: {folder} is there already")
        return folder
    started = time.perf_counter()
    model, losses = pretrain(rows, tokenizer, recipe)
    aside = folder.with_name(f".{variant}.part")
    shutil.rmtree(aside, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(aside)  # pyright: ignore[reportArgumentType, reportCallIssue]
    tokenizer.save_pretrained(aside)
    record = {
        "variant": variant,
        "inputs": inputs,
        "sentences": len(rows.sentences),
        "windows": len(rows.windows),
        "steps": len(losses),
        "seconds": round(time.perf_counter() - started, 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "losses": [round(loss, 5) for loss in losses],
    }
    write_json(aside / "pretrain.json", record)
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    return folder


def main(cfg: DictConfig) -> None:
    """Train the variants that are not there yet, and measure each once on its stored weights."""
    settings = Settings.of(cfg)
    recipe = build(settings.plain["recipe"], PretrainConfig)
    unknown = [variant for variant in settings.plain["variants"] if variant not in VARIANTS]
    if unknown:
        raise UserError(f"variants={unknown} are unknown; allowed: {', '.join(VARIANTS)}")
    target = the_target(settings)
    data = study_data(settings.corpus.load(), settings.split, settings.wording, target.whole)
    to = Path(settings.plain["to"])
    for variant in settings.plain["variants"]:
        folder = train_variant(variant, data, settings.split, recipe, to)
        if not (folder / "card.json").is_file():
            write_json(folder / "card.json", card(folder, data, settings, target))
    write_card(to)
