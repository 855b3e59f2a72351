"""Commands that a signal ends at a step: each in a process of its own, forked after the slow imports.

`signalled.py <JSON list of [signal, step, arguments]>` prints an exit code a line, negative where the
process was killed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from menard_unlearn import cli
from menard_unlearn.run import RunDir
from menard_unlearn.stages import unlearn

append = RunDir.append_history


def ended_by(number: int, at: int, arguments: list[str]) -> int:
    """The exit code of the command, whose process sends itself the signal when it has logged the step."""

    def append_and_signal(self: RunDir, row: Mapping[str, Any]) -> None:
        append(self, row)
        if row["step"] == at:
            os.kill(os.getpid(), number)

    child = os.fork()
    if child == 0:
        RunDir.append_history = append_and_signal
        os.dup2(2, 1)
        os._exit(cli.run(arguments))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    assert unlearn  # imported here, once for all the processes
    for case in json.loads(sys.argv[1]):
        print(ended_by(*case), flush=True)
