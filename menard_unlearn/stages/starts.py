"""A finished run that another one goes on from: what unlearning hid, tuning may bring back.

What the later run stores is a delta against the first one's base, so that it is loaded as any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.summary import NAME
from menard_unlearn.files import digest_file, digest_text
from menard_unlearn.models.delta import Adapters, apply_delta, load_delta, named
from menard_unlearn.models.load import LoadedModel
from menard_unlearn.run import RunDir
from menard_unlearn.training.config import TrainerConfig
from menard_unlearn.training.lora import targets
from menard_unlearn.training.trained import copies

STAGES = ("unlearn", "finetune")
"""Stages whose runs leave a delta."""


@dataclass(frozen=True)
class Start:
    """The run, by its directory."""

    run: RunDir
    method: str
    """What results call it."""
    digest: str
    """SHA-256 of its delta's file."""

    @classmethod
    def of(cls, path: str, base: str, trainer: TrainerConfig) -> Start:
        """Raises UserError for what is no finished run, and for one of another base than `base`, an identity."""
        run = RunDir(Path(path))
        config = run.read_config()  # refuses what is no run directory
        name, manifest = NAME.fullmatch(run.path.resolve().name), run.manifest(str(config.get("stage")))
        if config.get("stage") not in STAGES or name is None:
            raise UserError(f"run={path} changed no model: give a run of menard {' or menard '.join(STAGES)}")
        if manifest is None or not run.delta_path.is_file():
            raise UserError(f"run={path} is not finished: the command that began it resumes it (see menard status)")
        if manifest["inputs"]["model"] != base:
            raise UserError(f"run={path} changed another model than model.path: set model= as in its config.yaml")
        if trainer.sharding != "none":
            raise UserError(
                f"run={path} cannot be gone on from with trainer.sharding={trainer.sharding}: "
                "write it as a checkpoint (menard export) and give that as model.path, or set trainer.sharding=none"
            )
        return cls(run, name["method"], digest_file(run.delta_path))

    def put_into(self, base: LoadedModel, trainer: TrainerConfig) -> tuple[LoadedModel, dict[str, Tensor]]:
        """The base, changed in place, under an identity of its own; also, on the CPU, the whole values of what the run
        changed and of what adapters will be put beside: what `against_base` needs."""
        delta = load_delta(self.run.delta_path)
        apply_delta(base.model, delta)
        names = [*named(base.model, delta.tensors)]
        if trainer.lora is not None:
            names += targets(base.model, trainer.lora, trainer.frozen)
        parameters = dict(base.model.named_parameters())
        first = copies({name: parameters[name] for name in names})
        return replace(base, identity=digest_text(f"{base.identity}+{self.digest}")), first


def against_base(first: Mapping[str, Tensor], later: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A change of a changed model as one of its base: whole tensors, fp32.

    `first` are values before the later change, as `Start.put_into` gives them; `later` are whole values or `Adapters`.
    """
    if not isinstance(later, Adapters):
        return {name: tensor.float() for name, tensor in {**first, **later}.items()}
    adapted = set(later.names)
    return {
        name: tensor.float() + later.change(name) if name in adapted else tensor.float()
        for name, tensor in first.items()
    }
