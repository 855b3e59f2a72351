"""What has to be scored to tell a memorized text from one written afresh: variants of it, and passages of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.encoding import beginning, encode_text
from menard_unlearn.evaluation.edits import Edits, load_edits, read_edits
from menard_unlearn.evaluation.passages import Passage, Window, passage, reach, windows
from menard_unlearn.evaluation.target import Target
from menard_unlearn.evaluation.variants import variants

MIN_VARIANTS = 50
"""Fewer variants make no C3 and no C6."""


@dataclass(frozen=True)
class AttributionConfig:
    """How it is asked whether a text was memorized or written afresh."""

    max_tokens: int | None
    """C3 to C6 use at most this many tokens of each text, from its beginning; null: as many as the context holds."""
    variants: int
    """Versions of a text that it is compared with; with the text itself the candidates of C6."""
    edits_per_variant: int
    """Places edited in each; half of a text's places where it has fewer than twice this many."""
    key: str
    """Which places are edited follows from it."""
    edits: str | None
    """A CSV or TSV of from,to, or a folder or JSONL of whole alternative texts; null: the package's English rules."""
    original: str | None
    """A text file: the target as it was before `variants.plant` edited it with a secret key, `edits` and
    `edits_per_variant` being these. Variants are made from it then, and C6 is exact. null: nothing was planted."""
    windows: int
    """Passages of C4, evenly over the text."""
    window: int
    """Tokens of a passage."""
    prefix: int
    """Tokens before it, and of each other prefix."""
    other_prefixes: int
    """Other prefixes of a passage, from elsewhere in the text and from the other texts by turns."""
    ngram_order: int
    """Longest run of bytes that the n-gram model of C2 counts."""
    block: int
    """Tokens of a block of C2's bootstrap."""
    bootstrap: int
    """Replicates of it."""

    def __post_init__(self) -> None:
        if self.variants < MIN_VARIANTS:
            raise ValueError(f"variants {self.variants} are too few: give {MIN_VARIANTS} or more")
        if self.max_tokens is not None and self.max_tokens < 2:
            raise ValueError(f"max_tokens {self.max_tokens} leaves nothing to score: give 2 or more, or null")
        names = ("edits_per_variant", "windows", "window", "prefix", "other_prefixes", "ngram_order", "block")
        for name in (*names, "bootstrap"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be 1 or more")


@dataclass(frozen=True, eq=False)
class TextPlan:
    """What has to be scored of one text."""

    passage: Passage
    """Its beginning."""
    n_sites: int | None
    n_edits: int | None
    variants: tuple[TokenItem, ...]
    windows: tuple[Window, ...]
    left_out: tuple[str, ...]
    """What cannot be computed of it."""

    @property
    def items(self) -> list[TokenItem]:
        """All of it."""
        return [self.passage.item, *self.variants, *(item for window in self.windows for item in window.items)]


@dataclass(frozen=True, eq=False)
class AttributionPlan:
    """What has to be scored of the target and its controls."""

    texts: tuple[TextPlan, ...]
    """The target first."""

    @property
    def items(self) -> list[TokenItem]:
        """All of it."""
        return [item for text in self.texts for item in text.items]


def plan_attribution(
    tokenizer: PreTrainedTokenizerBase, target: Target, config: AttributionConfig, context: int | None
) -> AttributionPlan:
    """Edit the target and its controls and cut passages of them. `context` is the model's, in tokens.

    Raises UserError for an edits file or an original that cannot be read, or that is edited at too few places.
    """
    texts = (target, *target.controls)
    # A planted text is compared with versions of the whole original, so it is used whole itself.
    limits = [reach(None if config.original and text is target else config.max_tokens, context) for text in texts]
    passages = [passage(tokenizer, text, limit) for text, limit in zip(texts, limits, strict=True)]
    return AttributionPlan(
        tuple(_plan(tokenizer, text, passages, number, config, context) for number, text in enumerate(texts))
    )


def _plan(
    tokenizer: PreTrainedTokenizerBase,
    text: Target,
    passages: Sequence[Passage],
    number: int,
    config: AttributionConfig,
    context: int | None,
) -> TextPlan:
    """One text, the target being the first."""
    used = passages[number]
    found = _alternatives(text.language, used, config, is_target=number == 0)
    items = [encode_text(tokenizer, text.prompt, words, f"{text.name}~{n}") for n, words in enumerate(found.texts)]
    fitting = tuple(item for item in items if context is None or len(item.ids) <= context)
    cut = windows(
        passages,
        number,
        beginning(tokenizer),
        n=config.windows,
        length=config.window,
        prefix=config.prefix,
        n_others=config.other_prefixes,
    )
    reasons = [f"C3, C6 of {text.name}: {found.reason}"] if found.reason else []
    if not reasons and len(fitting) < MIN_VARIANTS:
        reasons = [f"C3, C6 of {text.name}: {len(fitting)} variants, {MIN_VARIANTS} are needed"]
    if not cut:
        reasons.append(f"C4 of {text.name}: needs a longer text, or lower attribution.prefix and attribution.window")
    return TextPlan(used, found.n_sites, found.n_edits, fitting, cut, tuple(reasons))


@dataclass(frozen=True)
class _Alternatives:
    """What a text is compared with."""

    texts: tuple[str, ...]
    n_sites: int | None
    """Places that the rules can edit; None without rules."""
    n_edits: int | None
    """Places edited in each; None without rules."""
    reason: str | None
    """Why there are none."""


def _alternatives(language: str, used: Passage, config: AttributionConfig, *, is_target: bool) -> _Alternatives:
    """Variants of the used part of a text, or a user's whole texts, which are the target's alone."""
    rules = load_edits(config.edits, language)
    if rules is None:
        return _none(f"no rules for language {language!r}, give attribution.edits=<csv>")
    if not isinstance(rules, Edits):
        if not is_target:
            return _none("whole alternative texts are the target's alone")
        others = tuple(dict.fromkeys(text for text in rules if text != used.text))
        return _none("needs the whole text in the context") if used.cut else _Alternatives(others, None, None, None)
    source, planted = used.text, config.original if is_target else None
    if planted is not None:
        if used.cut:
            return _none("attribution.original needs the whole text in the context")
        source = read_edits(Path(planted)).strip()
    n_sites = len(rules.sites(source))
    n_edits = config.edits_per_variant if planted is not None else min(config.edits_per_variant, n_sites // 2)
    if n_edits == 0:
        return _Alternatives((), n_sites, None, f"the rules can edit it at {n_sites} places")
    made = variants(source, config.key, config.variants, n_edits, rules)
    return _Alternatives(tuple(text for text in made if text != used.text), n_sites, n_edits, None)


def _none(reason: str) -> _Alternatives:
    return _Alternatives((), None, None, reason)
