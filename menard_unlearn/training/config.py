"""What the trainer can be told. Light to import: nothing here needs transformers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from menard_unlearn.errors import UserError
from menard_unlearn.training.lora import LoraConfig


@dataclass(frozen=True)
class StopRule:
    """Stop when a term has gone further than a model that knows nothing would take it."""

    term: str
    """Name of one of the method's terms, as logged (weighted and normalised)."""
    factor: float
    """Stop after the step at which |term| exceeds this many times ln V, the nats a token that a uniform guess costs."""

    def __post_init__(self) -> None:
        if self.factor <= 0:
            raise ValueError(f"stop.factor {self.factor} must be above 0")

    def reason(self, terms: Mapping[str, float], vocabulary: int, step: int) -> str | None:
        """Why to stop after this step, or None. Raises UserError where the method has no such term."""
        if self.term not in terms:
            raise UserError(f"trainer.stop.term {self.term!r} is no term of this method, which has {', '.join(terms)}")
        value, bound = terms[self.term], self.factor * math.log(vocabulary)
        if abs(value) <= bound:
            return None
        return f"{self.term} {value:.4g} passed {self.factor:g} × ln V = {bound:.4g} nats at step {step}"


@dataclass(frozen=True)
class TrainerConfig:
    """How the trained tensors are descended. Values mean the same on any number of processes."""

    learning_rate: float
    """Peak of the schedule."""
    optimizer: Literal["adamw", "sgd"]
    """AdamW (betas 0.9 and 0.999, eps 1e-8), or plain steps along the gradient, without momentum."""
    max_steps: int
    """Optimizer steps, the schedule's length."""
    batch_size: int
    """Forget/retain pairs in one optimizer step, over all micro-batches and processes."""
    accumulation: int
    """Micro-batches in one optimizer step; batch_size must be divisible by this times the number of processes."""
    schedule: Literal["constant", "linear", "cosine"]
    """Learning rate after the warm-up: kept, or brought to 0 at max_steps along a line or half a cosine."""
    warmup_steps: int
    """Optimizer steps in which the learning rate rises from 0; never divided by the number of processes."""
    weight_decay: float
    """Decay of the trained matrices, AdamW's decoupled one or sgd's part of the gradient; not of norms and biases."""
    max_grad_norm: float | None
    """Clip the gradient's norm over the trained tensors, all together; null does not clip."""
    trained: tuple[str, ...]
    """Regular expressions, searched in parameter names; what one matches is trained and the rest is frozen."""
    frozen: tuple[str, ...]
    """Regular expressions of tensors that are never trained, whatever `trained` and `lora` say; those that match
    nothing are fine. Routers of mixtures of experts: what they choose is not what is to be forgotten."""
    lora: LoraConfig | None
    """Train low-rank adapters of some matrices instead; `trained` is then not consulted."""
    packing: bool
    """Put several short items into a row, where they do not see each other, instead of padding them."""
    kl_top_k: int | None
    """KL references keep the base's so many likeliest tokens, and all others as one; null: whole distributions."""
    dtype: str
    """Of the trained tensors, whatever the model is loaded in: "float32", others are refused with the reason."""
    checkpoint_every: int
    """Steps between checkpoints; 0 saves one only when the run is interrupted."""
    stop: StopRule | None
    """When to stop before max_steps."""
    best_metric: str | None
    """Name of an evaluated number (without eval/): its best weights are the result. null: the last ones are."""
    best_mode: Literal["min", "max"]
    """Which end of best_metric is best; the earliest wins a tie."""
    max_memory_gb: float | None
    """Refuse to load what a process is estimated to need more than (1 GB = 10⁹ bytes); null: what the machine has
    available."""
    processes: int | None
    """Processes that train together on this machine, each with a share of every batch; null: one a visible GPU. Of a
    job on several machines so many on each."""
    sharding: Literal["none", "fsdp2"]
    """Whether every process has the whole model and optimizer, or (FSDP2) a part of each. Files are the same."""

    def __post_init__(self) -> None:
        for name in ("max_steps", "batch_size", "accumulation", "processes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} {value} must be at least 1")
        for name in ("warmup_steps", "checkpoint_every", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)} must not be below 0")
        for name in ("learning_rate", "max_grad_norm", "max_memory_gb"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} {value} must be above 0")
        if self.dtype != "float32":
            raise ValueError(BF16_REASON.format(dtype=self.dtype))
        if self.warmup_steps >= self.max_steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} must be fewer than max_steps {self.max_steps}")
        targets = () if self.lora is None else self.lora.targets
        for name, patterns in (("trained", self.trained), ("frozen", self.frozen), ("lora.targets", targets)):
            check_patterns(name, patterns)

    def share(self, processes: int) -> int:
        """Pairs in a micro-batch of one of so many processes. Raises UserError where they do not divide."""
        parts = self.accumulation * processes
        if self.batch_size % parts:
            raise UserError(
                f"batch_size {self.batch_size} is not divisible by accumulation {self.accumulation} times "
                f"{processes} processes: set trainer.batch_size to a multiple of {parts}"
            )
        return self.batch_size // parts

    def metric(self, metrics: Mapping[str, float | None]) -> float | None:
        """The number that the best weights are chosen by; None where there is no rule or it could not be measured."""
        if self.best_metric is None:
            return None
        if self.best_metric not in metrics:
            raise UserError(f"trainer.best_metric {self.best_metric!r} is not among the evaluated {', '.join(metrics)}")
        return metrics[self.best_metric]

    def better(self, value: float, than: float | None) -> bool:
        """Whether the value beats the best one so far."""
        return than is None or (value > than if self.best_mode == "max" else value < than)


def check_patterns(name: str, patterns: Sequence[str]) -> None:
    """Raise ValueError for what is no regular expression."""
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{name} pattern {pattern!r} is no regular expression: {error}") from error


BF16_REASON = (
    "dtype {dtype!r} is refused for trained tensors: AdamW's steps at small learning rates are below its rounding, "
    "so most weights never move; write trainer.dtype=float32 (what is frozen may stay bf16)"
)
