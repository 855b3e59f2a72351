"""Train a small language model from scratch: the recipe of the embedded models and of any study's own.

A *row* is one text, from BOS to EOS, or a window of a document. Every epoch visits each sentence once, the target `target_repeats`
times and a share of the windows; rows of like length go together, as many to a batch as `batch_tokens` allows. The plan depends
on the seed and the rows alone.
"""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from menard_unlearn.corpus.batches import TokenItem, collate

Row = tuple[int, ...]


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


SORTED_TOGETHER = 1280
"""Rows among which those of like length are put together: enough to waste little on padding, few enough to stay mixed."""


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
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(architecture)


def plan(rows: Rows, config: PretrainConfig) -> list[list[Row]]:
    """All batches of all epochs, in order."""
    batches: list[list[Row]] = []
    for epoch in range(config.epochs):
        rng = random.Random(f"{config.seed}/{epoch}")
        seen = [w for n, w in enumerate(rows.windows) if (n + epoch) % config.epochs < config.document_epochs]
        order = [*rows.sentences, *seen]
        rng.shuffle(order)
        epoch_batches: list[list[Row]] = []
        for start in range(0, len(order), SORTED_TOGETHER):
            epoch_batches += _cut(sorted(order[start : start + SORTED_TOGETHER], key=len), config.batch_tokens)
        rng.shuffle(epoch_batches)
        batches += epoch_batches
    return batches


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
    """Keeps the loss of every step (nats a token, mean over the batch)."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:  # noqa: ANN001, ANN003 - transformers' own signature
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))


class MuonAdamW(torch.optim.Optimizer):
    """Muon on the matrices of the decoder layers, AdamW on embeddings and norms, as one optimizer.

    On the almanac it needs about a third of the steps of AdamW alone for the same recall.
    """

    def __init__(self, model: LlamaForCausalLM, config: PretrainConfig) -> None:
        inner = [p for p in model.model.layers.parameters() if p.ndim == 2]
        others = [p for p in model.parameters() if all(p is not q for q in inner)]
        # the update is scaled to the size of AdamW's, so that one learning rate serves both
        muon = torch.optim.Muon(
            inner, lr=config.learning_rate, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        adamw = torch.optim.AdamW(others, lr=config.learning_rate, weight_decay=0.0, betas=(0.9, 0.98))
        super().__init__([*inner, *others], {"lr": config.learning_rate})
        self.parts = (muon, adamw)
        self.param_groups = [dict(group) for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        own = [group for part in self.parts for group in part.param_groups]
        for scheduled, group in zip(self.param_groups, own, strict=True):
            # accelerate replaces this optimizer's groups, so the schedule acts on copies
            group["lr"] = scheduled["lr"]
        for part in self.parts:
            part.step()


def pretrain(
    rows: Rows, tokenizer: PreTrainedTokenizerBase, config: PretrainConfig, *, max_steps: int = -1
) -> tuple[LlamaForCausalLM, list[float]]:
    """Train on `rows` and return the model with the loss of each step. `max_steps` stops early, for tests of the first steps."""
    model = new_model(config, tokenizer)
    data = PlannedBatches(rows, config, int(tokenizer.pad_token_id))
    trace = LossTrace()
    with tempfile.TemporaryDirectory() as scratch:
        optimizer = MuonAdamW(model, config)
        Trainer(
            model=model,
            args=_arguments(config, scratch, max_steps),
            train_dataset=data,
            data_collator=_only,
            callbacks=[trace],
            optimizers=(optimizer, _schedule(optimizer, config, len(data))),
        ).train()
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
        disable_tqdm=False,
        seed=config.seed,
        data_seed=config.seed,
    )


def _schedule(
    optimizer: torch.optim.Optimizer, config: PretrainConfig, steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    def factor(step: int) -> float:
        return min(1.0, (step + 1) / config.warmup_steps) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
