"""A small model, an SAE of it that fires on some tokens, and texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from toy import byte_tokenizer, llama
from transformers import LlamaForCausalLM

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.features.hooks import special_ids
from menard_unlearn.features.sae import Sae
from menard_unlearn.features.steering import kept_states

LAYER = 1
FEATURES = 48
TOKENIZER = byte_tokenizer()
BOS = 1


def model_of(layers: int = 3) -> LlamaForCausalLM:
    """In fp32, whose special tokens are the tokenizer's."""
    return llama(layers=layers, dtype=torch.float32)


def items_of(*texts: str) -> list[TokenItem]:
    """Each text after BOS."""
    return [TokenItem(text, (BOS, *TOKENIZER.encode(text, add_special_tokens=False)), 1) for text in texts]


def sae_of(model: LlamaForCausalLM, items: Sequence[TokenItem], *, share: float = 0.2, seed: int = 0) -> Sae:
    """Random directions, each of which fires on this share of the items' tokens."""
    special = special_ids(model, TOKENIZER)
    states_ND = torch.cat([states_ND for _, states_ND in kept_states(model, items, LAYER, special, 8)])
    generator = torch.Generator().manual_seed(seed)
    W_enc_DF = torch.randn(states_ND.shape[1], FEATURES, generator=generator)
    W_enc_DF /= W_enc_DF.norm(dim=0)
    centre_D = states_ND.mean(0)
    threshold_F = ((states_ND - centre_D) @ W_enc_DF).quantile(1 - share, dim=0).clamp(min=1e-3)
    sae = Sae(
        architecture="jumprelu",
        W_enc_DF=W_enc_DF,
        b_enc_F=torch.zeros(FEATURES),
        W_dec_FD=W_enc_DF.T.contiguous(),
        b_dec_D=centre_D,
        threshold_F=threshold_F,
        k=None,
        apply_b_dec_to_input=True,
        layer=LAYER,
        model_name="toy",
    )
    return replace(sae, max_F=sae.encode(states_ND).amax(0))
