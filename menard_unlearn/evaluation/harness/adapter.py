"""The one module that calls lm-eval. Import it through `run`, which says what to do where lm-eval is missing."""

from __future__ import annotations

import contextlib
import io
import logging
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lm_eval
import lm_eval.tasks
import numpy as np
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.harness.config import HarnessConfig
from menard_unlearn.models.likelihood import evaluating

OWN = Path(__file__).parent / "tasks"
THEIRS = Path(lm_eval.tasks.__file__).parent
# Decorators of lm-eval hide the signatures of these two from type checkers.
WRAPPED: Any = HFLM
SCORED: Any = lm_eval.simple_evaluate
BOOTSTRAP = 1000
"""Replicates of the standard errors that have no closed form."""


def evaluate(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: HarnessConfig) -> Mapping[str, Any]:
    """What `simple_evaluate` returns. The model is not loaded again; random generators stay as they are."""
    manager = task_manager(config.tasks)
    with _quiet(), _own_randomness(), evaluating(model):
        lm = WRAPPED(pretrained=model, tokenizer=tokenizer, batch_size=config.batch_size)
        try:
            found = SCORED(
                lm,
                tasks=list(config.tasks),
                num_fewshot=config.num_fewshot,
                limit=config.limit,
                bootstrap_iters=BOOTSTRAP,
                log_samples=False,
                task_manager=manager,
            )
        except OSError as error:  # a hub that is out of reach, a data set that is not there
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"harness.tasks {', '.join(config.tasks)}: no data ({reason}): connect, or harness=offline"
            ) from error
    if found is None:
        raise UserError("harness.tasks are scored by one process: run `menard evaluate` without torchrun")
    return found


def task_manager(names: Sequence[str]) -> TaskManager:
    """An index that knows these tasks. All of lm-eval's takes some twenty seconds of CPU, so folders are guessed from
    the names, and all are read only where that fails. Raises UserError for a name that is nowhere."""
    folders = [OWN, *_folders(names)]
    manager = _indexed(folders)
    if any(name not in manager.all_tasks for name in names):
        manager = _indexed([OWN, THEIRS])
    if unknown := [name for name in names if name not in manager.all_tasks]:
        raise UserError(
            f"harness.tasks: lm-eval {lm_eval.__version__} has no {', '.join(unknown)}: see `lm_eval ls tasks`"
        )
    return manager


def _indexed(folders: Sequence[Path]) -> TaskManager:
    return TaskManager(include_path=list(folders), include_defaults=False)


def _folders(names: Sequence[str]) -> list[Path]:
    """The folders of lm-eval that are called as a task is, or as what it begins with: mmlu of mmlu_anatomy."""
    return [
        folder
        for folder in sorted(THEIRS.iterdir())
        if folder.is_dir() and any(name == folder.name or name.startswith(f"{folder.name}_") for name in names)
    ]


@contextlib.contextmanager
def _own_randomness() -> Iterator[None]:
    """lm-eval seeds every generator there is; who is training must find them as they were."""
    ours, numpys = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(ours)
        np.random.set_state(numpys)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings that concern its own command line, and no progress bars but on a terminal."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    hidden = contextlib.nullcontext() if sys.stderr.isatty() else contextlib.redirect_stderr(io.StringIO())
    try:
        with hidden:
            yield
    finally:
        logger.setLevel(level)
