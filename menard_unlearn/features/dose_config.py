"""Which doses of a feature are tried, on which texts, and against what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.evaluation.target import Target
from menard_unlearn.features.coherence import OpeningsConfig


@dataclass(frozen=True)
class DoseConfig:
    """Which doses are tried, and against what."""

    strengths: tuple[float, ...]
    """k: clamps in units of a feature's largest activation; below 0 against it."""
    n_random_features: int
    """Random live features beside it, at least 10."""
    n_random_directions: int
    """Random directions beside it, at least 10."""
    openings: OpeningsConfig
    """What the model writes for its coherence."""
    coherence_limit: float
    """Nats a token by which C may exceed the unclamped model's."""
    significance: float
    """Largest p-value, of the rank among all random controls, at which a feature counts as better than they."""
    block: int
    """Tokens of a block of the target's bootstrap."""
    bootstrap: int
    """Replicates of it."""
    stride: int | None
    """As `evaluation.reproduction.stride`, for a target beyond the model's context; null refuses it."""
    piece: int
    """Tokens of the target that the model reads at a time."""
    batch_size: int
    """Texts that are read or written at once."""
    chunk: int
    """Tokens that the head is applied to at a time."""
    seed: int
    """Of random features, directions and the bootstrap."""

    def __post_init__(self) -> None:
        if not self.strengths or len({*self.strengths, 0}) <= len(self.strengths):
            raise ValueError(
                f"strengths={list(self.strengths)} must be different doses other than 0, as dose.strengths=[0.5,1]"
            )
        for name in ("n_random_features", "n_random_directions"):
            if getattr(self, name) < 10:
                raise ValueError(f"{name}={getattr(self, name)} must be 10 or more: fewer say nothing of chance")
        for name in ("block", "bootstrap", "piece", "batch_size", "chunk"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")
        least = 1 / (1 + self.n_random_features + self.n_random_directions)
        if not least <= self.significance < 1:
            raise ValueError(
                f"significance={self.significance} must lie between {least:.3f} and 1: with so many controls"
                " a smaller p-value cannot be"
            )


@dataclass(frozen=True, eq=False)
class DoseTexts:
    """What doses are tried on."""

    target: Target
    controls: Sequence[TokenItem]
    """Texts that the feature should not help, none of them among the pieces below."""
    control_cluster: Sequence[int]
    """Number of the author of each: what one wrote is drawn as one in a bootstrap."""
    own: Sequence[TokenItem]
    """The author's pieces that the feature was chosen on: the difference of means and the size of doses are theirs."""
    other: Sequence[TokenItem]
    """The other authors' pieces, likewise."""

    def __post_init__(self) -> None:
        if len(self.control_cluster) != len(self.controls):
            n, n_controls = len(self.control_cluster), len(self.controls)
            raise ValueError(f"{n} clusters of {n_controls} control texts: give one for each")
