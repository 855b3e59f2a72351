"""Where a sparse autoencoder comes from: trained here, read from a folder, or published. Values; others act on them."""

from __future__ import annotations

from dataclasses import dataclass

from menard_unlearn.errors import UserError


@dataclass(frozen=True)
class SaeSource:
    """One of `TrainedSae` (by its kinds), `LoadedSae` and `PublishedSae`."""


@dataclass(frozen=True)
class LoadedSae(SaeSource):
    """A folder in the interchange format."""

    path: str
    """Folder that holds cfg.json and sae_weights.safetensors."""


@dataclass(frozen=True)
class PublishedSae(SaeSource):
    """An SAE that sae-lens knows by name; needs the extra `sae` and a network."""

    release: str
    """As in the table of sae-lens, or a Hugging Face repository."""
    sae_id: str
    """Which of the release's SAEs: its layer, width and sparsity."""


@dataclass(frozen=True)
class TrainedSae(SaeSource):
    """What every kind of training needs; activations are scaled to a mean norm of √D meanwhile."""

    expansion: float
    """Features per number of the residual stream: F = expansion · D, rounded down."""
    k: int
    """Active features a token, on average (batch_topk, jumprelu) or at most (topk)."""
    steps: int
    """Steps of Adam."""
    batch_size: int
    """Tokens a step."""
    learning_rate: float
    """Adam's, at its highest."""
    warm_up: float
    """Share of the steps in which the rate grows from nothing."""
    decay: float
    """Share of the steps, at the end, in which it falls to nothing, along a line."""
    max_grad_norm: float
    """Longer gradients are shortened to this."""
    dead_after_tokens: int
    """A feature that has not fired for so many tokens is dead."""
    seed: int
    """Of the first weights and of the order of tokens."""
    log_every: int
    """Steps from one record to the next."""
    checkpoint_every: int
    """Steps from one checkpoint to the next."""

    def __post_init__(self) -> None:
        for name in ("expansion", "k", "steps", "batch_size", "learning_rate", "max_grad_norm"):
            if getattr(self, name) <= 0:
                raise UserError(f"sae.{name} {getattr(self, name)} must be above 0")
        for name in ("dead_after_tokens", "log_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise UserError(f"sae.{name} {getattr(self, name)} must be 1 or more")
        if min(self.warm_up, self.decay) < 0 or self.warm_up + self.decay > 1:
            raise UserError(
                f"sae.warm_up {self.warm_up} and sae.decay {self.decay} are shares of the steps: "
                "0 or more each, 1 at most together"
            )

    def n_features(self, width: int) -> int:
        """F for a stream of this width. Raises UserError where k of them would not be fewer."""
        found = int(self.expansion * width)
        if self.k >= found:
            raise UserError(f"sae.k {self.k} asked of {found} features: give a smaller k or a larger sae.expansion")
        return found


@dataclass(frozen=True)
class TopK(TrainedSae):
    """The k largest of each token (arXiv 2406.04093); dead features are taught what the others leave (AuxK)."""

    aux_weight: float
    """Weight of that lesson; 1/32 in the paper, 0 for none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.aux_weight < 0:
            raise UserError(f"sae.aux_weight {self.aux_weight} must be 0 or more")


@dataclass(frozen=True)
class BatchTopK(TopK):
    """The k·N largest of a batch of N tokens (arXiv 2412.06410); used afterwards with one threshold, as jumprelu."""

    threshold_decay: float
    """Of the running mean of the least activation that was kept, which becomes the threshold. Slow ones lag behind
    in short trainings: 0.95 is a memory of 20 steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.threshold_decay < 1:
            raise UserError(f"sae.threshold_decay {self.threshold_decay} must lie from 0 to below 1")


@dataclass(frozen=True)
class JumpRelu(TrainedSae):
    """A threshold a feature, learned through straight-through estimators (arXiv 2407.14435)."""

    sparsity_weight: float
    """Of (L0/k − 1)², beside the squared error per number of the stream. About a target, it needs no search."""
    sparsity_warm_up: float
    """Share of the steps in which that weight grows from nothing."""
    bandwidth: float
    """Half of it on either side of a threshold is where the estimators see it."""
    first_threshold: float
    """What every threshold begins at."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("sparsity_weight", "bandwidth", "first_threshold"):
            if getattr(self, name) <= 0:
                raise UserError(f"sae.{name} {getattr(self, name)} must be above 0")
        if not 0 <= self.sparsity_warm_up <= 1:
            raise UserError(f"sae.sparsity_warm_up {self.sparsity_warm_up} is a share of the steps: 0 to 1")
