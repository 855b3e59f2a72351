"""B7, near-verbatim reproduction: what a model writes on from a text's prompt and from places in it, against the text.

Two comparisons: exact, and after normalisation, since editions differ in punctuation, case and spacing, and a
text that is reproduced from another edition would else look like a miss. (Near-verbatim blocks: arXiv 2505.12546.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from menard_unlearn.corpus.encoding import beginning, encode_statement
from menard_unlearn.evaluation import overlap
from menard_unlearn.evaluation.target import Target
from menard_unlearn.evaluation.tokens import context_length, decoded
from menard_unlearn.evaluation.windows import texts_of, token_spans
from menard_unlearn.training.generation import Prompt, unwritable, write

KEYS = {
    "prefix": "tokens of the text that are given",
    "tokens": "tokens that are written at most",
    "samples": "samples for each beginning, at temperature 1 from the full softmax",
    "texts": "one entry a text, keys of TEXT_KEYS: the target, its editions, and its first control",
    "left_out": "what could not be measured, and why",
}
"""Key of near_verbatim.json → meaning and unit."""

TEXT_KEYS = {
    "role": "target, edition or control",
    "name": "what the configuration calls the text",
    "sha256": "SHA-256 of the text",
    "greedy": "over the greedy continuations, keys of SUMMARY_KEYS; null where there are none",
    "sampled": "over the samples, likewise",
    "written": "one entry a continuation, keys of WRITTEN_KEYS",
}
"""Key of an entry of `texts` → meaning and unit."""

SUMMARY_KEYS = {
    "n": "continuations",
    "exact": "keys of overlap.KEYS: the longest blocks of any continuation, which grow with n, and means of the rest",
    "normalised": "the same of the normalised texts",
}
"""Key of `greedy` and `sampled` → meaning and unit."""

WRITTEN_KEYS = {
    "given": "prompt: the text's prompt alone; text: `prefix` tokens of the text",
    "from_char": "character at which the text goes on after what is given",
    "sample": "number of the sample, from 0; null is greedy",
    "n_chars": "characters written",
    "agree_chars": "of these, those before the first that is not the text's",
    "exact": "keys of overlap.KEYS: blocks shared with all of the text after what is given, and the edit distance to "
    "its next as many tokens",
    "normalised": "the same of the normalised texts",
    "text": "what was written; only where the text is published",
}
"""Key of an entry of `written` → meaning and unit."""


@dataclass(frozen=True)
class NearVerbatimConfig:
    """What is written."""

    prefix: int
    """Tokens of the text that are given."""
    places: int
    """Places in the text to write on from: its beginning, and others at even distances."""
    tokens: int
    """Tokens to write at most; fewer where the text ends before."""
    samples: int
    """Samples for each beginning, besides the greedy continuation; 0 is none."""
    seed: int
    """Of the samples; each has random numbers of its own, the same for every model."""

    def __post_init__(self) -> None:
        for name, least in (("prefix", 1), ("places", 1), ("tokens", 1), ("samples", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"evaluation.near_verbatim.{name}={getattr(self, name)} must be {least} or more")


@dataclass(frozen=True, repr=False)
class Opening:
    """What a continuation is written from, and what it is read against."""

    given: str
    """prompt or text."""
    ids: tuple[int, ...]
    """BOS and what is given."""
    from_char: int
    rest: str
    """The text after what is given."""
    aligned: str
    """As much of it as n_new tokens are."""
    n_new: int


@dataclass(frozen=True, repr=False)
class Asked:
    """One continuation."""

    text: int
    """Number of the text."""
    opening: Opening
    sample: int | None
    """None is greedy."""
    id: str
    """What a sample's random numbers depend on."""


def near_verbatim(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    target: Target,
    config: NearVerbatimConfig,
    *,
    batch_size: int,
) -> dict:
    """What goes into near_verbatim.json.

    Special tokens are never written, so that no model escapes by ending. Blocks are sought in what follows the given
    tokens: a model that only repeats these shows none, one that knows other parts by heart does. Set phrases make
    blocks, too: read the target beside the control.
    """
    texts = [(role, text) for role, text in texts_of(target) if role != "control" or text in target.controls[:1]]
    asked: list[Asked] = []
    left_out: list[str] = []
    for number, (role, text) in enumerate(texts):
        openings, reasons = _openings(tokenizer, text, config, context_length(model), prompted=role != "control")
        left_out += [f"B7 of {role} {text.name!r}{reason}" for reason in reasons]
        asked += [
            Asked(number, opening, sample, f"near-verbatim/{config.seed}/{number}/{place}/{sample}")
            for place, opening in enumerate(openings)
            for sample in (None, *range(config.samples))
        ]
    written = _write(model, tokenizer, asked, batch_size)
    rows = [(one, _row(tokenizer, one, written[one.id])) for one in asked]
    settings = {name: getattr(config, name) for name in ("prefix", "tokens", "samples")}
    found = [_describe(role, text, [row for one, row in rows if one.text == n]) for n, (role, text) in enumerate(texts)]
    return {**settings, "texts": found, "left_out": left_out}


