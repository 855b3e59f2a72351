"""Models and a tokenizer whose scores are known."""

from __future__ import annotations

import hashlib
import math
from itertools import pairwise

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from menard_unlearn.evaluation.target import Target

SPECIAL = ("<pad>", "<bos>", "<eos>")


def target(text: str, *, publish: bool = False, prompt: str = "") -> Target:
    """A target of these words."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Target(
        text=text, prompt=prompt, sha256=digest, language="en", published="1939-05", publish=publish, name="toy"
    )


def byte_tokenizer(bos: bool = True) -> PreTrainedTokenizerFast:
    """One token a byte: three special tokens and 256 bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = {"pad_token": "<pad>", "eos_token": "<eos>"} | ({"bos_token": "<bos>"} if bos else {})
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def llama(
    vocabulary: int = 259, *, layers: int = 2, dtype: torch.dtype = torch.float64, seed: int = 0
) -> LlamaForCausalLM:
    """A small random Llama; in float64 its scores are exact enough to compare to 1e-9."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        attention_dropout=0.5,
    )
    model = LlamaForCausalLM(config).eval()
    return model.double() if dtype == torch.float64 else model.float()


def bigram(logits_VV: Tensor) -> LlamaForCausalLM:
    """A Llama of no layers whose logits after token i are row i: embeddings are one-hot, the head holds the table."""
    size = len(logits_VV)
    # A power of four: the norm, which is fp32 in a float64 model too, divides by its square root exactly.
    padded = 4 ** math.ceil(math.log(size, 4))
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=padded,
        intermediate_size=2,
        num_hidden_layers=0,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        rms_norm_eps=0.0,
    )
    model = LlamaForCausalLM(config).double().eval()
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(size, padded))
        # The norm makes of a one-hot vector one of length √padded.
        model.lm_head.weight.zero_()
        model.lm_head.weight[:, :size] = logits_VV.T.double() / padded**0.5
    return model


def successor(ids: list[int], vocabulary: int = 259, strength: float = 20.0) -> LlamaForCausalLM:
    """A model that has learned one sequence by heart; no id may have two successors."""
    logits_VV = torch.zeros(vocabulary, vocabulary)
    for token, following in pairwise(ids):
        logits_VV[token, following] = strength
    return bigram(logits_VV)
