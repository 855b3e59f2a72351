"""One job of a sweep, in a process of its own: `python -m menard_unlearn.launch.work <payload.json>`."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from pathlib import Path

from menard_unlearn.errors import Busy, UserError, in_one_line
from menard_unlearn.launch.composing import as_config
from menard_unlearn.launch.failures import foreseen
from menard_unlearn.launch.signals import Signals
from menard_unlearn.launch.sweep import Payload


def main(arguments: list[str]) -> int:
    """Do the job; 0 done, 2 bad input, 1 anything else that went wrong, 128 + n told to end by signal n."""
    Signals().install()
    return work(Payload.read(Path(arguments[0])))


def work(payload: Payload) -> int:
    """Do the job unless it is done; returns the exit code. What went wrong is printed, and recorded with the run.

    Where another process works in the run's directory (a job whose node Slurm has given up may live on), this one
    waits: the other finishes the run, or dies and leaves it to be resumed.
    """
    try:
        if follows():
            _work(payload)
            return 0
        while not payload.done:
            with payload.directory.waiting_lock():
                if not payload.done:
                    payload.directory.failure_path.unlink(missing_ok=True)  # of an earlier attempt
            if not payload.done:
                _work_or_wait(payload)
    except SystemExit as leaving:  # a signal, in training or out of it
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        told = foreseen(error, payload.config)
        if not isinstance(told, UserError):
            traceback.print_exc()
        print(f"error: {payload.directory.path.name}: {in_one_line(told)}", file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):  # a full disk must not hide its own error
            if told is not error or payload.directory.failure() is None:
                payload.directory.write_failure(told)
        return 2 if isinstance(told, UserError) else 1
    return 0


def follows() -> bool:
    """Whether this is a machine of a Slurm step that another one leads, which holds the directory for all of them."""
    return int(os.environ.get("SLURM_NODEID", "0")) > 0


def _work_or_wait(payload: Payload) -> None:
    try:
        _work(payload)
    except Busy as busy:
        print(busy, flush=True)  # another one was quicker; `work` waits for it
        return
    if not payload.done:
        raise UserError(f"menard {payload.stage} ended without its manifest: its log says how far it came")


def _work(payload: Payload) -> None:
    stage = importlib.import_module(payload.module)
    planned = stage.plan(payload.config, {})
    if planned.path.resolve() != payload.directory.path.resolve():
        raise UserError(
            f"data or model have changed since this was launched (it would now be {planned.path.name}): "
            "launch the sweep again"
        )
    stage.main(as_config(payload.config))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
