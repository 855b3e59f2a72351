"""One forward pass from a batch to the number that is descended."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from menard_unlearn.corpus.batches import UnlearnBatch
from menard_unlearn.errors import UserError
from menard_unlearn.methods.base import Frozen, Method
from menard_unlearn.training.trained import mixed_precision


class Objective(nn.Module):
    """Model and method as one module, so that what wraps it for several processes sees one forward a backward pass.

    A method may run the model twice, or only its first layers; hooks on the inner model would miscount both.
    """

    def __init__(self, model: nn.Module, method: Method, frozen: Frozen) -> None:
        super().__init__()
        self.model = model
        self.method = method
        self.frozen = frozen

    def train(self, mode: bool = True) -> Objective:
        """Dropout stays off: model and base are to differ by their weights alone, and a batch is to have one loss."""
        super().train(mode)
        self.model.eval()
        return self

    def forward(self, batch: UnlearnBatch, counts: Mapping[str, int]) -> dict[str, Tensor]:
        """This batch's share of each named term: its sum over the count of the whole step."""
        with mixed_precision(self.model, batch.forget.input_ids_BT.device.type):
            terms = self.method.loss(self.model, batch, self.frozen)
        for name, term in terms.items():
            if counts[term.per] == 0:
                raise UserError(
                    f"a step has no {term.per} for the term {name!r}: give longer items or a larger trainer.batch_size"
                )
        return {name: term.total / counts[term.per] for name, term in terms.items()}
