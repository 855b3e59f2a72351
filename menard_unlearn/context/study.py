"""One model after all contexts: which there are, and what each token of the texts costs after them.

kind            context                                                    text
own             documents up to the cutoff                                 the target
other_target    the same                                                   a control
shuffled        the same tokens in random order                            the target
other           documents of another author                                the target
alone           none                                                       the target
alone_other     none                                                       the control

Legend: D draws, L lengths, T scored tokens.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from menard_unlearn.context.draws import Frame, Ids, Passages, shuffled
from menard_unlearn.context.scoring import Logprobs, score_after, score_alone
from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.files import replace

PLACEBOS = ("shuffled", "other", "other_target")


@dataclass(frozen=True, eq=False)
class ContextPlan:
    """Everything that is scored, as tokens; the same for every model."""

    frame: Frame
    lengths: tuple[int, ...]
    n_draws: int
    target: TokenItem
    control: TokenItem | None
    """No longer than the target; None leaves `other_target` out."""
    own: Passages
    shuffle: bool
    """Whether `shuffled` is scored."""
    other: Passages | None
    """None leaves `other` out."""
    seed: int

    def contexts(self) -> Iterator[tuple[str, int, Ids, dict[str, TokenItem]]]:
        """Name of a context and its draw, its tokens, and the texts that are scored after it by the kind that they
        are of."""
        longest = self.lengths[-1]
        beside = {} if self.control is None else {"other_target": self.control}
        for number in range(self.n_draws):
            own = self.own.draw(number, longest, self.frame, self.seed)
            yield "own", number, own, {"own": self.target, **beside}
            if self.shuffle:
                yield "shuffled", number, shuffled(own, self.lengths, number, self.seed), {"shuffled": self.target}
            if self.other is not None:
                ids = self.other.draw(number, longest, self.frame, self.seed)
                yield "other", number, ids, {"other": self.target}


def measure(model: PreTrainedModel, plan: ContextPlan, kept: Path, *, piece: int, chunk: int) -> dict[str, Logprobs]:
    """Log-probabilities by kind: logprob_DLT, and logprob_T where there is no context.

    What a context gave is kept in the folder as soon as it is there: a run that was stopped goes on where it was. The
    folder must be one model's.
    """
    texts = {"alone": plan.target} | ({} if plan.control is None else {"alone_other": plan.control})
    alone = score_alone(model, list(texts.values()), piece=piece, chunk=chunk)
    found: dict[str, list[Logprobs]] = {}
    for name, number, context, items in plan.contexts():
        path = kept / f"{name}-{number}.npz"
        if not path.is_file():
            rows = score_after(model, list(items.values()), context, plan.lengths, plan.frame, piece=piece, chunk=chunk)
            write_arrays(path, dict(zip(items, rows, strict=True)))
        for kind, logprob_LT in read_arrays(path).items():
            found.setdefault(kind, []).append(logprob_LT)
    return {kind: np.stack(rows) for kind, rows in found.items()} | dict(zip(texts, alone, strict=True))


def write_arrays(path: Path, arrays: dict[str, Logprobs]) -> None:
    """Write a .npz whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    replace(path, buffer.getvalue())


def read_arrays(path: Path) -> dict[str, Logprobs]:
    """The arrays of a .npz by name."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
