"""Write what a run made of its base model as a checkpoint that transformers loads without this package."""

from __future__ import annotations

import shutil
from pathlib import Path

from omegaconf import DictConfig

from menard_unlearn.config import build, to_plain
from menard_unlearn.errors import UserError
from menard_unlearn.models.delta import apply_delta, load_delta
from menard_unlearn.models.load import ModelSource, load
from menard_unlearn.run import RunDir
from menard_unlearn.stages.starts import STAGES


def main(cfg: DictConfig) -> None:
    """Save the base model of `run` with the run's changed weights, and its tokenizer, to the folder `to`."""
    config = to_plain(cfg)
    run, to = RunDir(Path(config["run"])), Path(config["to"])
    if to.exists() and not (to.is_dir() and not any(to.iterdir())):
        raise UserError(f"to={to} exists and is not an empty folder: name another, or empty it")
    source = build(run.read_config()["model"], ModelSource)
    if not any(run.finished(stage) for stage in STAGES):
        raise UserError(f"run={run.path} is not finished: the command that began it resumes it (see menard status)")
    delta = load_delta(run.delta_path)
    base = load(source)
    if base.identity != delta.identity:
        raise UserError(
            f"the base model at {source.path} is not the one that the run changed "
            f"(identity {base.identity[:16]}, then {delta.identity[:16]}): put the old one back"
        )
    apply_delta(base.model, delta.tensors)
    # Saved aside and renamed: a folder of the name `to` is always a whole checkpoint.
    aside = to.with_name(f".{to.name}.aside")
    shutil.rmtree(aside, ignore_errors=True)
    base.model.save_pretrained(aside)
    base.tokenizer.save_pretrained(aside)
    aside.replace(to)
    print(f"wrote {to}: AutoModelForCausalLM.from_pretrained({str(to)!r}) loads it")
