"""One run of one method: what it was told, checked before any work starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from menard_unlearn.config import build
from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.errors import UserError
from menard_unlearn.files import canonical
from menard_unlearn.methods.base import Method, Recipe
from menard_unlearn.methods.kinds import Wrapper
from menard_unlearn.models.architecture import check_layer
from menard_unlearn.models.load import DTYPES, context_of, load_config
from menard_unlearn.run import RunDir, run_id
from menard_unlearn.stages.settings import Prepared, Settings, prepare
from menard_unlearn.training.cache import CacheConfig
from menard_unlearn.training.config import TrainerConfig
from menard_unlearn.training.memory import estimate, processes_of, refuse_too_large
from menard_unlearn.training.sharding import refuse_unshardable
from menard_unlearn.training.torchrun import Machines

READ = ("corpus", "model", "target", "split", "wording", "evaluation")
"""What decides which corpus, target and models are read, and what is asked of them."""


@dataclass(frozen=True)
class Job:
    """Built from a configuration by `Job.of`."""

    prepared: Prepared
    recipe: Recipe
    wrapper: Wrapper | None
    trainer: TrainerConfig
    cache: CacheConfig
    name: str
    """The method as it was chosen, with its wrapper."""
    seed: int
    window: int
    """Documents are cut into windows of so many tokens."""
    identity: str
    run: RunDir

    @classmethod
    def of(cls, settings: Settings, known: dict[str, Prepared] | None = None) -> Job:
        """Build and read everything. Raises UserError at the first that is wrong.

        `known` keeps what was read, for the other jobs of a sweep that are planned in one go.
        """
        plain = settings.plain
        recipe = build(plain["method"], Recipe)
        wrapper = None if plain["wrapper"] is None else build(plain["wrapper"], Wrapper)
        trainer, cache = build(plain["trainer"], TrainerConfig), build(plain["cache"], CacheConfig)
        if settings.gold is None and recipe.needs_gold():
            raise UserError(
                f"method={plain['method_name']} learns from a gold model and model.gold is null: "
                "set model.gold=<folder or id of a model that never saw what is forgotten>"
            )
        _check_layer(recipe, settings)
        if trainer.sharding == "fsdp2":
            refuse_unshardable(recipe, wrapper)
        prepared = prepared_once(settings, {} if known is None else known)
        name, seed = _name(plain["method_name"], plain["wrapper_name"], wrapper), int(plain["seed"])
        identity, run = place(prepared, name)
        return cls(prepared, recipe, wrapper, trainer, cache, name, seed, int(plain["window"]), identity, run)

    @property
    def last_layer(self) -> int | None:
        """The last decoder layer that training runs, where it needs no more of the model; None for a whole model.

        An evaluation during training needs the whole one.
        """
        if not isinstance(self.recipe, Method) or self.prepared.settings.evaluation.every:
            return None
        return self.recipe.depth()

    def refuse_what_does_not_fit(self, items: Sequence[TokenItem]) -> None:
        """Compare the longest item with the model's context, and the memory needed with what there is, from the config
        alone."""
        source, length = self.prepared.settings.model, max(len(item.ids) for item in items)
        config = load_config(source)
        context = context_of(config)
        if context is not None and length > context:
            advice = f"set window={context} or less" if self.window > context else "shorten the longest fact"
            raise UserError(f"an item has {length} tokens, the model's context is {context}: {advice}")
        needed = estimate(
            config,
            self.trainer,
            dtype=DTYPES[source.dtype],
            length=length,
            n_processes=processes_of(self.trainer) * Machines.of_this_step().count,
            last_layer=self.last_layer,
        )
        refuse_too_large(needed, self.trainer)


def prepared_once(settings: Settings, known: dict[str, Prepared]) -> Prepared:
    """As `prepare`; what `known` holds from another job of the sweep is not read again."""
    key = canonical({name: settings.plain[name] for name in READ})
    if key not in known:
        known[key] = prepare(settings)
    return replace(known[key], settings=settings)


def place(prepared: Prepared, name: str) -> tuple[str, RunDir]:
    """The id of the run of this name that the settings and inputs make, and where it lies."""
    plain = prepared.settings.plain
    identity = run_id(plain, prepared.inputs)
    return identity, RunDir(prepared.settings.study_dir / f"{name}-s{int(plain['seed'])}-{identity[:8]}")


def _check_layer(recipe: Recipe, settings: Settings) -> None:
    depths = [phase.method.depth() for phase in recipe.phases() if phase.method is not None]
    for last_layer in depths:
        if last_layer is not None:
            check_layer(load_config(settings.model), last_layer)


def _name(method: str, wrapper_name: str, wrapper: Wrapper | None) -> str:
    return method if wrapper is None else f"{method}_{wrapper_name}"
