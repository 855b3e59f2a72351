"""Tiny random models of the architectures that are supported, four layers each."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from transformers import (
    DeepseekV3Config,
    Gemma3TextConfig,
    GPTNeoXConfig,
    Kimi_K25Config,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
    Qwen3Config,
    Qwen3MoeConfig,
)

from menard_unlearn.models.architecture import auto_class
from menard_unlearn.models.load import ModelSource
from menard_unlearn.models.tokenizer import train_tokenizer

LAYERS = 4
VOCABULARY = 64
PAD = 0

SIZE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    # Wide enough that a token's neighbours change its state by more than rounding does
    "initializer_range": 0.3,
    "pad_token_id": PAD,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LATENT: dict[str, Any] = {
    "num_key_value_heads": 2,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
    "moe_intermediate_size": 8,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": LAYERS,  # as many as the decoder's: the two lists must not be taken for each other
    "num_attention_heads": 2,
    "patch_size": 4,
    "pos_emb_height": 4,
    "pos_emb_width": 4,
    "pos_emb_time": 2,
}

TINY: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SIZE, num_key_value_heads=1),
    "qwen3": Qwen3Config(**SIZE, num_key_value_heads=1, head_dim=8, tie_word_embeddings=True),
    # The first, second and fourth layer see a window, the third everything
    "gemma3": Gemma3TextConfig(
        **SIZE,
        num_key_value_heads=1,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=4,
        layer_types=["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
    ),
    "mistral": MistralConfig(**SIZE, num_key_value_heads=1, sliding_window=5),
    "olmo2": Olmo2Config(**SIZE, num_key_value_heads=1),
    "gpt_neox": GPTNeoXConfig(**SIZE),
    "phi3": Phi3Config(**SIZE, num_key_value_heads=1),
    # As many experts as layers: the list of experts is not the list of layers
    "qwen3_moe": Qwen3MoeConfig(
        **SIZE, num_key_value_heads=1, moe_intermediate_size=8, num_experts=4, num_experts_per_tok=2
    ),
    "deepseek_v3": DeepseekV3Config(**SIZE, **LATENT),
    "kimi_k25": Kimi_K25Config(
        text_config=DeepseekV3Config(**SIZE, **LATENT).to_dict(),
        vision_config=VISION,
        projection_hidden_size=16,
        image_token_id=60,
        video_token_id=61,
        vision_start_token_id=62,
        vision_end_token_id=63,
        tie_word_embeddings=False,
    ),
}
"""By transformers' model type. A model may keep its configuration: copy it before you change it."""

DOWN_PROJECTIONS: dict[str, str] = {
    "gpt_neox": r"\.mlp\.dense_4h_to_h\.weight$",
    "qwen3_moe": r"\.mlp\.experts\.down_proj$",
    "deepseek_v3": r"\.mlp\.((shared_experts\.)?down_proj\.weight|experts\.down_proj)$",
    "kimi_k25": r"\.mlp\.((shared_experts\.)?down_proj\.weight|experts\.down_proj)$",
}
"""What trainer.trained would say after `\\.layers\\.[01]`, where it is not the usual one."""
DOWN_PROJECTION = r"\.mlp\.down_proj\.weight$"


def tiny(name: str, seed: int = 0) -> PreTrainedModel:
    """A random model of this architecture in fp32, in evaluation mode."""
    torch.manual_seed(seed)
    return auto_class(TINY[name]).from_config(TINY[name]).float().eval()


def source(path: Path | str, **changes: Any) -> ModelSource:
    return dataclasses.replace(ModelSource("tiny", str(path), None, None, None, "float32", None, None), **changes)


def saved(model: PreTrainedModel, path: Path, shard: str = "8KB") -> Path:
    """The model and a tokenizer in a folder, in shards of so much. The tokenizer knows more tokens than the model."""
    model.save_pretrained(path, max_shard_size=shard)
    train_tokenizer([], vocab_size=259, context=32).save_pretrained(path)
    return path
