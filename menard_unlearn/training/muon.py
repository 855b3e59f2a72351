"""The optimizer that small models are trained from scratch with."""

from __future__ import annotations

import torch
from transformers import LlamaForCausalLM


class MuonAdamW(torch.optim.Optimizer):
    """Muon on the matrices of the decoder layers, AdamW on embeddings and norms, as one optimizer.

    On the almanac it needs about a third of the steps of AdamW alone for the same recall. `weight_decay` is that of the
    matrices; embeddings and norms have none.
    """

    def __init__(self, model: LlamaForCausalLM, learning_rate: float, weight_decay: float) -> None:
        inner = [p for p in model.model.layers.parameters() if p.ndim == 2]
        others = [p for p in model.parameters() if all(p is not q for q in inner)]
        # the update is scaled to the size of AdamW's, so that one learning rate serves both
        muon = torch.optim.Muon(inner, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        adamw = torch.optim.AdamW(others, lr=learning_rate, weight_decay=0.0, betas=(0.9, 0.98))
        super().__init__([*inner, *others], {"lr": learning_rate})
        self.parts = (muon, adamw)
        self.param_groups = [dict(group) for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of both parts at the scheduled learning rate."""
        own = [group for part in self.parts for group in part.param_groups]
        for scheduled, group in zip(self.param_groups, own, strict=True):
            # accelerate replaces this optimizer's groups, so the schedule acts on copies
            group["lr"] = scheduled["lr"]
        for part in self.parts:
            part.step()
