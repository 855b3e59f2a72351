"""Our side: the methods of the package, as its trainer runs them."""

from __future__ import annotations

from pathlib import Path

import torch
from settings import ENCODER, LEARNING_RATE, MAX_GRAD_NORM, SIDES, Sizes, items, method
from torch import nn

from menard_unlearn.corpus.batches import UnlearnBatch, collate, pack
from menard_unlearn.models.load import ModelSource, load
from menard_unlearn.models.partial import load_stump
from menard_unlearn.training.cache import CacheConfig, caching
from menard_unlearn.training.objective import Objective
from menard_unlearn.training.trained import copies, prepare


class Fast:
    """One side of a benchmark; see `sides.Side`."""

    def __init__(
        self, folder: Path, sizes: Sizes, kind: str, *, qa: bool = False, packing: bool = True, cached: int = 0
    ) -> None:
        """`qa`: items of unequal length. `cached`: how many batches there will be, whose quantities are then computed
        here and read in the steps."""
        self.sizes, self.qa = sizes, qa
        self.lay = pack if packing else collate
        chosen = method(kind, sizes)
        source = ModelSource("random", str(folder), None, None, None, "float32", None, None)
        depth = chosen.depth()
        model = (load(source) if depth is None else load_stump(source, depth)).model
        self.trained = prepare(model, sizes.trained)
        sample = collate(items("retain", -1, sizes, qa=False), "retain", ENCODER.pad_id)
        known = {side: [item for n in range(cached) for item in items(side, n, sizes, qa=qa)] for side in SIDES}
        directory = str(folder / f"cache-{kind}") if cached else None
        make_frozen = caching(CacheConfig(directory, max_gb=100.0, kl_top_k=None), "random", "float32", known)
        self.objective = Objective(model, chosen, make_frozen(model, copies(self.trained), sample, ENCODER))
        self.optimizer = torch.optim.AdamW(self.trained.values(), lr=LEARNING_RATE, weight_decay=0.0)
        with torch.no_grad():
            for number in range(cached):
                self.objective(batch := self.batch(number), batch.counts)

    def batch(self, number: int) -> UnlearnBatch:
        forget, retain = (self.lay(items(side, number, self.sizes, qa=self.qa), side, ENCODER.pad_id) for side in SIDES)
        return UnlearnBatch(forget, retain)

    def step(self, batch: UnlearnBatch) -> dict[str, float]:
        terms = self.objective(batch, batch.counts)
        torch.stack(list(terms.values())).sum().backward()
        nn.utils.clip_grad_norm_(self.trained.values(), MAX_GRAD_NORM)
        self.optimizer.step()
        self.objective.zero_grad()
        return {name: term.item() for name, term in terms.items()}
