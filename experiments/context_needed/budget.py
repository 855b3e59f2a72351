"""What the study would take on Kimi K2.5 with its window of 256K tokens; needs no network and no GPU.

    python experiments/context_needed/budget.py

The shape is that of the published config.json, the parameters are counted on a model without storage, the lengths and
pieces are those that `menard context` would use. Time is arithmetic over an assumed share of the GPUs' peak: it says
minutes or hours, not which minute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

from menard_unlearn.context.draws import lengths_of
from menard_unlearn.models.long import LEAST, PAIRS_AT_ONCE

SHAPE = DeepseekV3Config(
    vocab_size=163840,
    hidden_size=7168,
    intermediate_size=18432,
    moe_intermediate_size=2048,
    num_hidden_layers=61,
    first_k_dense_replace=1,
    num_attention_heads=64,
    num_key_value_heads=64,
    q_lora_rank=1536,
    kv_lora_rank=512,
    qk_nope_head_dim=128,
    qk_rope_head_dim=64,
    v_head_dim=128,
    n_routed_experts=384,
    n_shared_experts=1,
    num_experts_per_tok=8,
    n_group=1,
    topk_group=1,
    max_position_embeddings=262144,
    tie_word_embeddings=False,
)
"""text_config of moonshotai/Kimi-K2.5; Kimi K2's own README says the same of layers, widths, heads and experts, 1T
parameters in all and 32B a token, which the count below has to meet."""
N = SHAPE.to_dict()
KEY, VALUE = N["qk_nope_head_dim"] + N["qk_rope_head_dim"], N["v_head_dim"]
"""Numbers of a head's key and value."""
EXPERT_BITS = 4 + 16 / 32
"""Of a routed expert's weight on the hub: 4 bits, and a bf16 scale for 32 of them (compressed-tensors); the rest is
bf16."""
TARGET = 5000
"""Tokens of the target, as in the essay's claim."""
BESIDE = 16
"""Tokens of BOS, separator and prompt, generously."""
FIRST, DRAWS = 1024, 5
TEXTS = {"own": 2, "shuffled": 1, "other": 1}
"""Kinds of contexts, and the texts that are scored after each: the target, and after its own contexts a control."""
PIECE = 8192
"""evaluation.reproduction.piece"""
GPU, GPUS, MEMORY, PEAK, USED = "H200 SXM, 141 GB", 8, 141e9, 989e12, 0.30
"""Dense bf16 operations a second (NVIDIA's data sheet); the used part is assumed, not measured."""
GB = 1e9


@dataclass(frozen=True)
class Counted:
    """Parameters."""

    routed: int
    others: int

    @property
    def active(self) -> float:
        """That a token meets, its own row of the embedding for all of it."""
        return self.others + self.routed * N["num_experts_per_tok"] / N["n_routed_experts"]


def counted() -> Counted:
    """Of a model without storage."""
    with torch.device("meta"):
        model = DeepseekV3ForCausalLM(SHAPE)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    routed = sum(size for name, size in sizes.items() if ".mlp.experts." in name)
    return Counted(routed, sum(sizes.values()) - routed)


def cache_bytes(tokens: int) -> int:
    """Of the latents and the rotated key that transformers keeps of a token in each layer, bf16."""
    return 2 * N["num_hidden_layers"] * (N["kv_lora_rank"] + N["qk_rope_head_dim"]) * tokens


def expanded_bytes(tokens: int) -> int:
    """Of all heads' keys and values, which one layer at a time makes of its latents, bf16."""
    return 2 * N["num_attention_heads"] * (KEY + VALUE) * tokens


def pieces(begin: int, tokens: int) -> list[int]:
    """Ends of the pieces in which so many tokens are read after `begin` others, as `models.long.Reader` cuts them."""
    ends, at = [], begin
    while at < begin + tokens:
        at = min(begin + tokens, at + max(LEAST, min(PIECE, PAIRS_AT_ONCE["other"] // (at + PIECE))))
        ends.append(at)
    return ends


def attended(begin: int, tokens: int) -> float:
    """Operations of attention's two products for tokens after `begin` others, each with all before it, and of making
    keys and values of the latents anew for each piece."""
    pairs = tokens * begin + tokens * tokens / 2
    products = 2 * N["num_attention_heads"] * (KEY + VALUE) * pairs
    expanded = N["num_attention_heads"] * (N["qk_nope_head_dim"] + VALUE)
    made = 2 * N["kv_lora_rank"] * expanded * sum(pieces(begin, tokens))
    return N["num_hidden_layers"] * (products + made)


def operations(lengths: Sequence[int], texts: int, active: float) -> float:
    """Of one draw: the context once, and after each length each text."""
    context = 2 * active * lengths[-1] + attended(0, lengths[-1])
    return context + texts * sum(2 * active * TARGET + attended(length, TARGET) for length in lengths)


def naive(lengths: Sequence[int], texts: int, active: float) -> float:
    """The same where every context is read anew for every length and text."""
    return texts * sum(2 * active * (length + TARGET) + attended(0, length + TARGET) for length in lengths)


def main() -> None:
    """The figures of README.md, and what they assume."""
    found, window = counted(), N["max_position_embeddings"]
    lengths = lengths_of(FIRST, None, window=window, taken=TARGET + BESIDE)
    tokens, total = lengths[-1] + TARGET + BESIDE, found.routed + found.others
    beside = cache_bytes(tokens) + expanded_bytes(tokens)
    print(f"parameters: {total / 1e12:.3f}T, of which a token meets {found.active / 1e9:.1f}B")
    print(f"lengths: {lengths[0]:,} to {lengths[-1]:,} tokens, {len(lengths)} of them; window {window:,}")
    print(
        f"cache of {tokens:,} tokens: {cache_bytes(tokens) / GB:.1f} GB; of a window: {cache_bytes(window) / GB:.1f} GB"
    )
    print(f"keys and values of the layer that runs: {expanded_bytes(tokens) / GB:.1f} GB")
    weights = {"bf16": 2 * total, "as on the hub": int(found.routed * EXPERT_BITS / 8 + 2 * found.others)}
    for name, size in weights.items():
        gpus = math.ceil((size + beside) / (0.9 * MEMORY))
        print(f"weights, {name}: {size / GB:,.0f} GB; with these {(size + beside) / GB:,.0f} GB, {gpus} GPUs ({GPU})")
    whole = DRAWS * sum(operations(lengths, texts, found.active) for texts in TEXTS.values())
    anew = DRAWS * sum(naive(lengths, texts, found.active) for texts in TEXTS.values())
    print(f"{DRAWS} draws of each of {', '.join(TEXTS)}: {whole / 1e18:.2f} exaFLOP; without a cache {anew / 1e18:.2f}")
    minutes = whole / (PEAK * USED) / 60
    print(f"at {USED:.0%} of the peak: {minutes / GPUS:.0f} min on {GPUS} GPUs at once, {minutes:.0f} min in turn")


if __name__ == "__main__":
    main()
