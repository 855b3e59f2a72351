"""From a command line to the jobs of a stage: one, or as many as `--multirun` and the study's sweep make.

Hydra composes, sweeps and launches. Added here: a study's folder, one-line errors, and jobs that fail one by one.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, flag_override
from omegaconf.errors import OmegaConfBaseException

from menard_unlearn.compose_errors import one_line
from menard_unlearn.config import conf_dir, experiments_dir, near
from menard_unlearn.errors import UserError

STUDY_NAME = re.compile(r"[A-Za-z_][\w-]*")


@dataclass(frozen=True)
class Job:
    """What Hydra calls with each composed configuration; launchers may pickle it into another process."""

    module: str
    """The stage's module; imported only now, when the configuration is known to be good."""
    owner: int
    """Process of the command."""
    failures: list[Exception] = field(default_factory=list)
    """What went wrong in a single job: kept from Hydra, which would print it in its own words."""
    reported: list[Exception] = field(default_factory=list)
    """What went wrong in a multirun, a job each and already printed. The next job still runs."""

    def __call__(self, cfg: DictConfig) -> None:
        """Run the stage on this configuration."""
        try:
            importlib.import_module(self.module).main(cfg)
        except Exception as error:
            failure = _disk_full(error, cfg) or error
            if os.getpid() != self.owner:
                raise failure from error  # the launcher carries it home
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                self.reported.append(failure)
                _print_failure(failure)
            else:
                self.failures.append(failure)


def _print_failure(failure: Exception) -> None:
    if not isinstance(failure, UserError):
        traceback.print_exception(failure)
    job = HydraConfig.get()
    told = " ".join(override for override in job.overrides.task if "@_global_=" not in override)
    print(f"error: job {job.job.num} ({told}): {failure}", file=sys.stderr, flush=True)


def _disk_full(error: Exception, cfg: DictConfig) -> UserError | None:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if not full and "No space left on device" not in str(error):
        return None
    # Libraries that write in Rust or C++ keep the path to themselves; the run's folder is then the best guess.
    path = getattr(error, "filename", None) or Path(str(cfg.get("runs_dir", "."))) / str(cfg.get("study", ""))
    return UserError(f"no space left on the disk of {path}: free some, then run the same command to resume")


def run(stage: str, module: str, arguments: Sequence[str]) -> None:
    """Compose `conf/<stage>.yaml` with the arguments and call `module.main(cfg)` for every job.

    A failing job of a multirun is reported when it fails and the others go on; the error at the end counts them.
    """
    job = Job(module, os.getpid())
    full_error = os.environ.get("HYDRA_FULL_ERROR") == "1"
    composed = with_study(stage, with_model(arguments))
    try:
        with _command_line(composed):
            hydra.main(config_path=str(conf_dir()), config_name=stage, version_base="1.3")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        if full_error:
            raise
        raise UserError(one_line(error, stage, composed)) from error
    if job.reported:
        raise UserError(
            f"{len(job.reported)} failed (see above), the others are done; the same command runs what is left"
        )
    if job.failures:
        raise job.failures[0]


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
