"""Which tasks of lm-eval a model is scored on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HarnessConfig:
    """Tasks and how much of them. Raises ValueError for a value that is not allowed."""

    tasks: tuple[str, ...]
    """Tasks, groups or tags as `lm_eval ls tasks` names them; `menard_utility` is shipped and needs no network."""
    limit: int | float | None
    """Documents of each task, or below 1 the share of them; null takes all."""
    num_fewshot: int | None
    """Solved examples before each question; null leaves it to the task. Tasks that set 0 keep it."""
    batch_size: int
    """Sequences a forward pass. lm-eval holds the logits of all their tokens at once."""

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("harness.tasks is empty: name tasks, or choose harness=none")
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"harness.tasks {', '.join(self.tasks)} names one twice: leave it out")
        if self.limit is not None and (self.limit <= 0 or (self.limit >= 1 and self.limit != int(self.limit))):
            raise ValueError(f"harness.limit={self.limit} must be a whole number, a share below 1, or null")
        if self.num_fewshot is not None and self.num_fewshot < 0:
            raise ValueError(f"harness.num_fewshot={self.num_fewshot} must be 0 or more, or null")
        if self.batch_size < 1:
            raise ValueError(f"harness.batch_size={self.batch_size} must be 1 or more")
