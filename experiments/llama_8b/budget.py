"""Memory and time of the study's jobs, from the model's shape and the study's configuration alone; needs no network.

    python experiments/llama_8b/budget.py

Memory is what `menard unlearn` itself estimates before it loads a model. Time is arithmetic over an assumed share of a
GPU's peak: it says hours or minutes, not which minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from menard_unlearn.compose import compose
from menard_unlearn.config import build, to_plain
from menard_unlearn.methods.base import Method
from menard_unlearn.training.config import TrainerConfig
from menard_unlearn.training.memory import GB, MemoryEstimate, estimate
from menard_unlearn.training.patterns import select

SHAPE = LlamaConfig(
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    max_position_embeddings=131072,
    tie_word_embeddings=False,
)
"""Llama 3.1 8B, as its config.json has it: 8,030,261,248 parameters."""
GPU = "H100 SXM, 80 GB"
PEAK = {"bf16": 989e12, "fp32": 67e12}
"""Of that GPU, dense operations a second (NVIDIA's data sheet)."""
USED = {"bf16": 0.35, "fp32": 0.60}
"""Assumed, not measured: the part of the peak that a step reaches."""
EVALUATED = 3_000_000
"""Assumed: tokens that an evaluation scores, for 1,608 facts and the held-out tenth of 6,400 articles."""
JOBS = (("rmu", "rmu", 1), ("lora", "grad_diff", 1), ("lora", "npo", 1), ("full", "grad_diff", 8), ("full", "npo", 8))
"""Part of the study, method, GPUs."""


@dataclass(frozen=True)
class Budget:
    """Of one run."""

    part: str
    method: str
    gpus: int
    memory: MemoryEstimate
    """Of the GPU that needs most."""
    operations: float
    """Of all steps, and of what the base says once."""
    seconds: float
    """Of training."""
    disk: int
    """Bytes of the delta, which is fp32."""


def configured(part: str, method: str) -> tuple[Method, TrainerConfig, int]:
    """Method, trainer and window of a job, as the study sets them."""
    chosen = ["study=llama_8b", f"llama_8b/part={part}", f"method={method}", "data=unread"]
    plain = to_plain(compose("unlearn", chosen))
    return build(plain["method"], Method), build(plain["trainer"], TrainerConfig), plain["window"]


def operations(method: Method, trainer: TrainerConfig, window: int, memory: MemoryEstimate) -> float:
    """Multiplications and additions: 2 a weight and token forward, 2 backward through what lies above the first trained
    tensor, and 2 for each trained weight. Attention's own products, about 1% at these lengths, are left out."""
    with torch.device("meta"):
        model = LlamaForCausalLM(SHAPE)
    layer = sum(p.numel() for p in model.model.layers[0].parameters())
    depth = method.depth()
    layers = SHAPE.num_hidden_layers if depth is None else depth + 1
    head = model.lm_head.weight.numel() if depth is None else 0
    first = 0 if depth is None else min(k for k in range(layers) if trains(model, trainer, k))
    forward = 2 * (layers * layer + head)
    backward = 2 * ((layers - first) * layer + head) + 2 * memory.n_trained
    sides = trainer.max_steps * trainer.batch_size * window
    # once: what rmu keeps of the retain side, what npo keeps of the forget side
    asked = 1 if type(method).__name__ in ("RMU", "NPO") else 0
    return sides * (2 * (forward + backward) + asked * forward)


def trains(model: nn.Module, trainer: TrainerConfig, layer: int) -> bool:
    """Whether one of the layer's tensors is trained."""
    return any(f".layers.{layer}." in name for name in select(dict(model.named_parameters()), trainer.trained))


def budget(part: str, method_name: str, gpus: int) -> Budget:
    """Every item is taken to be as long as a window."""
    method, trainer, window = configured(part, method_name)
    memory = estimate(SHAPE, trainer, dtype=torch.bfloat16, length=window, n_processes=gpus, last_layer=method.depth())
    needed = operations(method, trainer, window, memory)
    # Where everything is trained, everything is fp32 and so is the arithmetic; else frozen weights are bf16
    kind = "fp32" if part == "full" else "bf16"
    return Budget(
        part, method_name, gpus, memory, needed, needed / (gpus * PEAK[kind] * USED[kind]), 4 * memory.n_trained
    )


def row(found: Budget) -> str:
    """A line of the table."""
    memory = found.memory
    parts = {
        "weights": memory.weights + memory.originals,
        "gradients and states": memory.gradients + memory.optimizer,
        "activations": memory.activations,
    }
    of_which = ", ".join(f"{name} {size / GB:.1f}" for name, size in parts.items())
    return (
        f"{found.part:<5} {found.method:<10} {found.gpus:>4} {memory.n_trained / 1e6:>10.1f} "
        f"{memory.total / GB:>9.1f}  {of_which:<66} {found.operations / 1e15:>7.0f} {ceil(found.seconds / 60):>4} "
        f"{found.disk / GB:>6.2f}"
    )


def main() -> None:
    """The table of README.md, and what it assumes."""
    print(f"{GPU}; assumed of its peak: " + ", ".join(f"{kind} {part:.0%}" for kind, part in USED.items()))
    print("part  method     GPUs  trained M  GB a GPU  of which                                   PFLOP  min  delta GB")
    for job in JOBS:
        print(row(budget(*job)))
    scoring = 2 * 8.03e9 * EVALUATED / (PEAK["bf16"] * USED["bf16"])
    print(f"evaluation, a run: {EVALUATED / 1e6:.0f}M tokens scored in about {ceil(scoring / 60)} min on one GPU")


if __name__ == "__main__":
    main()
