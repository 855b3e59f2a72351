"""Collect the residual stream after a layer, on any texts: to the disk, within a budget, and again from where it broke
off.

The model's forward pass is left after the layer. Special tokens are left out by id and padding by the mask, since the
norm of BOS is up to a thousand times the others' and would decide every scale.

Legend: B rows, T tokens of a row, N tokens that count, D width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from menard_unlearn.corpus.batches import TokenItem, collate
from menard_unlearn.errors import UserError
from menard_unlearn.features.hooks import kept_hidden, refuse_compiled
from menard_unlearn.features.shards import INDEX, Shards, is_whole, opened, read_index, write_shard
from menard_unlearn.files import canonical, digest_text, from_here, write_json
from menard_unlearn.models.likelihood import evaluating
from menard_unlearn.models.load import DTYPES, context_of
from menard_unlearn.models.stump import decoder_layers, refuse_absent, text_config


@dataclass(frozen=True)
class ActivationsConfig:
    """How activations are collected and kept."""

    batch_size: int
    """Sequences that are run at once."""
    tokens_per_shard: int
    """Tokens of a file; a training holds four of these at once."""
    max_bytes: int
    """What the numbers may take on the disk, all shards together; texts beyond that are not visited."""
    dtype: Literal["float32", "bfloat16", "float16"]
    """Of the stored numbers. float16 ends at 65504, which large models exceed."""
    held_out: float
    """Share of the tokens, the last ones collected, which no training sees."""
    seed: int
    """Of the order in which texts are visited, so that a budget that ends early holds a fair sample."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "tokens_per_shard", "max_bytes"):
            if getattr(self, name) < 1:
                raise UserError(f"activations.{name} {getattr(self, name)} must be 1 or more")
        if not 0 <= self.held_out < 1:
            raise UserError(f"activations.held_out {self.held_out} is a share: from 0 to below 1")


def collect(
    model: PreTrainedModel,
    items: Sequence[TokenItem],
    *,
    layer: int,
    special: Collection[int],
    config: ActivationsConfig,
    folder: Path,
    key: str,
) -> Shards:
    """The residual stream after `layer` on the items' tokens but special ones, in `folder`; `key` names the model.

    What is there already is not computed again: killed and called anew it goes on after the last whole shard, to the
    same bytes. Raises UserError for a folder that was made from something else, a layer that the model has not, an
    item longer than its window, a budget below one token, and numbers that the dtype cannot hold.
    """
    refuse_absent(layer, len(decoder_layers(model)))
    refuse_long(model, items)
    width, dtype = int(text_config(model).hidden_size), DTYPES[config.dtype]
    order = np.random.default_rng(config.seed).permutation(len(items))
    visited = [items[number] for number in order]
    kept = sum(counts(visited, special))
    n_tokens = min(kept, config.max_bytes // (width * dtype.itemsize))
    if n_tokens == 0:
        if kept:
            raise UserError(f"activations.max_bytes {config.max_bytes} holds no vector of {width} numbers: allow more")
        raise UserError("the texts hold no token but special ones: give longer texts")
    sizes = [min(config.tokens_per_shard, n_tokens - at) for at in range(0, n_tokens, config.tokens_per_shard)]
    made_from = {
        "model": key,
        "layer": layer,
        "items": _digest(items),
        "special": sorted(special),
        **asdict(config),
    }
    digest = digest_text(canonical(made_from))
    _claim(folder, made_from | {"key": digest, "n_tokens": n_tokens, "width": width}, digest)
    begun = next((n for n, size in enumerate(sizes) if not is_whole(folder, n, size, width)), len(sizes))
    if begun < len(sizes):
        _write(model, visited, layer, special, config, folder, sizes, begun)
    return opened(folder, digest, sizes, int(config.held_out * n_tokens))


def refuse_long(model: PreTrainedModel, items: Sequence[TokenItem]) -> None:
    """Raise UserError for an item that is longer than the model's window."""
    window = context_of(model.config)
    for item in items:
        if window is not None and len(item.ids) > window:
            raise UserError(f"item {item.id!r} has {len(item.ids)} tokens, the model's window {window}: cut it shorter")


def counts(items: Sequence[TokenItem], special: Collection[int]) -> list[int]:
    """Tokens of each item that are not special."""
    left_out = frozenset(special)
    return [sum(token not in left_out for token in item.ids) for item in items]


@torch.inference_mode()
def stream(
    model: PreTrainedModel, items: Sequence[TokenItem], *, layer: int, special: Collection[int], batch_size: int
) -> Iterator[Tensor]:
    """x_ND of a batch of items after another, in the model's dtype: the stream after `layer`, token after token.

    Special tokens and padding are left out. The model is in eval mode meanwhile.
    """
    refuse_compiled(model)
    device = next(model.parameters()).device
    for at in range(0, len(items), batch_size):
        # Any id will do to pad with: the mask says what is padding
        batch = collate(items[at : at + batch_size], "activations", 0).to(device)
        with evaluating(model):
            hidden_BTD, kept_BT = kept_hidden(model, batch, layer, special)
        yield hidden_BTD[kept_BT]


def _digest(items: Sequence[TokenItem]) -> str:
    """Of ids and tokens, without a text of all of them in memory."""
    found = hashlib.sha256()
    for item in items:
        found.update(f"{item.id} {len(item.ids)} ".encode())
        found.update(np.asarray(item.ids, np.int64).tobytes())
    return found.hexdigest()


def _claim(folder: Path, index: dict, digest: str) -> None:
    """Say in the folder what it is made from, or refuse it."""
    found = read_index(folder)
    if found is None:
        write_json(folder / INDEX, index)
    elif found.get("key") != digest:
        differing = ", ".join(sorted(name for name in index if found.get(name) != index[name] and name != "key"))
        raise UserError(
            f"{from_here(folder)} holds activations of something else ({differing or 'key'} differs): "
            "name another folder or delete it"
        )


def _write(
    model: PreTrainedModel,
    visited: Sequence[TokenItem],
    layer: int,
    special: Collection[int],
    config: ActivationsConfig,
    folder: Path,
    sizes: Sequence[int],
    begun: int,
) -> None:
    """Write the shards from number `begun` on.

    Batches are always the same items, since matrix products of another shape round otherwise: one that straddles the
    last whole shard's end is run again, and what was written of it is dropped.
    """
    size = config.batch_size
    n_written = sum(sizes[:begun])
    at, n_before = 0, 0
    while n_before + (n_batch := sum(counts(visited[at : at + size], special))) <= n_written:
        at, n_before = at + size, n_before + n_batch
    dropped = n_written - n_before
    waiting: list[Tensor] = []
    for x_ND in stream(model, visited[at:], layer=layer, special=special, batch_size=size):
        waiting.append(_stored(x_ND[dropped:].cpu(), config.dtype))
        dropped = 0
        while begun < len(sizes) and sum(map(len, waiting)) >= sizes[begun]:
            joined_ND = torch.cat(waiting)
            write_shard(folder, begun, joined_ND[: sizes[begun]])
            waiting, begun = [joined_ND[sizes[begun] :]], begun + 1
        if begun == len(sizes):
            return


def _stored(x_ND: Tensor, dtype: str) -> Tensor:
    stored_ND = x_ND.to(DTYPES[dtype])
    if not stored_ND.isfinite().all():
        advice = "the model itself is broken" if not x_ND.isfinite().all() else "set activations.dtype=bfloat16"
        raise UserError(f"an activation is not a number that {dtype} can hold: {advice}")
    return stored_ND
