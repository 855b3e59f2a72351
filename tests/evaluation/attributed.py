"""The settings and texts of the tests of attribution."""

from __future__ import annotations

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from menard_unlearn.evaluation.attribution import measure_attribution
from menard_unlearn.evaluation.attribution_plan import AttributionConfig, plan_attribution
from menard_unlearn.evaluation.target import Target
from menard_unlearn.models.scores import score

CONFIG = AttributionConfig(
    max_tokens=None,
    variants=63,
    edits_per_variant=6,
    key="k",
    edits=None,
    original=None,
    windows=4,
    window=8,
    prefix=8,
    other_prefixes=5,
    ngram_order=3,
    block=50,
    bootstrap=400,
)
ENGLISH = (
    "Everyone remembers the grey harbour, but nobody knows which of the eleven clerks wrote it. "
    "Perhaps he did not begin to write until he reached the shore; perhaps the colour of the sea and the fog did. "
    "In the end he wrote twenty-six lines upon a page."
)
OTHER = (
    "Nobody asked the neighbour, although the rumour was older than the theatre. The two sailors could not "
    "recognise the cargo, nor did they begin to search among the rooms until the morning was grey."
)


def measured(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: Target,
    config: AttributionConfig = CONFIG,
    *,
    batch_size: int = 16,
) -> dict:
    """What is found of a text and its controls."""
    plan = plan_attribution(tokenizer, text, config, 512)
    return measure_attribution(plan, score(model, plan.items, batch_size=batch_size, chunk=64, padding=0))
