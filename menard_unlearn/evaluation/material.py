"""What a study asks of every model, and what of it goes through a model in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.documents import Document, Fact
from menard_unlearn.corpus.statements import StatementSet, Templates
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.attribution_plan import AttributionPlan, plan_attribution
from menard_unlearn.evaluation.config import EvaluationConfig
from menard_unlearn.evaluation.dated_texts import SurprisalPlan, dated_texts, plan_surprisal
from menard_unlearn.evaluation.dating import DatingPlan, plan_dating
from menard_unlearn.evaluation.heat import HeatPlan, plan_heat
from menard_unlearn.evaluation.items import Probe, SplitName, probe_items
from menard_unlearn.evaluation.questions import QuestionPlan, plan_questions
from menard_unlearn.evaluation.residue import ResiduePlan, plan_residue
from menard_unlearn.evaluation.target import Target
from menard_unlearn.evaluation.tokens import context_length
from menard_unlearn.evaluation.utility import LONGEST, texts_items
from menard_unlearn.evaluation.windows import ExtractionPlan, plan_extraction


@dataclass(frozen=True, eq=False)
class Material:
    """The words of an evaluation, divided at the cutoff."""

    probes: tuple[Probe, ...]
    facts: tuple[Fact, ...]
    wording: StatementSet
    templates: Templates
    side: Mapping[str, SplitName]
    """Id of a fact → its side."""
    documents: tuple[Document, ...]
    retain_texts: tuple[str, ...]
    """Held-out text that should still be known."""
    neutral_texts: tuple[str, ...]
    """Text without a date."""
    history: tuple[str, ...]
    """Text up to the cutoff, without the target: what an n-gram model is trained on."""
    target: Target | None
    cutoff_year: int
    """Facts of this year and of those before it are before the cutoff."""


@dataclass(frozen=True, eq=False)
class Plan:
    """All sequences that a model is asked to score, by the instrument that reads them."""

    probes: tuple[TokenItem, ...]
    retain: tuple[tuple[TokenItem, ...], ...]
    """The windows of each retained text."""
    questions: QuestionPlan
    residue: ResiduePlan
    surprisal: SurprisalPlan
    dating: DatingPlan
    windows: ExtractionPlan | None
    """None without a target, as the two below."""
    heat: HeatPlan | None
    attribution: AttributionPlan | None

    @classmethod
    def of(
        cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, material: Material, config: EvaluationConfig
    ) -> Plan:
        """Raises UserError where a sequence is longer than the model's context."""
        context, target = context_length(model), material.target
        longest = min(context or LONGEST, LONGEST)
        texts = dated_texts(material.documents, material.probes, config.surprisal)
        windows = None if target is None else plan_extraction(tokenizer, target, config.extraction, context)
        plan = cls(
            probes=tuple(probe_items(tokenizer, material.probes)),
            retain=texts_items(tokenizer, material.retain_texts, longest),
            questions=plan_questions(
                tokenizer,
                material.facts,
                material.wording,
                material.templates,
                material.side,
                config.questions,
                material.cutoff_year,
            ),
            residue=plan_residue(tokenizer, material.cutoff_year),
            surprisal=plan_surprisal(tokenizer, texts, config.surprisal, longest),
            dating=plan_dating(tokenizer, config.dating),
            windows=windows,
            heat=None if windows is None else plan_heat(tokenizer, windows, longest),
            attribution=None if target is None else plan_attribution(tokenizer, target, config.attribution, context),
        )
        plan.refuse_longer_than(context)
        return plan

    @cached_property
    def parts(self) -> dict[str, list[TokenItem]]:
        """Instrument → what it reads; the windows aside, which want their top-k probabilities too."""
        parts = {
            "probes": list(self.probes),
            "retain": [item for windows in self.retain for item in windows],
            "questions": self.questions.items,
            "residue": self.residue.items,
            "surprisal": self.surprisal.items,
            "dating": self.dating.items,
        }
        if self.heat is not None and self.windows is not None:
            windows = {(item.ids, item.n_prompt) for item in self.windows.items}
            parts["heat"] = [item for item in self.heat.items if (item.ids, item.n_prompt) not in windows]
        if self.attribution is not None:
            parts["attribution"] = self.attribution.items
        return parts

    def refuse_longer_than(self, context: int | None) -> None:
        """Raises UserError for the first instrument that asks for more tokens than there are positions."""
        for name, items in self.parts.items():
            longest = max((len(item.ids) for item in items), default=0)
            if context is not None and longest > context:
                raise UserError(
                    f"{name} asks for {longest} tokens at once, the model's context is {context}: shorten the facts or "
                    f"texts that it is made of, or its settings under evaluation.{name}"
                )
