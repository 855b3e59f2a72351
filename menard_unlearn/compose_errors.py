"""What Hydra says in paragraphs, said in one line: what was given, what there is, what to type."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence

import hydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from menard_unlearn.config import conf_dir, near

UNKNOWN_KEY = re.compile(r"(?:In '(?P<file>[^']+)': )?Could not override '(?P<key>[^']+)'")
SEVERAL_VALUES = re.compile(r"Ambiguous value for argument '(?P<given>[^']+)'|Sweep parameters '(?P<sweep>[^']+)'")


def one_line(error: HydraException | OmegaConfBaseException, stage: str, arguments: Sequence[str]) -> str:
    """The error of composing the stage with the arguments, as a line."""
    message = str(error)
    if isinstance(error, OverrideParseException):
        return f"cannot read {error.override!r}: write key=value, and quote a value with special characters"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_choice(error.missing_cfg_file, error.options or [], message)
    if several := SEVERAL_VALUES.search(message):
        given = several["given"] or several["sweep"]
        return f"{given} holds several values: add --multirun to run them all, or quote the value to mean one"
    if "does not support sweep type" in message:
        return "interval(…) has no list of values to run: add hydra/sweeper=search to search it, or give them by commas"
    if isinstance(error, ConfigCompositionException) and (unknown := UNKNOWN_KEY.search(message)):
        return _unknown_key(unknown["key"], unknown["file"], stage, arguments)
    cause = f": {error.__cause__}" if error.__cause__ is not None else ""
    return " ".join(f"{message}{cause}".split())


def _unknown_choice(config: str, options: Sequence[str], message: str) -> str:
    group, _, choice = config.rpartition("/")
    searching = group == "hydra/sweeper/sampler" or (group, choice) == ("hydra/sweeper", "optuna")
    if searching and importlib.util.find_spec("optuna") is None:
        return "optuna is not installed: pip install 'menard-unlearn[optuna]', then hydra/sweeper=search"
    if not group or not options:
        return " ".join(message.split("\nConfig search path")[0].split())
    return f"{group}={choice} does not exist{near(choice, options)}; choices: {', '.join(options)}"


def _unknown_key(key: str, file: str | None, stage: str, arguments: Sequence[str]) -> str:
    cfg = _composed_without(key, stage, arguments, with_hydra=key.startswith("hydra."))
    parent, _, _ = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    while parent and not isinstance(node, DictConfig):
        parent, _, _ = parent.rpartition(".")
        node = OmegaConf.select(cfg, parent) if parent else cfg
    keys = [f"{parent}.{name}" if parent else str(name) for name in node if not str(name).startswith("_")]
    everywhere = _all_keys(cfg)
    inside = [known for known in everywhere if known.endswith(f".{key}")]
    hint = f" (did you mean {' or '.join(inside[:3])}?)" if inside else near(key, everywhere)
    where = f", which {file}.yaml sets" if file and file != stage else ""
    if parent == "hydra.launcher" and not keys:
        return f"{stage} has no key {key!r} without a launcher that has it: add hydra/launcher=parallel, or slurm"
    return f"{stage} has no key {key!r}{where}{hint}; {parent or 'top-level'} keys: {', '.join(keys)}"


def _composed_without(key: str, stage: str, arguments: Sequence[str], with_hydra: bool) -> DictConfig:
    """The stage's configuration under what can be composed of the command line, for its keys."""
    others = [
        argument for argument in arguments if argument[0] != "-" and argument.partition("=")[0].strip("+~") != key
    ]
    choices = [
        argument
        for argument in others
        if re.fullmatch(r"[\w/]+=[\w-]+|hydra\.searchpath=.*|\+.*@_global_=.*", argument)
    ]
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for overrides in (others, choices):
            try:
                return hydra.compose(stage, overrides=overrides, return_hydra_config=with_hydra)
            except HydraException:
                continue
        return hydra.compose(stage, return_hydra_config=with_hydra)


def _all_keys(cfg: DictConfig, prefix: str = "") -> list[str]:
    keys = []
    for name in cfg:
        keys.append(f"{prefix}{name}")
        child = cfg._get_node(name)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            keys.extend(_all_keys(child, f"{prefix}{name}."))
    return keys
