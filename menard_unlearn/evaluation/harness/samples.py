"""What our own tasks ask, document by document, and lm-eval's logged samples as the tables of this package."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.encoding import beginning, encode_statement
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.harness.requests import Request, request
from menard_unlearn.evaluation.harness.study import Study
from menard_unlearn.evaluation.items import ItemScore, Probe
from menard_unlearn.evaluation.target import Target
from menard_unlearn.evaluation.tokens import token_bytes

MEASURED = ("correct", "logprob", "n_tokens")
"""Fields of an item score that its probe does not have."""


@dataclass(frozen=True)
class Asked:
    """A document of a task and its request."""

    doc: dict[str, Any]
    request: Request


def asked_probes(study: Study) -> list[Asked]:
    """The probes of a study, or as many of them, evenly spaced, as its metadata says under `probes`."""
    probes = _spaced(study.probes(), study.metadata.get("probes"))
    labels = [field.name for field in fields(ItemScore) if field.name not in MEASURED]
    found = []
    for probe in probes:
        encoded = encode_statement(study.tokenizer, probe.prompt, probe.answer, probe.id)
        own = request(study.tokenizer, encoded, probe.prompt, probe.answer, study.limit)
        texts = {"context": own.context, "continuation": own.continuation, "n_tokens": own.n_tokens}
        found.append(Asked({name: getattr(probe, name) for name in labels} | texts, own))
    return found


def asked_texts(study: Study) -> list[Asked]:
    """The target, its editions and its controls: documents say which text and how long, and none of its words."""
    target = study.target
    texts = [("target", target), *(("edition", t) for t in target.editions), *(("control", t) for t in target.controls)]
    return [_asked_text(study, kind, text) for kind, text in texts]


def _asked_text(study: Study, kind: str, text: Target) -> Asked:
    tokenizer = study.tokenizer
    encoded = _encoded(tokenizer, text)
    own = request(tokenizer, encoded, text.prompt, text.text, study.limit)
    n_start = len(beginning(tokenizer))
    counts = token_bytes(tokenizer, text.whole, encoded.ids[n_start:])
    doc = {
        "key": f"{kind}/{text.name}/{text.sha256}",
        "kind": kind,
        "name": text.name,
        "sha256": text.sha256,
        "language": text.language,
        "n_tokens": own.n_tokens,
        "n_bytes": sum(counts[encoded.n_prompt - n_start :]),
    }
    return Asked(doc, own)


def _encoded(tokenizer: PreTrainedTokenizerBase, text: Target) -> TokenItem:
    """Without BOS and prompt there is nothing before the first token, and all after it are scored."""
    if beginning(tokenizer) or text.prompt:
        return encode_statement(tokenizer, text.prompt, text.text, text.name)
    return TokenItem(text.name, tuple(tokenizer.encode(text.text, add_special_tokens=False, verbose=False)), 1)


def _spaced(probes: Sequence[Probe], number: Any) -> list[Probe]:
    if number is None:
        return list(probes)
    if not isinstance(number, int) or number < 1:
        raise UserError(f"--metadata probes={number!r} must be a whole number above 0")
    number = min(number, len(probes))
    return [probes[i * len(probes) // number] for i in range(number)]


def item(doc: Mapping[str, Any], *, logprob: float, correct: bool) -> ItemScore:
    """The score of a document of the cutoff task."""
    labels = {field.name: doc[field.name] for field in fields(ItemScore) if field.name not in MEASURED}
    return ItemScore(**labels, correct=bool(correct), logprob=float(logprob), n_tokens=doc["n_tokens"])


def items_from_samples(samples: Path | Iterable[Mapping[str, Any]]) -> list[ItemScore]:
    """The rows of items.jsonl from samples of `menard_cutoff`: lm-eval's samples_menard_cutoff_*.jsonl, or the list of
    its Python API. Raises UserError where they are of another task."""
    if isinstance(samples, Path):
        samples = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    try:
        return [item(row["doc"], logprob=row["logprob"], correct=row["recall"]) for row in samples]
    except (KeyError, TypeError) as error:
        raise UserError("no samples of menard_cutoff: run lm_eval --tasks menard_cutoff --log_samples") from error
