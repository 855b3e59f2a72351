"""The command that resumes a run, found from its configuration alone."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from menard_unlearn.compose import compose
from menard_unlearn.config import conf_dir, to_plain
from menard_unlearn.errors import UserError
from menard_unlearn.files import canonical
from menard_unlearn.run import RunDir

CHOICES = {"method": "method_name", "wrapper": "wrapper_name", "tuning": "tuning_name"}
"""Hydra group → the key that says what was chosen of it."""

BARE, WORDS = re.compile(r"[A-Za-z_][\w./-]*"), ("null", "true", "false", "nan", "inf")
"""Texts that need no quotes, and those that would then be something else."""


def typed(run: RunDir) -> str:
    """`menard <stage> …` that composes the run's very configuration; where that is not found, what to look at."""
    config = run.read_config()
    stage = str(config.get("stage"))
    chosen = [f"study={config['study']}"] if config.get("study") else []
    chosen += [f"{group}={config[key]}" for group, key in CHOICES.items() if config.get(key)]
    try:
        usual = _composed(stage, chosen)
        chosen += _options(config, usual)
        known = dict(_leaves(_composed(stage, chosen)))
        changed = [
            f"{'' if key in known else '++'}{key}={_value(value)}"
            for key, value in _leaves(config)
            if key not in known or canonical(known[key]) != canonical(value)
        ]
        found = _composed(stage, [*chosen, *changed])
    except (HydraException, OmegaConfBaseException, UserError):
        found, changed = None, []
    if found is None or canonical(found) != canonical(config):
        return f"menard {stage} with the settings in {run.config_path}"
    return shlex.join(["menard", stage, *chosen, *changed])


def _composed(stage: str, arguments: list[str]) -> dict[str, Any]:
    hydra = GlobalHydra.instance()
    own = hydra.hydra  # of the command that is running: there can be one at a time
    hydra.clear()
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # a study without a folder would be noted at each attempt
            return to_plain(compose(stage, arguments))
    finally:
        hydra.clear()
        if own is not None:
            hydra.initialize(own)


def _options(config: Mapping[str, Any], usual: Mapping[str, Any]) -> list[str]:
    """Of groups in which something else than usual was chosen, the options that have the same class and keys."""
    found = []
    for group, node in config.items():
        if not isinstance(node, Mapping) or _kind(node) == _kind(usual.get(group)):
            continue
        for file in sorted((conf_dir() / group).glob("*.yaml")):
            if _kind(yaml.safe_load(file.read_text(encoding="utf-8"))) == _kind(node):
                found.append(f"{group}={file.stem}")
                break
    return found


def _kind(node: Any) -> Any:
    return (node.get("_target_"), sorted(node)) if isinstance(node, Mapping) else None


def _leaves(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and what they hold; an empty mapping is a value."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{at}.{key}" if at else str(key))
    else:
        yield at, value


def _value(value: Any) -> str:
    """As Hydra's grammar reads it back."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_value, value)) + "]"
    if isinstance(value, str):
        return value if BARE.fullmatch(value) and value.lower() not in WORDS else f'"{_escaped(value)}"'
    return "null" if value is None else str(value).lower()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
