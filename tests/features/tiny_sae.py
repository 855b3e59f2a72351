"""Small random SAEs and texts."""

from __future__ import annotations

import torch

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.features.sae import Sae

BOS = 1
FEATURES = 24


def tiny_sae(
    width: int = 32,
    *,
    layer: int = 1,
    k: int | None = None,
    seed: int = 0,
    scale: float | None = 3.0,
    n: int = FEATURES,
) -> Sae:
    """topk where k is given, else jumprelu; about half of the features fire. `scale` is every feature's largest
    activation."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    W_dec_FD = drawn(n, width)
    return Sae(
        architecture="jumprelu" if k is None else "topk",
        W_enc_DF=drawn(width, n) / width**0.5,
        b_enc_F=0.1 * drawn(n),
        W_dec_FD=W_dec_FD / W_dec_FD.norm(dim=1, keepdim=True),
        b_dec_D=0.1 * drawn(width),
        threshold_F=0.1 * drawn(n).abs() if k is None else None,
        k=k,
        apply_b_dec_to_input=True,
        layer=layer,
        model_name="tiny",
        max_F=None if scale is None else torch.full((n,), scale),
    )


def texts(n: int, length: int, vocabulary: int, *, seed: int = 0, ragged: int = 0) -> list[TokenItem]:
    """Random tokens after BOS; item i is (i mod `ragged`) tokens shorter."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(3, vocabulary, (n, length - 1), generator=generator).tolist()
    return [
        TokenItem(f"text {i}", (BOS, *ids[: length - 1 - (i % ragged if ragged else 0)]), 1)
        for i, ids in enumerate(drawn)
    ]
