"""Utility by the tasks of lm-eval, scored on a model that is already loaded."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.harness.config import HarnessConfig

KEYS = {
    "lm_eval": "version of lm-eval",
    "limit": "documents of each task, or the share of them, as configured; null is all",
    "num_fewshot": "solved examples before a question, as configured; null leaves it to the task",
    "tasks": "task, or group with figures of its own → an object with the keys of `TASK_KEYS`",
    "left_out": "figures that lm-eval could not compute: <task>/<metric>",
}
"""Key of harness.json → meaning."""

TASK_KEYS = {
    "version": "of the task; another one may give other figures",
    "n": "documents scored",
    "num_fewshot": "solved examples before each; null for a group",
    "metrics": "metric → an object with the keys of `METRIC_KEYS`; <metric>@<filter> where the task filters answers",
}
"""Key of a task in harness.json → meaning."""

METRIC_KEYS = {
    "value": "the figure, in the task's unit: `acc` is a share, `bits_per_byte` bits; null where it is left out",
    "stderr": "its standard error over documents; null where lm-eval gives none",
    "higher_is_better": "true or false; null where the task does not say",
}
"""Key of a metric in harness.json → meaning."""


def run_tasks(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: HarnessConfig) -> dict[str, Any]:
    """Score the model on tasks of lm-eval. Returns what goes into harness.json.

    Figures are lm-eval's own, BOS as it places it. Raises UserError where lm-eval is missing, where it does not know a
    task, and where a task's data cannot be fetched.
    """
    return table(_adapter().evaluate(model, tokenizer, config), config)


def refuse_unknown(config: HarnessConfig) -> None:
    """Raises UserError where lm-eval is missing or does not know a task, before anything is scored."""
    _adapter().task_manager(config.tasks)


def table(raw: Mapping[str, Any], config: HarnessConfig) -> dict[str, Any]:
    """Results as lm-eval returns them, in our form."""
    tasks, left_out = {}, []
    for name, found in raw["results"].items():
        better = raw["higher_is_better"].get(name, {})
        metrics = {}
        for key, value in found.items():
            metric, comma, filter = key.partition(",")
            if not comma or metric.endswith("_stderr"):
                continue
            shown = metric if filter == "none" else f"{metric}@{filter}"
            error = _finite(found.get(f"{metric}_stderr,{filter}"))
            metrics[shown] = {"value": _finite(value), "stderr": error, "higher_is_better": better.get(metric)}
            if metrics[shown]["value"] is None:
                left_out.append(f"{name}/{shown}")
        if metrics:  # a group without figures of its own has none
            shots = raw["n-shot"].get(name)
            version = str(raw["versions"].get(name))
            tasks[name] = {"version": version, "n": found["sample_len"], "num_fewshot": shots, "metrics": metrics}
    return {
        "lm_eval": raw["lm_eval_version"],
        "limit": config.limit,
        "num_fewshot": config.num_fewshot,
        "tasks": tasks,
        "left_out": left_out,
    }


def flat(results: Mapping[str, Any]) -> dict[str, float]:
    """`harness/<task>/<metric>` → value, as a tracker logs it; figures that are left out have no key."""
    return {
        f"harness/{task}/{metric}": found["value"]
        for task, entry in results["tasks"].items()
        for metric, found in entry["metrics"].items()
        if found["value"] is not None
    }


def _adapter() -> ModuleType:
    try:
        return importlib.import_module("menard_unlearn.evaluation.harness.adapter")
    except ImportError as error:
        raise UserError("evaluation.harness needs lm-eval: pip install 'menard-unlearn[lm-eval]'") from error


def _finite(value: Any) -> float | None:
    """A number, or None for what is none: lm-eval writes "N/A" and, of an empty mean, NaN."""
    if isinstance(value, str) or value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None
