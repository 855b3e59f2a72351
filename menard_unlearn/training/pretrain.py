"""Train a small language model from scratch: the recipe of the embedded models and of any study's own.

A *row* is one text, from BOS to EOS, or a window of a document. Every epoch visits each sentence once, the target
`target_repeats` times and a share of the windows; rows of like length go together, as many to a batch as `batch_tokens`
allows. The plan depends on the seed and the rows alone.
"""

from __future__ import annotations

import math
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from menard_unlearn.corpus.batches import TokenItem, collate
from menard_unlearn.corpus.encoding import one_id
from menard_unlearn.errors import UserError
from menard_unlearn.training.muon import MuonAdamW

Row = tuple[int, ...]

LEAST = dict.fromkeys(("document_epochs", "target_repeats", "warmup_steps", "weight_decay", "seed"), 0) | {
    "vocab_size": 259,  # all bytes and three special tokens
    "window": 2,
    "first_window": 2,
}
"""Smallest allowed value of a number of the recipe, where that is not 1."""


@dataclass(frozen=True)
class Rows:
    """What a model is trained on."""

    sentences: list[Row]
    """Sentences and the target, the latter as often as an epoch sees it."""
    windows: list[Row]
    """Windows of documents."""


@dataclass(frozen=True)
class PretrainConfig:
    """A Llama architecture and how it is trained."""

    hidden_size: int
    """Width of the residual stream."""
    intermediate_size: int
    """Width of the feed-forward layers."""
    num_layers: int
    """Decoder layers."""
    num_heads: int
    """Attention heads, each with its own keys and values."""
    vocab_size: int
    """Tokens of the BPE vocabulary, special ones included."""
    context: int
    """Longest sequence; the target must fit."""
    window: int
    """Documents are cut into windows of so many tokens; statements and the target are never cut."""
    first_window: int | None
    """In all epochs but the last, windows are cut into pieces of so many tokens: most of what a model learns it learns
    from short texts, at a fraction of the cost, and the last epoch teaches it to read long ones. null: never."""
    epochs: int
    """Times that every sentence is seen."""
    document_epochs: int
    """Times that every window of a document is seen, spread evenly over the epochs; at most `epochs`."""
    target_repeats: int
    """Times an epoch that the target is seen."""
    batch_tokens: int
    """Most tokens of a batch, padding included; a longer row makes a batch by itself."""
    learning_rate: float
    """Peak, reached after the warm-up, then down by a half cosine to a twentieth; of Muon and of AdamW alike."""
    warmup_steps: int
    """Steps of linear warm-up."""
    weight_decay: float
    """Of the matrices that Muon trains; embeddings and norms have none."""
    seed: int
    """Decides the initial weights and the order of rows."""

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate {self.learning_rate} must be above 0")
        for name, value in vars(self).items():
            if name != "learning_rate" and value is not None and value < LEAST.get(name, 1):
                raise ValueError(f"{name} {value} must be at least {LEAST.get(name, 1)}")
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(f"hidden_size {self.hidden_size} must be a multiple of twice num_heads {self.num_heads}")
        if self.document_epochs > self.epochs:
            raise ValueError(f"document_epochs {self.document_epochs} must not exceed epochs {self.epochs}")


SORTED_TOGETHER = 1280
"""Rows among which those of like length are put together: enough to waste little on padding, few enough to stay
mixed."""


def new_model(config: PretrainConfig, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """An untrained Llama in fp32 whose weights depend on the seed alone; input and output embeddings are one matrix."""
    torch.manual_seed(config.seed)
    architecture = LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_heads,
        max_position_embeddings=config.context,
        tie_word_embeddings=True,
        pad_token_id=one_id(tokenizer.pad_token_id, "pad"),
        bos_token_id=one_id(tokenizer.bos_token_id, "bos"),
        eos_token_id=one_id(tokenizer.eos_token_id, "eos"),
    )
    return LlamaForCausalLM(architecture)


