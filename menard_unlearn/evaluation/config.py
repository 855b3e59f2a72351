"""How models are evaluated."""

from __future__ import annotations

from dataclasses import dataclass

from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.attribution_plan import AttributionConfig
from menard_unlearn.evaluation.dated_texts import SurprisalConfig
from menard_unlearn.evaluation.dating import DatingConfig
from menard_unlearn.evaluation.generation import GenerationConfig
from menard_unlearn.evaluation.harness.config import HarnessConfig
from menard_unlearn.evaluation.near_verbatim import NearVerbatimConfig
from menard_unlearn.evaluation.prompted import PromptedConfig
from menard_unlearn.evaluation.questions import QuestionsConfig
from menard_unlearn.evaluation.reproduction import ReproductionConfig
from menard_unlearn.evaluation.windows import ExtractionConfig
from menard_unlearn.statistics.cutoff import Rules


@dataclass(frozen=True)
class EvaluationConfig:
    """How models are evaluated."""

    batch_size: int
    """Sequences a forward pass."""
    chunk: int
    """Tokens that the head runs on at a time: chunk × vocabulary logits are held at once."""
    bootstrap: int
    """Replicates of a cutoff's interval, facts drawn with replacement."""
    null_bootstrap: int
    """Replicates of the test against steady drift; at least 1/alpha − 1, or nothing could ever be rejected."""
    alpha: float
    """Level of that test."""
    max_width: float
    """Widest interval, in years, of a cutoff that counts as pinned; also the fastest steady drift from 10% to 90%."""
    every: int
    """Steps between evaluations during training; 0 evaluates only at the end."""
    seed: int
    """Seed of the bootstraps."""
    questions: QuestionsConfig
    """The same facts asked for in other ways."""
    prompted: PromptedConfig
    """The base told that it lives at the cutoff."""
    surprisal: SurprisalConfig
    """Bits a byte by year (A4)."""
    dating: DatingConfig
    """Which year the model takes it to be (A6)."""
    generation: GenerationConfig
    """Free text, for anachronisms (A7) and fluency."""
    reproduction: ReproductionConfig
    """The target by likelihood (B1 to B4)."""
    extraction: ExtractionConfig
    """The target by windows (B5, B6)."""
    near_verbatim: NearVerbatimConfig
    """The target by what the model writes (B7)."""
    attribution: AttributionConfig
    """Memorized, or written afresh (C1 to C6)."""
    harness: HarnessConfig | None
    """Tasks of lm-eval; null for none."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "chunk", "bootstrap", "null_bootstrap", "max_width"):
            if getattr(self, name) <= 0:
                raise UserError(f"evaluation.{name}={getattr(self, name)} must be above 0")
        if self.every < 0:
            raise UserError(f"evaluation.every={self.every} must be 0 (only at the end) or a number of steps")
        if not 0 < self.alpha < 1:
            raise UserError(f"evaluation.alpha={self.alpha} must lie between 0 and 1, as 0.01")
        if 1 / (self.null_bootstrap + 1) > self.alpha:
            raise UserError(
                f"evaluation.null_bootstrap={self.null_bootstrap} can reject nothing at alpha={self.alpha}: "
                f"set it to {round(1 / self.alpha)} or more"
            )

    @property
    def rules(self) -> Rules:
        """What `statistics` needs of it."""
        return Rules(self.bootstrap, self.null_bootstrap, self.alpha, self.max_width, self.seed)