def _openings(
    tokenizer: PreTrainedTokenizerBase, text: Target, config: NearVerbatimConfig, context: int | None, *, prompted: bool
) -> tuple[list[Opening], list[str]]:
    """Where to write on from, and why from some places not."""
    lead, ids = beginning(tokenizer), tokenizer.encode(text.text, add_special_tokens=False, verbose=False)
    given = [("text", (*lead, *ids[at : at + config.prefix]), at + config.prefix) for at in _places(len(ids), config)]
    reasons = [] if given else [f": its {len(ids)} tokens are not more than the {config.prefix} that are given"]
    if prompted and text.prompt:
        item = encode_statement(tokenizer, text.prompt, text.text, text.name)
        given.append(("prompt", item.ids[: item.n_prompt], 0))
    elif prompted:
        reasons.append(" from its prompt: it has none")
    spans, found = token_spans(tokenizer, text.text, ids), []
    for kind, before, at in given:
        n_new = min(config.tokens, len(ids) - at, len(ids) if context is None else context - len(before))
        if n_new > 0:
            start, end = spans[at][0], spans[at + n_new - 1][1]
            found.append(Opening(kind, before, start, text.text[start:], text.text[start:end], n_new))
        else:
            reasons.append(f" after {len(before)} tokens: the model's context is {context}")
    return found, reasons


def _places(n_tokens: int, config: NearVerbatimConfig) -> list[int]:
    """First tokens of what is given; where the text is long enough, `tokens` of it follow each."""
    if n_tokens <= config.prefix:
        return []
    furthest = max(0, n_tokens - config.prefix - config.tokens)
    return sorted({round(place) for place in np.linspace(0, furthest, config.places).tolist()})


def _write(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, asked: Sequence[Asked], batch_size: int
) -> dict[str, tuple[int, ...]]:
    banned = unwritable(tokenizer, model.config.get_text_config(decoder=True).vocab_size)
    written: dict[str, tuple[int, ...]] = {}
    for temperature in (0.0, 1.0):
        prompts = [
            # `first` shuts out one token more, here one that is shut out anyway.
            Prompt(one.id, one.opening.ids, one.opening.n_new, banned[0])
            for one in asked
            if (one.sample is None) == (temperature == 0)
        ]
        written |= write(model, prompts, banned, temperature, batch_size)
    return written


def _row(tokenizer: PreTrainedTokenizerBase, asked: Asked, new: tuple[int, ...]) -> dict:
    """Keys of `WRITTEN_KEYS`, the text among them."""
    opening = asked.opening
    # Decoded with what comes before: alone, the first token would lose the space that some tokenizers put before it.
    text = decoded(tokenizer, (*opening.ids, *new))[len(decoded(tokenizer, opening.ids)) :]
    agree = next((n for n, (own, right) in enumerate(zip(text, opening.rest, strict=False)) if own != right), None)
    return {
        "given": opening.given,
        "from_char": opening.from_char,
        "sample": asked.sample,
        "n_chars": len(text),
        "agree_chars": min(len(text), len(opening.rest)) if agree is None else agree,
        "exact": overlap.compare(text, opening.rest, opening.aligned),
        "normalised": overlap.compare(*map(overlap.normalised, (text, opening.rest, opening.aligned))),
        "text": text,
    }


def _describe(role: str, text: Target, rows: Sequence[dict]) -> dict:
    return {
        "role": role,
        "name": text.name,
        "sha256": text.sha256,
        "greedy": _summary([row for row in rows if row["sample"] is None]),
        "sampled": _summary([row for row in rows if row["sample"] is not None]),
        "written": [row if text.publish else {key: row[key] for key in row if key != "text"} for row in rows],
    }


def _summary(rows: Sequence[dict]) -> dict | None:
    if not rows:
        return None
    return {"n": len(rows), **{kind: _pooled([row[kind] for row in rows]) for kind in ("exact", "normalised")}}


def _pooled(compared: Sequence[dict]) -> dict:
    """The longest blocks, and the means of shares and distances that there are."""
    longest = {key: max(one[key] for one in compared) for key in ("block_chars", "block_words")}
    found = {key: [one[key] for one in compared if one[key] is not None] for key in ("share_in_blocks", "distance")}
    return {**longest, **{key: sum(values) / len(values) if values else None for key, values in found.items()}}
