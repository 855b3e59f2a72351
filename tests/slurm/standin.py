"""A stage that trains nothing: `python tests/slurm/standin.py -m x=1,2,3 hydra/launcher=slurm`.

Sweeps are to be tried by the dozen, and to import torch takes longer than a scenario may. This stage goes through the
same command line and launchers and keeps the promises of a real one: it holds its directory, saves, obeys signals
between steps, resumes, and ends with a manifest.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from menard_unlearn import cli
from menard_unlearn.config import to_plain
from menard_unlearn.errors import UserError
from menard_unlearn.files import replace
from menard_unlearn.run import RunDir, run_id
from menard_unlearn.training.preemption import Preemption

CONF = Path(__file__).resolve().parent / "conf"
EVENTS, SAVED = "events.jsonl", "saved"
STEP_SECONDS, SAVE_EVERY = 0.1, 10


def plan(config: Mapping[str, Any], known: dict[str, Any]) -> RunDir:
    """Where the run lies. The faults do not count: without them the same run goes on."""
    if not isinstance(config["x"], int):
        raise UserError(f"x={config['x']}: give a whole number")
    identity = run_id({"x": config["x"], "steps": config["steps"]}, {})
    return RunDir(Path(config["runs_dir"], config["study"], f"x{config['x']}-{identity[:8]}"))


def main(cfg: DictConfig) -> None:
    """Do one run, unless it is done."""
    config = to_plain(cfg)
    run = plan(config, {})
    if run.finished("standin"):
        return
    with run.attempt():
        run.write_config(config)
        started = time.perf_counter()
        begin = saved_step(run)
        note(run, "start", step=begin, **whereabouts())
        child = subprocess.Popen(["sleep", "300"]) if config["child"] else None
        try:
            with Preemption() as preemption:
                steps(config, run, begin, preemption)
            lives = None if child is None else child.poll() is None
            note(run, "end", by=preemption.received, child=lives, torch="torch" in sys.modules)
        finally:
            if child is not None:
                child.kill()
                child.wait()
        preemption.obey()
        run.write_manifest(
            "standin",
            config_hash=run_id(config, {}),
            inputs={},
            seconds=time.perf_counter() - started,
            peak_memory_mb=0.0,
            results={"x": config["x"]},
        )


def steps(config: Mapping[str, Any], run: RunDir, begin: int, preemption: Preemption) -> None:
    """What a training would do, with the faults that were ordered for this x."""
    for step in range(begin, config["steps"]):
        if config["fail"] == config["x"]:
            raise ValueError("this x fails, as ordered")
        if config["disk_full"] == config["x"]:
            Path("/dev/full").write_text("a real ENOSPC, and no full disk needed")
        time.sleep(STEP_SECONDS)
        if (step + 1) % SAVE_EVERY == 0 or preemption.received is not None:
            replace(run.path / SAVED, str(step + 1).encode())
            if config["hard_kill"] == config["x"] and begin == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        if preemption.received is not None:
            return


def saved_step(run: RunDir) -> int:
    """Where to resume; 0 in a new run."""
    return int((run.path / SAVED).read_text()) if (run.path / SAVED).is_file() else 0


def whereabouts() -> dict[str, Any]:
    """What Slurm says of this process, to be compared with what the test asked for."""
    names = {"job": "SLURM_JOB_ID", "node": "SLURMD_NODENAME", "gpus": "CUDA_VISIBLE_DEVICES", "setup": "SETUP"}
    found = {key: os.environ.get(name) for key, name in names.items()}
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    return {**found, "pid": os.getpid(), "restarts": restarts, "code": cli.__file__}


def note(run: RunDir, event: str, **values: Any) -> None:
    """Add a line to the run's events; an attempt that was killed leaves a start without an end."""
    with open(run.path / EVENTS, "a") as file:
        file.write(json.dumps({"event": event, "t": time.time(), **values}) + "\n")


if __name__ == "__main__":
    # Jobs find this module by its name, as they find a real stage.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(CONF.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    cli.STAGES["standin"] = cli.Stage("standin", "steps, saves, obeys signals, resumes; trains nothing")
    cli.main(["standin", *sys.argv[1:], "--config-dir", str(CONF)])
