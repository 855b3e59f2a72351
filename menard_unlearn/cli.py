"""`menard <stage> key=value …`: find the stage, run it, and say in one line what went wrong.

Nothing heavy is imported before a stage is known: `menard --help` has to answer at once.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NoReturn

from menard_unlearn.credentials import is_secret
from menard_unlearn.errors import UserError, in_one_line


@dataclass(frozen=True)
class Stage:
    """How a stage is reached from the command line."""

    module: str
    """Its module; `main(cfg)` is called with the composed configuration."""
    summary: str
    """What it does, for `menard --help`."""
    positional: str | None = None
    """The key that bare arguments set: `menard report runs/x` is `menard report runs='runs/x'`, several are a list."""
    switches: tuple[str, ...] = ()
    """Keys that `--key` sets to true."""
    composed: bool = True
    """Whether Hydra composes conf/<stage>.yaml for it; else `main(arguments)` is handed the arguments."""


STAGES = {
    "pretrain": Stage("menard_unlearn.stages.pretrain", "train a small model from scratch on a dated corpus"),
    "unlearn": Stage("menard_unlearn.stages.unlearn", "make a model forget what came after the cutoff"),
    "finetune": Stage("menard_unlearn.stages.finetune", "tune a model on its author, the target or a control text"),
    "evaluate": Stage("menard_unlearn.stages.evaluate", "measure cutoff, reproduction and utility of a model or a run"),
    "context": Stage("menard_unlearn.stages.context", "how much context the target would need, by a law over lengths"),
    "features": Stage(
        "menard_unlearn.stages.features",
        "find an author's feature, clamp it, score a text under it: find, score, guard or joint",
        "action",
    ),
    "report": Stage("menard_unlearn.stages.report", "write one self-contained page for studies and runs", "runs"),
    "demo": Stage(
        "menard_unlearn.stages.demo", "the whole loop on the embedded model, no network needed", composed=False
    ),
    "status": Stage("menard_unlearn.stages.status", "where each run of a study stands", "study_dir", ("json", "watch")),
    "cancel": Stage(
        "menard_unlearn.stages.cancel", "end runs that are queued or running, and keep what they saved", "runs"
    ),
    "retry": Stage("menard_unlearn.stages.retry", "do failed and ended runs again, as they were launched", "runs"),
    "sync": Stage(
        "menard_unlearn.stages.sync", "upload to wandb what it has not got of a study, and verify", "study_dir"
    ),
    "dashboard": Stage(
        "menard_unlearn.stages.dashboard", "save a wandb workspace and a report that compare methods", "project"
    ),
    "export": Stage("menard_unlearn.stages.export", "write a run as a checkpoint that transformers loads"),
}

FLAGS = {
    "--help": "this help; after a stage: its config groups and values",
    "--multirun": "run every combination of comma-separated values (-m)",
    "--cfg": "job|hydra|all: print the composed configuration and stop (-c)",
    "--resolve": "with --cfg: interpolations resolved",
    "--package": "with --cfg: only this part (-p)",
    "--info": "config|defaults|defaults-tree|plugins|searchpath: how it was composed (-i)",
    "--config-dir": "a further folder of config groups (-cd)",
    "--hydra-help": "what else Hydra takes",
}
FLAGS_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--info", "-i", "--config-dir", "-cd")
SHORT_FLAGS = ("-h", "-m", "-c", "-p", "-i", "-cd")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and leave with its exit code: 0, 2 for bad input, 130 after Ctrl-C, 1 for anything unforeseen."""
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code; what the user can mend is printed as `error: <one line>`."""
    try:
        _dispatch(arguments)
    except UserError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(f"error: {in_one_line(error)}", file=sys.stderr)
        return 2
    except SystemExit as leaving:  # Hydra after --help, and a training that was told to stop
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BrokenPipeError:  # the reader of a pipe has seen enough: `menard unlearn --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python flushes when it leaves
        return 141
    except KeyboardInterrupt:
        print("interrupted: what was written is kept; the same command resumes it", file=sys.stderr)
        return 130
    return 0


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(_help())
        return
    if arguments[0] == "--version":
        print(_version())
        return
    name, rest = arguments[0], arguments[1:]
    if name not in STAGES:
        close = get_close_matches(name, STAGES, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UserError(f"unknown stage {name!r}{hint}; stages: {', '.join(STAGES)}")
    stage = STAGES[name]
    rest = _checked(name, stage, rest)
    if stage.composed:
        importlib.import_module("menard_unlearn.compose").run(name, stage.module, rest)
    else:
        importlib.import_module(stage.module).main(rest)


def _checked(name: str, stage: Stage, arguments: list[str]) -> list[str]:
    """The arguments, bare ones written as key=value, flags last; secrets and unknown flags are refused."""
    values, flags, takes_value = [], [], False  # Hydra's parser loses values that stand on both sides of a flag
    bare: list[str] = []
    for argument in arguments:
        flag = argument.partition("=")[0]
        if argument.startswith("--") and argument[2:] in stage.switches:
            values.append(f"{argument[2:]}=true")
        elif argument.startswith("-"):
            if flag not in FLAGS and flag not in SHORT_FLAGS:
                raise UserError(f"unknown flag {flag!r}; flags: {', '.join(FLAGS)}; values are given as key=value")
            takes_value = argument in FLAGS_WITH_VALUE
            flags.append(argument)
        elif takes_value:
            takes_value = False
            flags.append(argument)
        elif "=" in argument or argument.startswith("~"):
            _refuse_secret(argument)
            values.append(argument)
        elif stage.positional is not None:
            bare.append(f"'{argument}'")
        else:
            raise UserError(f"{name} does not take {argument!r}: write key=value (menard {name} --help)")
    if bare:
        listed = ",".join(bare)
        values.append(f"{stage.positional}={listed if len(bare) == 1 else f'[{listed}]'}")
    return [*values, *flags]


def _refuse_secret(argument: str) -> None:
    key, _, value = argument.partition("=")
    if is_secret(key.lstrip("+~"), value):
        raise UserError(
            f"{key}=… looks like a secret, and command lines are recorded with the run: "
            "set it in the environment (WANDB_API_KEY, HF_TOKEN)"
        )


def _version() -> str:
    try:
        return f"menard-unlearn {importlib.metadata.version('menard-unlearn')}"
    except importlib.metadata.PackageNotFoundError:
        return "menard-unlearn (not installed)"


def _help() -> str:
    width = max(map(len, [*STAGES, *FLAGS]))
    stages = "\n".join(f"  {name:<{width}}  {stage.summary}" for name, stage in STAGES.items())
    flags = "\n".join(f"  {name:<{width}}  {summary}" for name, summary in FLAGS.items())
    return (
        f"{_version()}: make a language model forget what came after a date, and measure what it knows\n\n"
        f"usage: menard <stage> [key=value …] [flags]\n\nstages\n{stages}\n\nflags\n{flags}\n\n"
        "start here\n"
        "  menard demo                                   the whole loop on the embedded model, no network needed\n"
        "  menard unlearn method=npo seed=1              one run\n"
        "  menard unlearn -m method=npo,rmu seed=0,1,2   six runs\n"
        "  menard unlearn study=forget_1939              a study from experiments/\n"
        "  menard report runs/forget_1939                its page"
    )