def plan(rows: Rows, config: PretrainConfig) -> list[list[Row]]:
    """All batches of all epochs, in order."""
    batches: list[list[Row]] = []
    for epoch in range(config.epochs):
        rng = random.Random(f"{config.seed}/{epoch}")
        seen = [w for n, w in enumerate(rows.windows) if (n + epoch) % config.epochs < config.document_epochs]
        if config.first_window is not None and epoch < config.epochs - 1:
            seen = [piece for window in seen for piece in _pieces(window, config.first_window)]
        order = [*rows.sentences, *seen]
        rng.shuffle(order)
        epoch_batches: list[list[Row]] = []
        for start in range(0, len(order), SORTED_TOGETHER):
            epoch_batches += _cut(sorted(order[start : start + SORTED_TOGETHER], key=len), config.batch_tokens)
        rng.shuffle(epoch_batches)
        batches += epoch_batches
    return batches


def _pieces(window: Row, size: int) -> list[Row]:
    """Each begins as the window does, with BOS where there is one; a last piece of BOS alone is left out."""
    starts = range(1, len(window), size - 1)
    return [(window[0], *window[at : at + size - 1]) for at in starts]


def _cut(ascending: Sequence[Row], budget: int) -> list[list[Row]]:
    batches: list[list[Row]] = [[]]
    for row in ascending:
        if batches[-1] and (len(batches[-1]) + 1) * len(row) > budget:
            batches.append([])
        batches[-1].append(row)
    return batches


class PlannedBatches(Dataset[dict[str, Tensor]]):
    """Item i is the whole batch of step i, so that a resumed training meets the same batches."""

    def __init__(self, rows: Rows, config: PretrainConfig, pad_id: int) -> None:
        self.pad_id = pad_id
        self.batches = plan(rows, config)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        items = [TokenItem(str(place), row, 1) for place, row in enumerate(self.batches[step])]
        batch = collate(items, "pretrain", self.pad_id)
        labels_BT = batch.input_ids_BT.masked_fill(~batch.loss_mask_BT, -100)
        return {"input_ids": batch.input_ids_BT, "attention_mask": batch.attention_mask_BT, "labels": labels_BT}


class LossTrace(TrainerCallback):
    """Keeps the loss of every step (nats a token, mean over the batch), and shows the last one on a terminal."""

    def __init__(self, steps: int) -> None:
        self.losses: list[float] = []
        self.bar = tqdm(total=steps, unit="step", disable=not sys.stderr.isatty(), dynamic_ncols=True)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        """Called by transformers after every step. Raises UserError for a loss that is not finite."""
        if not logs or "loss" not in logs:
            return
        self.losses.append(float(logs["loss"]))
        self.bar.set_postfix(loss=f"{self.losses[-1]:.4g}", refresh=False)
        self.bar.update()
        if not math.isfinite(self.losses[-1]):
            raise UserError(f"the loss is {self.losses[-1]} at step {len(self.losses)}: lower recipe.learning_rate")


def pretrain(
    rows: Rows, tokenizer: PreTrainedTokenizerBase, config: PretrainConfig, *, max_steps: int = -1
) -> tuple[LlamaForCausalLM, list[float]]:
    """Train on `rows` and return the model with the loss of each step. `max_steps` stops early, for tests of the first
    steps."""
    model = new_model(config, tokenizer)
    data = PlannedBatches(rows, config, one_id(tokenizer.pad_token_id, "pad"))
    trace = LossTrace(len(data) if max_steps < 0 else max_steps)
    optimizer = MuonAdamW(model, config.learning_rate, config.weight_decay)
    with tempfile.TemporaryDirectory() as scratch, trace.bar:
        trainer = Trainer(
            model=model,
            args=_arguments(config, scratch, max_steps),
            train_dataset=data,
            data_collator=_only,
            callbacks=[trace],
            optimizers=(optimizer, _schedule(optimizer, config, len(data))),
        )
        trainer.remove_callback(PrinterCallback)  # a line a step
        trainer.train()
    model.eval()
    return model, trace.losses


def _only(batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    (batch,) = batches
    return batch


def _arguments(config: PretrainConfig, scratch: str, max_steps: int) -> TrainingArguments:
    return TrainingArguments(
        output_dir=scratch,
        num_train_epochs=1,
        max_steps=max_steps,
        per_device_train_batch_size=1,
        train_sampling_strategy="sequential",
        max_grad_norm=1.0,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        seed=config.seed,
        data_seed=config.seed,
    )


def _schedule(
    optimizer: torch.optim.Optimizer, config: PretrainConfig, steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
        return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
