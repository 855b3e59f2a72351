from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_training import method_config, tiny_model
from transformers import LlamaConfig

from menard_unlearn.errors import UserError
from menard_unlearn.training.lora import LoraConfig
from menard_unlearn.training.memory import available_bytes, estimate, refuse_too_large

LLAMA_8B = LlamaConfig(
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
)


def test_counts_a_models_parameters_exactly() -> None:
    model = tiny_model()
    _, config = method_config("rmu")
    needed = estimate(model.config, config, dtype=torch.float32, length=16, n_processes=1)
    trained = 3 * 16 * 32
    assert needed.n_trained == trained and needed.weights == 4 * sum(p.numel() for p in model.parameters())
    assert (needed.originals, needed.gradients, needed.optimizer) == (4 * trained, 4 * trained, 8 * trained)


def test_an_8b_model_trained_whole_is_refused_with_the_numbers() -> None:
    """Full fp32 Adam of 8B parameters: 4 bytes of weights, 4 of gradients and 8 of states each make 128 GB."""
    _, config = method_config("grad_diff", max_memory_gb=80)
    needed = estimate(LLAMA_8B, config, dtype=torch.bfloat16, length=256, n_processes=1)
    assert needed.weights + needed.gradients + needed.optimizer == pytest.approx(128.5e9, rel=0.01)
    with pytest.raises(
        UserError, match=r"about 2\d\d\.\d\d GB \(weights 32.12, .*80.00 GB are allowed by trainer.max_memory_gb"
    ):
        refuse_too_large(needed, config)


def test_three_matrices_of_it_fit() -> None:
    _, config = method_config("rmu", max_memory_gb=24, accumulation=8)
    needed = estimate(LLAMA_8B, config, dtype=torch.bfloat16, length=128, n_processes=1)
    assert needed.n_trained == 3 * 4096 * 14336 and 16e9 < needed.weights < 17e9
    refuse_too_large(needed, config)


def test_a_stump_is_counted_as_far_as_it_reaches() -> None:
    _, config = method_config("rmu")
    sizes = {"dtype": torch.bfloat16, "length": 128, "n_processes": 1}
    whole, stump = estimate(LLAMA_8B, config, **sizes), estimate(LLAMA_8B, config, **sizes, last_layer=7)
    # 8 of 32 layers and the embeddings; neither head nor logits
    assert 4e9 < stump.weights < 5.5e9 < 16e9 < whole.weights and stump.activations < whole.activations / 4
    assert stump.n_trained == whole.n_trained == 3 * 4096 * 14336


def test_of_adapters_only_they_are_trained() -> None:
    _, config = method_config("npo")
    lora = LoraConfig(rank=16, alpha=16.0, targets=(r"\.down_proj\.weight$",))
    config = dataclasses.replace(config, lora=lora)
    needed = estimate(LLAMA_8B, config, dtype=torch.bfloat16, length=128, n_processes=1)
    assert needed.n_trained == 32 * 16 * (4096 + 14336) and needed.optimizer == 8 * needed.n_trained
    assert 16e9 < needed.weights < 17e9


def test_micro_batches_need_less() -> None:
    _, config = method_config("npo")
    whole = estimate(LLAMA_8B, config, dtype=torch.bfloat16, length=256, n_processes=1)
    split = estimate(
        LLAMA_8B, dataclasses.replace(config, accumulation=4), dtype=torch.bfloat16, length=256, n_processes=2
    )
    # A chunk of logits stays as large as it is
    assert split.activations * 8 > whole.activations > split.activations * 6


def test_without_a_limit_the_machine_is_asked() -> None:
    _, config = method_config("npo")
    assert 1e6 < available_bytes() < 1e15
    needed = estimate(LLAMA_8B, config, dtype=torch.bfloat16, length=256, n_processes=1)
    with pytest.raises(UserError, match="GB are available"):
        refuse_too_large(dataclasses.replace(needed, weights=10**15), config)


def test_eight_processes_that_share_an_8b_model_each_need_an_eighth() -> None:
    """16 bytes a parameter are 128.5 GB; an eighth is 16.1, and a while before every process has the whole in fp32."""
    _, config = method_config("grad_diff", max_memory_gb=80, sharding="fsdp2", trained=[".*"])
    sizes = {"dtype": torch.bfloat16, "length": 256}
    needed = estimate(LLAMA_8B, config, **sizes, n_processes=8)
    assert needed.weights + needed.gradients + needed.optimizer == pytest.approx(128.5e9 / 8, rel=0.01)
    # Embedding and head, their gradients and first values, and two layers: 3 · 4 bytes · 2 · 128256 · 4096, and 3.5 GB
    assert needed.gathered == pytest.approx(12 * 2 * 128256 * 4096 + 2 * 8 * 218e6, rel=0.01)
    assert needed.loading == pytest.approx(32.1e9, rel=0.01) and needed.total < 40e9
    refuse_too_large(needed, config)
    one = estimate(LLAMA_8B, config, **sizes, n_processes=1)
    assert one.loading == one.gathered == 0 and one.total > 128e9


def test_processes_without_gpus_share_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("menard_unlearn.training.memory.available_bytes", lambda: 10e9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    _, config = method_config("npo", processes=2)
    needed = dataclasses.replace(
        estimate(tiny_model().config, config, dtype=torch.float32, length=16, n_processes=2), weights=6 * 10**9
    )
    refuse_too_large(needed, dataclasses.replace(config, processes=1))
    with pytest.raises(UserError, match=r"5.00 GB are available: .*trainer.sharding=fsdp2"):
        refuse_too_large(needed, config)
