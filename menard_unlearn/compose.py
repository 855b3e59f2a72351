"""From a command line to the jobs of a stage: one, or as many as `--multirun` and the study's sweep make.

Hydra composes and sweeps. Added here: a study's folder, a model's path, and one-line errors.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, flag_override
from omegaconf.errors import OmegaConfBaseException

from menard_unlearn.compose_errors import one_line
from menard_unlearn.config import PACKAGE, conf_dir, experiments_dir, near
from menard_unlearn.errors import UserError
from menard_unlearn.launch.failures import Failed, foreseen, refuse

STUDY_NAME = re.compile(r"[A-Za-z_][\w-]*")


@dataclass(frozen=True)
class Job:
    """What Hydra calls with the composed configuration of a single job, and what its launchers are told of a sweep."""

    stage: str
    """Name of the stage."""
    module: str
    """The stage's module; imported only now, when the configuration is known to be good."""
    owner: int
    """Process of the command."""
    failures: list[Exception] = field(default_factory=list)
    """What went wrong: kept from Hydra, which would print it in its own words."""
    failed: list[int] = field(default_factory=list)
    """How many jobs of a sweep failed, batch by batch; each was reported when it did."""

    def __call__(self, cfg: DictConfig) -> Any:
        """Run the stage on this configuration."""
        try:
            return importlib.import_module(self.module).main(cfg)
        except Exception as error:
            failure = foreseen(error, cast("Mapping[str, Any]", cfg))
            if os.getpid() != self.owner or HydraConfig.get().mode == RunMode.MULTIRUN:
                raise failure from error  # a launcher of someone else's carries it home
            self.failures.append(failure)
            return None


def run(stage: str, module: str, arguments: Sequence[str]) -> None:
    """Compose `conf/<stage>.yaml` with the arguments and call `module.main(cfg)` for every job.

    A failing job of a multirun is reported when it fails and the others go on; the error at the end counts them.
    """
    _show_plugins()
    job = Job(stage, module, os.getpid())
    full_error = os.environ.get("HYDRA_FULL_ERROR") == "1"
    composed = with_study(stage, with_model(arguments))
    try:
        with _command_line(composed):
            hydra.main(config_path=str(conf_dir()), config_name=stage, version_base="1.3")(job)()
    except ValueError as error:
        if not job.failed:
            raise
        raise Failed(sum(job.failed)) from error  # a search of which no trial came to an end has no best one
    except (HydraException, OmegaConfBaseException) as error:
        if full_error:
            raise
        raise UserError(one_line(error, stage, composed)) from error
    except OSError as error:  # Hydra makes the sweep's folder; some of its own errors, above, are OSErrors, too
        if full_error:
            raise
        raise foreseen(error, {}) from error
    if job.failures:
        raise job.failures[0]
    refuse(sum(job.failed))


def _show_plugins() -> None:
    """Hydra takes plugins from the parts of the namespace `hydra_plugins`, wherever on the path they lie; a process
    in which it has looked there before is shown them one by one."""
    folder = str(PACKAGE / "launch" / "plugins")
    if folder not in sys.path:
        sys.path.append(folder)
    for plugin in importlib.import_module("hydra_plugins.menard").PLUGINS:
        Plugins.instance().register(plugin)


@contextlib.contextmanager
def _command_line(arguments: Sequence[str]) -> Iterator[None]:
    """Hydra reads its command line from sys.argv, and raises instead of printing only where the environment says so."""
    argv, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [argv[0], *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = argv
        os.environ.pop("HYDRA_FULL_ERROR")
        if full_error is not None:
            os.environ["HYDRA_FULL_ERROR"] = full_error


def with_model(arguments: Sequence[str]) -> list[str]:
    """The arguments, and for `model=<folder or hub id>` the preset that takes any model.

    A name without a slash that is no folder is a preset: model=hf model.path=gpt2 is how to mean such an id.
    """
    found: list[str] = []
    for argument in arguments:
        path = argument.removeprefix("model=").strip("'\"")
        named = argument.startswith("model=") and "," not in path and not (conf_dir() / f"model/{path}.yaml").is_file()
        if named and ("/" in path or path.startswith("embedded:") or Path(path).is_dir()):
            found += ["model=hf", f"model.path='{path}'"]
        else:
            found.append(argument)
    return found


def with_study(stage: str, arguments: Sequence[str]) -> list[str]:
    """The arguments, and for `study=<name>` those that compose the study's folder over the stage's configuration.

    The folder's `<stage>.yaml` is taken, else its `experiment.yaml`. A name without a folder is a plain label. A path
    to a folder is a study too, named as the folder is.
    """
    given = [argument.removeprefix("study=") for argument in arguments if argument.startswith("study=")]
    if not given:
        return list(arguments)
    folder = _study_folder(given[-1].strip("'\""))
    if folder is None:
        return list(arguments)
    file = folder / f"{stage}.yaml" if (folder / f"{stage}.yaml").is_file() else folder / "experiment.yaml"
    others = [argument for argument in arguments if not argument.startswith(("study=", "hydra.searchpath="))]
    searchpath = [f"file://{folder.parent.resolve()}", *_given_searchpath(arguments)]
    quoted = ",".join(f"'{path}'" for path in searchpath)
    # `_global_`: a study's values are those of the whole configuration, with or without the header that says so.
    composed = [f"hydra.searchpath=[{quoted}]", f"+{folder.name}@_global_={file.stem}", f"study={folder.name}"]
    return [*composed, *others]


def _study_folder(name: str) -> Path | None:
    root = experiments_dir()
    studies = {file.parent.name for file in root.glob("*/experiment.yaml")} if root is not None else set()
    if root is not None and name in studies:
        return root / name
    if "," in name and studies.intersection(name.split(",")):
        raise UserError(f"study={name}: one study with a folder at a time")
    path = Path(name)
    if (path / "experiment.yaml").is_file():
        if not STUDY_NAME.fullmatch(path.resolve().name):
            raise UserError(f"study folder {name!r}: use letters, digits, _ and - for its name, a letter first")
        return path.resolve()
    if "/" in name:
        raise UserError(f"study={name} holds no experiment.yaml; studies: {', '.join(sorted(studies)) or 'none'}")
    if hint := near(name, studies):
        print(f"note: study {name!r} has no folder{hint}; taken as a label", file=sys.stderr)
    return None


def _given_searchpath(arguments: Sequence[str]) -> list[str]:
    given = [argument for argument in arguments if argument.startswith("hydra.searchpath=")]
    value = OverridesParser.create().parse_override(given[-1]).value() if given else []
    return [str(path) for path in value] if isinstance(value, list) else [str(value)]


def compose(stage: str, arguments: Sequence[str]) -> DictConfig:
    """The configuration that the stage would be run with, as one job."""
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        overrides = with_study(stage, with_model(arguments))
        cfg = hydra.compose(stage, overrides=overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)  # what `${hydra:…}` reads
    with flag_override(cfg, ["struct", "readonly"], False):
        del cfg["hydra"]
    return cfg
