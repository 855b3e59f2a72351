"""The other answers that a method asks for, made before training. Written ones are kept, for all runs of a study."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from menard_unlearn.corpus.alternates import (
    answered,
    column_answers,
    refusal,
    refused_windows,
    relation_answers,
    retained_windows,
)
from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.documents import Document, Fact
from menard_unlearn.corpus.statements import Statement, Templates
from menard_unlearn.corpus.study import StudyData
from menard_unlearn.errors import UserError
from menard_unlearn.files import canonical, digest_text
from menard_unlearn.files import replace as replace_file
from menard_unlearn.methods.base import Alternates
from menard_unlearn.models.load import LoadedModel
from menard_unlearn.run import RunDir
from menard_unlearn.training.generation import prompts, unwritable, write

FORMAT = "menard-alternates-1"
BATCH_SIZE = 64
"""Prompts that are continued at once; no result depends on it but by rounding."""


def alternates(
    spec: Alternates,
    data: StudyData,
    forget: Sequence[TokenItem],
    retain: Sequence[TokenItem],
    tokenizer: PreTrainedTokenizerBase,
    base: Callable[[], LoadedModel],
    identity: str,
    folder: Path,
) -> dict[str, TokenItem]:
    """Another answer to each forget item, under its id and after its prompt.

    `forget` and `retain` are `token_items` of what `data` says is trained on. `base` is called where the base model has
    to write, which it does once: what it wrote lies in `folder` for all runs with the same items and `identity` (that
    of the model and of its dtype); of processes that need it at the same moment one writes, and the others wait. Raises
    UserError where the data holds no other answer.
    """
    if spec.source == "model":
        return _written(spec, forget, base, identity, folder)
    asked = _statements(data, data.split.forget)
    windows = [item for item in forget if item.id not in asked]
    statements = list(asked.values())
    if spec.source == "refusal":
        answers = {id: f" {refusal(id, spec.refusals)}" for id in asked}
        return answered(tokenizer, statements, answers) | refused_windows(tokenizer, windows, spec.refusals)
    templates = data.corpus.templates or Templates.read()
    if spec.source == "column":
        answers = column_answers(statements, templates)
    else:
        facts = [item for item in data.split.retain if isinstance(item, Fact)]
        answers = relation_answers(statements, facts, templates)
    found = answered(tokenizer, statements, answers)
    return found | (retained_windows(tokenizer, windows, _texts(data, retain)) if windows else {})


def _statements(data: StudyData, side: Sequence[Document | Fact]) -> dict[str, Statement]:
    return {piece.id: piece for piece in data.trained(side) if isinstance(piece, Statement)}


def _texts(data: StudyData, retain: Sequence[TokenItem]) -> list[TokenItem]:
    """Windows of retained documents; where there are none, statements are the only retained text."""
    asked = _statements(data, data.split.retain)
    return [item for item in retain if item.id not in asked] or list(retain)


def _written(
    spec: Alternates, forget: Sequence[TokenItem], base: Callable[[], LoadedModel], identity: str, folder: Path
) -> dict[str, TokenItem]:
    """Read, or written first."""
    asked = sorted([item.id, list(item.ids), item.n_prompt] for item in forget)
    key = digest_text(canonical([FORMAT, spec.prefix, spec.temperature, identity, asked]))
    path = folder / f"alternates-{key[:16]}.json"
    if not path.is_file():
        # One alone: on another GPU the base may write other words, and a run that is resumed would read those
        with RunDir(folder / f".{key[:16]}").waiting_lock():
            # By a list of the folder: a look-up may answer from before, where another node has written it meanwhile
            if path.name not in os.listdir(folder):
                _write(spec, forget, base(), path)
    answers = _read(path)
    return {item.id: replace(item, ids=(*item.ids[: item.n_prompt], *answers[item.id])) for item in forget}


def _read(path: Path) -> dict[str, list[int]]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["answers"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not what a base model wrote: delete it, and it is written again") from error


def _write(spec: Alternates, forget: Sequence[TokenItem], loaded: LoadedModel, path: Path) -> None:
    started = time.perf_counter()
    vocabulary = loaded.model.config.get_text_config(decoder=True).vocab_size
    asked = prompts(loaded.tokenizer, forget, spec.prefix)
    ids = write(loaded.model, asked, unwritable(loaded.tokenizer, vocabulary), spec.temperature, BATCH_SIZE)
    # Token ids alone: what a base writes after the beginning of a text that it has by heart is that text.
    answers = {id: ids[id] for id in sorted(ids)}
    content = {"format": FORMAT, "prefix": spec.prefix, "temperature": spec.temperature, "answers": answers}
    replace_file(path, json.dumps(content, ensure_ascii=False).encode())
    print(f"the base model wrote {len(ids)} other answers in {time.perf_counter() - started:.0f} s: {path}", flush=True)
