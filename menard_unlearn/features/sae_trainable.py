"""A sparse autoencoder while it is trained: its parameters, its loss by kind, and what it is used as afterwards.

Inputs are scaled to a mean norm of √D. The squared error is taken a number of the stream: ‖x − x̂‖² / D, about 1 for a
dictionary that explains nothing.

Legend: N tokens of a batch, D width, F features, X features that are dead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from menard_unlearn.errors import UserError
from menard_unlearn.features.sae import Sae
from menard_unlearn.features.sae_source import BatchTopK, JumpRelu, TopK, TrainedSae


@dataclass(frozen=True, eq=False)
class Step:
    """What a batch gave."""

    a_NF: Tensor
    error_ND: Tensor
    """x − x̂."""
    terms: dict[str, Tensor]
    """Named parts of the loss, which is their sum."""

    @property
    def loss(self) -> Tensor:
        """Their sum."""
        return torch.stack(list(self.terms.values())).sum()


class Trainable(nn.Module):
    """The parameters in fp32 and what training keeps beside them."""

    def __init__(self, config: TrainedSae, mean_D: Tensor) -> None:
        """`mean_D` is that of the scaled activations, where b_dec begins."""
        super().__init__()
        width = len(mean_D)
        n_features = config.n_features(width)
        first_FD = torch.randn(n_features, width, generator=torch.Generator().manual_seed(config.seed))
        first_FD /= first_FD.norm(dim=1, keepdim=True)
        self.config = config
        self.W_enc_DF = nn.Parameter(first_FD.T.clone())
        self.b_enc_F = nn.Parameter(torch.zeros(n_features))
        self.W_dec_FD = nn.Parameter(first_FD)
        self.b_dec_D = nn.Parameter(mean_D.detach().float().clone())
        first = config.first_threshold if isinstance(config, JumpRelu) else 0.0
        self.threshold_F = nn.Parameter(torch.full((n_features,), first), requires_grad=isinstance(config, JumpRelu))
        # float64: in fp32 a running mean of so slow a decay would stand still
        self.register_buffer("running_threshold", torch.tensor(float("nan"), dtype=torch.float64))
        self.register_buffer("silent_F", torch.zeros(n_features, dtype=torch.int64))
        self.running_threshold: Tensor
        self.silent_F: Tensor
        """Tokens since each feature last fired."""

    def step(self, x_ND: Tensor, share: float) -> Step:
        """The loss on scaled activations, `share` of the training being over."""
        config = self.config
        pre_NF = (x_ND - self.b_dec_D) @ self.W_enc_DF + self.b_enc_F
        if isinstance(config, JumpRelu):
            a_NF = _JumpRelu.apply(pre_NF, self.threshold_F, config.bandwidth)
        else:
            a_NF = _largest(pre_NF.relu(), config.k, together=isinstance(config, BatchTopK))
        error_ND = x_ND - (a_NF @ self.W_dec_FD + self.b_dec_D)
        terms = {"error": error_ND.square().mean()}
        if isinstance(config, JumpRelu):
            l0 = _Fires.apply(pre_NF, self.threshold_F, config.bandwidth).sum(1).mean()
            grown = share / config.sparsity_warm_up if config.sparsity_warm_up else 1.0
            weight = config.sparsity_weight * min(1.0, grown)
            terms["sparsity"] = weight * (l0 / config.k - 1).square()
        self._watch(a_NF.detach())
        if isinstance(config, TopK) and config.aux_weight and (aux := self._aux(pre_NF, error_ND.detach())) is not None:
            terms["aux"] = config.aux_weight * aux
        return Step(a_NF.detach(), error_ND.detach(), terms)

    @torch.no_grad()
    def _watch(self, a_NF: Tensor) -> None:
        """Note who fired and, for batch_topk, the least activation that was kept."""
        self.silent_F += len(a_NF)
        self.silent_F[(a_NF > 0).any(0)] = 0
        if isinstance(self.config, BatchTopK) and (firing := a_NF[a_NF > 0]).numel():
            least, decay = firing.min().double(), self.config.threshold_decay
            # Begun at the first value: from 0, a short training would end with too low a threshold
            self.running_threshold = torch.where(
                self.running_threshold.isnan(), least, decay * self.running_threshold + (1 - decay) * least
            )

    def _aux(self, pre_NF: Tensor, error_ND: Tensor) -> Tensor | None:
        """What the dead features, the D/2 likeliest a token, leave of the others' error (arXiv 2406.04093, A.2)."""
        dead_X = (self.silent_F >= self.config.dead_after_tokens).nonzero()[:, 0]
        if not len(dead_X):
            return None
        most = max(1, error_ND.shape[1] // 2)
        a_NX = _largest(pre_NF[:, dead_X].relu(), min(most, len(dead_X)), together=False)
        left_ND = a_NX @ self.W_dec_FD[dead_X] - error_ND
        return min(1.0, len(dead_X) / most) * left_ND.square().mean()

    @torch.no_grad()
    def along_the_sphere(self) -> None:
        """Take from the decoder's gradient what would change the length of its rows."""
        gradient_FD = self.W_dec_FD.grad
        if gradient_FD is not None:
            gradient_FD -= (gradient_FD * self.W_dec_FD).sum(1, keepdim=True) * self.W_dec_FD

    @torch.no_grad()
    def settle(self) -> None:
        """After a step: decoder rows of length 1, and no threshold below 0, which would let negative ones through."""
        self.W_dec_FD /= self.W_dec_FD.norm(dim=1, keepdim=True)
        self.threshold_F.clamp_(min=0)

    def dead_share(self) -> float:
        """Share of features that have been silent for `dead_after_tokens` tokens."""
        return float((self.silent_F >= self.config.dead_after_tokens).double().mean())

    @torch.no_grad()
    def as_used(self, layer: int, model_name: str) -> Sae:
        """What it is used as, for scaled activations: no longer tied to these parameters. Raises UserError where
        nothing has ever fired."""
        topk = isinstance(self.config, TopK) and not isinstance(self.config, BatchTopK)
        threshold_F = self.threshold_F.detach().clone()
        if isinstance(self.config, BatchTopK):
            if self.running_threshold.isnan():
                raise UserError("no feature of the SAE ever fired: give a lower sae.learning_rate")
            threshold_F.fill_(float(self.running_threshold))
        return Sae(
            architecture="topk" if topk else "jumprelu",
            W_enc_DF=self.W_enc_DF.detach().clone(),
            b_enc_F=self.b_enc_F.detach().clone(),
            W_dec_FD=self.W_dec_FD.detach().clone(),
            b_dec_D=self.b_dec_D.detach().clone(),
            threshold_F=None if topk else threshold_F,
            k=self.config.k if topk else None,
            apply_b_dec_to_input=True,
            layer=layer,
            model_name=model_name,
        )


def folded(sae: Sae, scale: float) -> Sae:
    """The SAE for plain activations that does what this one does for activations times `scale`.

        decode(encode(x)) = decode'(encode'(scale · x)) / scale

    The decoder's rows keep their length, so activations are divided by `scale`, and so are both biases and the
    thresholds; which features fire stays the same.
    """
    return replace(
        sae,
        b_enc_F=sae.b_enc_F / scale,
        b_dec_D=sae.b_dec_D / scale,
        threshold_F=None if sae.threshold_F is None else sae.threshold_F / scale,
        max_F=None if sae.max_F is None else sae.max_F / scale,
    )


def _largest(a_NF: Tensor, k: int, *, together: bool) -> Tensor:
    """What is among the k largest of its token, or, `together`, among the k·N largest of the batch; else 0."""
    flat = a_NF.reshape(1, -1) if together else a_NF
    values, places = flat.topk(min(k * len(a_NF) if together else k, flat.shape[1]), dim=1, sorted=False)
    return torch.zeros_like(flat).scatter(1, places, values).view_as(a_NF)


def _near(pre_NF: Tensor, threshold_F: Tensor, bandwidth: float) -> Tensor:
    """The estimators' kernel: 1 within half the bandwidth of the threshold."""
    return ((pre_NF - threshold_F).abs() < bandwidth / 2).to(pre_NF.dtype)


class _JumpRelu(torch.autograd.Function):
    """z where z > θ; ∂/∂θ is taken to be −(θ/ε)·K((z − θ)/ε)."""

    @staticmethod
    def forward(ctx: Any, pre_NF: Tensor, threshold_F: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre_NF, threshold_F)
        ctx.bandwidth = bandwidth
        return pre_NF * (pre_NF > threshold_F)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (pre_NF, threshold_F), (gradient_NF,) = ctx.saved_tensors, gradients
        near_NF = _near(pre_NF, threshold_F, ctx.bandwidth)
        of_threshold_F = -(threshold_F / ctx.bandwidth) * (near_NF * gradient_NF).sum(0)
        return gradient_NF * (pre_NF > threshold_F), of_threshold_F, None


class _Fires(torch.autograd.Function):
    """1 where z > θ; ∂/∂θ is taken to be −(1/ε)·K((z − θ)/ε), ∂/∂z is 0."""

    @staticmethod
    def forward(ctx: Any, pre_NF: Tensor, threshold_F: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre_NF, threshold_F)
        ctx.bandwidth = bandwidth
        return (pre_NF > threshold_F).to(pre_NF.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        (pre_NF, threshold_F), (gradient_NF,) = ctx.saved_tensors, gradients
        near_NF = _near(pre_NF, threshold_F, ctx.bandwidth)
        return None, -(near_NF * gradient_NF).sum(0) / ctx.bandwidth, None
