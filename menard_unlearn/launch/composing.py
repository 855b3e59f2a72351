"""The configurations of a sweep's jobs, kept so that a sweep launched again need not compose them again.

A thousand take Hydra ten seconds, and two minutes where each chooses its groups anew. What they depend on is known: the
files of its search path, the overrides, and the environment variables that the files read.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from menard_unlearn.files import canonical, digest_text, replace
from menard_unlearn.launch.frames import Frames

MEMO = "composed.jsonl"
VARIABLES = re.compile(r"oc\.env:\s*([A-Za-z_]\w*)")
DEPTHS = ("*.yaml", "*/*.yaml", "*/*/*.yaml")
PASSED_OVER = ("hydra.launcher.", "hydra/launcher=", "hydra.sweeper.", "hydra/sweeper=")
"""Overrides of Hydra's own that no job's configuration depends on."""


class Composer:
    """Composes jobs of one sweep, remembering what it composed before."""

    def __init__(self, context: HydraContext, config: DictConfig, folder: Path | None) -> None:
        """`config` is the sweep's, `folder` where the memo lies; None has none."""
        self._path = None if folder is None else folder / MEMO
        texts = _texts(context, config)
        self._frames = Frames(context, config, texts.values())
        self._files = digest_text(canonical(texts))
        self._basis = [self._files, *_beside(config), _environment(texts.values())]
        self._memo = {} if self._path is None else _read(self._path, self._files)
        self._fresh = False

    @classmethod
    @contextlib.contextmanager
    def remembering(cls, context: HydraContext, config: DictConfig, folder: Path) -> Iterator[Composer]:
        """One whose memo is kept at the end, also where a job was refused."""
        composer = cls(context, config, folder)
        try:
            yield composer
        finally:
            composer.save()

    def compose(self, overrides: Sequence[str]) -> dict[str, Any]:
        """The resolved configuration of the job with these overrides."""
        key = digest_text(canonical([self._basis, list(overrides), _environment(overrides)]))
        if key not in self._memo:
            self._memo[key] = self._frames.compose(overrides)
            self._fresh = True
        return self._memo[key]

    def save(self) -> None:
        """Keep what was composed of the files as they are now, where anything was."""
        if self._fresh and self._path is not None:
            rows = ([self._files, key, config] for key, config in self._memo.items())
            lines = (json.dumps(row, ensure_ascii=False) for row in rows)
            replace(self._path, "".join(f"{line}\n" for line in lines).encode())


def _texts(context: HydraContext, config: DictConfig) -> dict[str, str]:
    """All YAML of the search path, by file: of conf/, of studies, and of folders named on the command line."""
    given = [element.path for element in context.config_loader.get_search_path().get_path()]
    given += list(config.hydra.searchpath)
    folders = [Path(path.removeprefix("file://")) for path in given if "pkg://" not in path]
    # A folder that was given may hold a great deal else: no group lies deeper than these
    found = {file for folder in folders if folder.is_dir() for depth in DEPTHS for file in folder.glob(depth)}
    files = sorted(file for file in found if file.is_file())
    return {str(file): file.read_text(encoding="utf-8") for file in files}


def _beside(config: DictConfig) -> list[Any]:
    """What compositions depend on beside files, environment and a job's own overrides."""
    hydra = config.hydra
    own = [override for override in hydra.overrides.hydra if not override.startswith(PASSED_OVER)]
    return [hydra.job.config_name, own, os.getcwd(), version("hydra-core"), version("omegaconf")]


def _environment(texts: Iterable[str]) -> dict[str, str | None]:
    """The environment variables that these texts read, with their values."""
    names = {name for text in texts for name in VARIABLES.findall(text)}
    return {name: os.environ.get(name) for name in sorted(names)}


def _read(path: Path, files: str) -> dict[str, dict[str, Any]]:
    """What was composed of these files; of others, it will not be asked for again."""
    found: dict[str, dict[str, Any]] = {}
    for line in path.read_bytes().split(b"\n") if path.is_file() else ():
        with contextlib.suppress(ValueError):
            of, key, config = json.loads(line)
            if of == files:
                found[key] = config
    return found


def as_config(plain: Mapping[str, Any]) -> DictConfig:
    """A stage's argument, from a payload's resolved configuration."""
    return OmegaConf.create(dict(plain))
