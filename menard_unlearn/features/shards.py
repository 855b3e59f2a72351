"""Activations on the disk, in shards, and how a training reads them.

Legend: N tokens, D width.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from menard_unlearn.errors import UserError
from menard_unlearn.files import from_here, replace

MIXED = 4
"""Shards that are held at once, so that a batch mixes what was collected far apart."""
INDEX = "activations.json"
"""What the folder was made from, written before the first shard."""


@dataclass(frozen=True, eq=False)
class Shards:
    """The activations of `n_tokens` tokens, in the order in which they were collected, which was a random one."""

    folder: Path
    key: str
    """Digest of all that they were made from."""
    sizes: tuple[int, ...]
    """Tokens of each shard."""
    n_held_out: int
    """Tokens at the end which no training sees."""
    mean_D: Tensor
    """fp32, over all tokens."""
    mean_norm: float
    """Mean length of a token's vector."""

    @property
    def n_tokens(self) -> int:
        """All of them."""
        return sum(self.sizes)

    @property
    def n_trained(self) -> int:
        """Those before the held-out ones."""
        return self.n_tokens - self.n_held_out

    @property
    def width(self) -> int:
        """D."""
        return len(self.mean_D)

    def batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Tensor]:
        """x_ND in fp32, for ever, from batch number `start` on, which costs no reading of what came before.

        Each round visits the training tokens in another order, which the seed decides, less what fills no batch; a
        batch mixes up to `MIXED` shards. Raises UserError where a group of shards does not fill one batch.
        """
        sizes = self._trained_sizes()
        n_groups = -(-len(sizes) // MIXED)
        # Groups differ by one shard at most, and only one shard is smaller than the others
        least = sum(sorted(sizes)[: len(sizes) // n_groups])
        if least < batch_size:
            raise UserError(
                f"sae.batch_size {batch_size} asked of groups of {least} activations: collect more, or ask for fewer"
            )
        return self._rounds(sizes, n_groups, batch_size, seed, start)

    def _rounds(self, sizes: Sequence[int], n_groups: int, batch_size: int, seed: int, start: int) -> Iterator[Tensor]:
        number, epoch = 0, 0
        while True:
            generator = np.random.default_rng([seed, epoch])
            for group in np.array_split(generator.permutation(len(sizes)), n_groups):
                rows = torch.from_numpy(generator.permutation(sum(sizes[shard] for shard in group)))
                n_batches = len(rows) // batch_size
                skipped = min(max(0, start - number), n_batches)
                if skipped < n_batches:
                    x_ND = torch.cat([self._read(int(shard))[: sizes[shard]] for shard in group])
                    for at in range(skipped, n_batches):
                        yield x_ND[rows[at * batch_size : (at + 1) * batch_size]].float()
                number += n_batches
            epoch += 1

    def trained(self, chunk: int) -> Iterator[Tensor]:
        """x_ND in fp32 of every training token, in the order of the shards."""
        for number, size in enumerate(self._trained_sizes()):
            yield from (x_ND.float() for x_ND in self._read(number)[:size].split(chunk))

    def held_out(self, chunk: int) -> Iterator[Tensor]:
        """x_ND in fp32 of the held-out tokens."""
        trained = self._trained_sizes()
        for number, size in enumerate(self.sizes):
            seen = trained[number] if number < len(trained) else 0
            if seen < size:
                yield from (x_ND.float() for x_ND in self._read(number)[seen:].split(chunk))

    def _trained_sizes(self) -> list[int]:
        """Training tokens of each shard that has any."""
        left = self.n_trained
        found = []
        for size in self.sizes:
            if left > 0:
                found.append(min(size, left))
            left -= size
        return found

    def _read(self, number: int) -> Tensor:
        return load_file(shard_path(self.folder, number))["x_ND"]


def shard_path(folder: Path, number: int) -> Path:
    """The file of a shard."""
    return folder / f"shard-{number:05}.safetensors"


def write_shard(folder: Path, number: int, x_ND: Tensor) -> None:
    """Write a shard whole, with the sums that means are made of: float64, of the numbers as they are stored."""
    exact_ND = x_ND.double()
    tensors = {"x_ND": x_ND.contiguous(), "sum_D": exact_ND.sum(0), "norms": exact_ND.norm(dim=1).sum()}
    replace(shard_path(folder, number), save(tensors))


def read_index(folder: Path) -> dict[str, Any] | None:
    """What the folder was made from; None where it holds nothing yet. Raises UserError where it holds something
    else."""
    path = folder / INDEX
    if not path.is_file():
        if folder.is_dir() and any(not found.name.startswith(".") for found in folder.iterdir()):
            raise UserError(f"{from_here(folder)} holds no activations but something else: name an empty folder")
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{from_here(path)} is damaged: delete {from_here(folder)}") from error


def is_whole(folder: Path, number: int, size: int, width: int) -> bool:
    """Whether this shard is there. Raises UserError where its file is another one than what is to be written."""
    path = shard_path(folder, number)
    if not path.is_file():
        return False
    try:
        with safe_open(path, "pt") as file:
            shape = tuple(file.get_slice("x_ND").get_shape())
    except SafetensorError as error:
        raise UserError(f"{from_here(path)} is damaged: delete it, and it is made anew") from error
    if shape != (size, width):
        raise UserError(f"{from_here(path)} holds {shape} numbers instead of {(size, width)}: delete it")
    return True


def opened(folder: Path, key: str, sizes: Sequence[int], n_held_out: int) -> Shards:
    """The shards of a folder in which all are there."""
    sum_D, norms = torch.zeros((), dtype=torch.float64), 0.0
    for number in range(len(sizes)):
        with safe_open(shard_path(folder, number), "pt") as file:
            sum_D = sum_D + file.get_tensor("sum_D")
            norms += float(file.get_tensor("norms"))
    n_tokens = sum(sizes)
    return Shards(folder, key, tuple(sizes), n_held_out, (sum_D / n_tokens).float(), norms / n_tokens)
