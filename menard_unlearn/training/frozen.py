"""The base model's quantities without a second model. Legend: B items, T tokens, N scored tokens, K of them, D width,
V vocabulary, R tokens that a top-k reference lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from menard_unlearn.corpus.batches import TokenBatch, TokenItem, collate
from menard_unlearn.corpus.encoding import Encoder
from menard_unlearn.methods import base
from menard_unlearn.models.cut import Cut, deepest, record
from menard_unlearn.models.delta import swapped
from menard_unlearn.models.predictions import Predictions, predict, with_head_of
from menard_unlearn.models.stump import Prefix, decoder_layers, residuals
from menard_unlearn.training.trained import mixed_precision

SHARES = 6
"""Of the trained tensors' size: first values, gradient and two optimizer states make four, two are for activations."""


class FrozenModel:
    """Runs the model with the trained tensors' first values in place; implements `methods.base.Frozen`.

    Costs one copy of the trained tensors, beside the model where there is room and else on the CPU, and no state in
    between: the same batch always has the same quantities, in a resumed run too. Without `originals` it is the model as
    it is: another one than is trained, and so without a prefix.
    """

    def __init__(
        self,
        model: nn.Module,
        originals: Mapping[str, Tensor],
        sample: TokenBatch,
        encoder: Encoder,
        kl_top_k: int | None = None,
    ) -> None:
        """`originals`: the trained tensors, or the adapters, before the first step. `sample`: retained text, for
        `mean_norm`. `kl_top_k`: see `top_k_kl`; None compares whole distributions."""
        self._model = model
        self._originals = originals
        self._sample = sample
        self._encoder = encoder
        self._top_k = kl_top_k
        self._placed = False
        self._norms: dict[int, float] = {}
        self._first = first_trained_layer(model, originals)
        self._cut: Cut | None = None
        self._prefixes: WeakKeyDictionary[TokenBatch, Prefix] = WeakKeyDictionary()

    def prefix(self, batch: TokenBatch) -> Prefix | None:
        """Made once a batch, for the model and the base."""
        if self._first == 0:
            return None
        if batch not in self._prefixes:
            self._prefixes[batch] = self._make_prefix(batch)
        return self._prefixes[batch]

    def _make_prefix(self, batch: TokenBatch) -> Prefix:
        cut = self.cut()
        return cut.prefix(record(self._model, batch.inputs, cut))

    def cut(self) -> Cut:
        """Where the prefix ends."""
        if self._cut is None:
            with mixed_precision(self._model, self._device.type):
                self._cut = deepest(self._model, self._few_tokens, self._first, self._originals)
        return self._cut

    @property
    def _device(self) -> torch.device:
        return next(self._model.parameters()).device

    @property
    def _few_tokens(self) -> dict[str, Tensor]:
        """Inputs that cost nothing, to see what the model makes of them."""
        sample = self._sample.to(self._device)
        return {"input_ids": sample.input_ids_BT[:2], "attention_mask": sample.attention_mask_BT[:2]}

    def _as_base(self) -> AbstractContextManager[nn.Module]:
        """The model with its first values."""
        if not self._placed:
            self._originals, self._placed = beside(self._originals, self._device), True
        return swapped(self._model, self._originals)

    @torch.no_grad()
    def predictions(self, batch: TokenBatch) -> Predictions:
        """One forward pass."""
        prefix = self.prefix(batch)
        with self._as_base():
            found = predict(self._model, batch, prefix)
        return with_head_of(self._model, found, self._originals)

    def conditioned(self, batch: TokenBatch, text: str) -> Predictions:
        """One forward pass on longer items."""
        return self.predictions(preceded(batch, text, self._encoder))

    @torch.no_grad()
    def sequence_logprob(self, batch: TokenBatch) -> Tensor:
        """logprob_B."""
        return base.by_item(self.predictions(batch).logprob(), batch)

    def kl(self, own: Predictions, batch: TokenBatch) -> Tensor:
        """kl_N."""
        if self._top_k is None:
            return own.map(base.token_kl, self.predictions(batch))
        return own.map(top_k_kl, *self.top_k(batch))

    @torch.no_grad()
    def top_k(self, batch: TokenBatch) -> tuple[Tensor, Tensor, Tensor]:
        """token_NR (int64), logprob_NR and rest_N: the likeliest tokens, and the log-probability of all others."""
        found_NX = self.predictions(batch).map(lambda logits_KV, _target_K: likeliest(logits_KV, self._top_k or 1))
        token_NR, logprob_NR, rest_N1 = found_NX.split([size := found_NX.shape[1] // 2, size, 1], dim=1)
        return token_NR.long(), logprob_NR, rest_N1[:, 0]

    @torch.no_grad()
    def states(self, batch: TokenBatch, layers: Sequence[int]) -> tuple[Tensor, ...]:
        """states_ND of each layer."""
        with self._as_base():
            return base.states(self._model, batch, layers, self)

    @torch.no_grad()
    def mean_norm(self, layer: int) -> float:
        """Taken once a layer."""
        if layer not in self._norms:
            sample = self._sample.to(self._device)
            with mixed_precision(self._model, self._device.type), self._as_base():
                (hidden_BTD,) = residuals(self._model, sample.inputs, [layer], None)
            # The first position's norm is an outlier, in large models hundreds of times that of the others.
            counted_BT = sample.position_ids_BT > 0
            self._norms[layer] = hidden_BTD.float().norm(dim=-1)[counted_BT].double().mean().item()
        return self._norms[layer]


MakeFrozen = Callable[[nn.Module, Mapping[str, Tensor], TokenBatch, Encoder], base.Frozen]
"""From (model, originals, sample, encoder), as `FrozenModel` takes them."""


def beside(originals: Mapping[str, Tensor], device: torch.device) -> Mapping[str, Tensor]:
    """The same values on the model's device, so that they need not be sent there at every step.

    They stay where they are if the gradients and optimizer states, which do not exist yet, would then leave little.
    """
    size = sum(tensor.nbytes for tensor in originals.values() if tensor.device != device)
    if size == 0 or device.type != "cuda" or SHARES * size > torch.cuda.mem_get_info(device)[0]:
        return originals
    return {name: tensor.to(device) for name, tensor in originals.items()}


def first_trained_layer(model: nn.Module, trained: Mapping[str, Tensor]) -> int:
    """The decoder layer before which nothing is trained; 0 where what is trained is not in the layers alone."""
    inside: dict[int, int] = {}
    for number, layer in enumerate(decoder_layers(model)):
        inside |= {id(parameter): number for parameter in layer.parameters()}
    named = dict(model.named_parameters())
    return min((inside.get(id(named[name]), 0) for name in trained), default=0)


def likeliest(logits_KV: Tensor, k: int) -> Tensor:
    """The k likeliest tokens, their log-probabilities and that of all others together, side by side.

    Ids are whole in fp32 up to 16 million. Where no other token is left, the last number is -inf.
    """
    logprob_KV = logits_KV.log_softmax(dim=-1)
    logprob_KR, token_KR = logprob_KV.topk(min(k, logits_KV.shape[-1]), dim=-1)
    rest_K1 = logprob_KV.scatter(-1, token_KR, -torch.inf).logsumexp(dim=-1, keepdim=True)
    return torch.cat([token_KR.to(logprob_KR.dtype), logprob_KR, rest_K1], dim=-1)


def top_k_kl(logits_KV: Tensor, _target_K: Tensor, token_KR: Tensor, logprob_KR: Tensor, rest_K: Tensor) -> Tensor:
    """kl_K: KL(base ‖ own) of the distributions in which all but the base's k likeliest tokens are one event.

    Σ_top p·(log p − log q) + p_rest·(log p_rest − log q_rest). Merging events never raises a divergence, so this is at
    most KL(base ‖ own), and equal to it for k = V.
    """
    log_own_KV = logits_KV.log_softmax(dim=-1)
    top_K = (logprob_KR.exp() * (logprob_KR - log_own_KV.gather(-1, token_KR))).sum(dim=-1)
    if token_KR.shape[-1] == logits_KV.shape[-1]:
        return top_K
    # Not log(1 − Σ q), which loses its digits where the top holds nearly everything
    own_rest_K = log_own_KV.scatter(-1, token_KR, -torch.inf).logsumexp(dim=-1)
    return top_K + rest_K.exp() * (rest_K - own_rest_K)


def preceded(batch: TokenBatch, text: str, encoder: Encoder) -> TokenBatch:
    """The same items with a text before each, which is not scored; one item a row."""
    added, start = encoder.words(text), len(encoder.start)
    items = []
    for number, id in enumerate(batch.ids):
        own_BT = (batch.item_BT == number) & batch.attention_mask_BT.bool()
        ids = tuple(batch.input_ids_BT[own_BT].tolist())
        n_prompt = int((~batch.loss_mask_BT[own_BT]).sum())
        items.append(TokenItem(id, (*ids[:start], *added, *ids[start:]), n_prompt + len(added)))
    return collate(items, batch.name, encoder.pad_id).to(batch.input_ids_BT.device)
