"""A long text scored from a key-value cache, next to one bare forward: CPU seconds, and memory beyond the cache.

    python benchmarks/long_texts.py [--size paper|tiny] [--repeats 6] [--write benchmarks/long_texts.md]

The model has the architecture of the embedded ones, random weights in fp32 and positions for the longest text. Our side
is `models.long.score_long`: log-probability, ranks, margin and argmax of every token. The bare side is one forward of
the model over the whole text, which ends with the logits of all tokens and scores none of them.

Sides are processes of their own with one thread, which take turns; times are medians of CPU seconds, and the longer the
text, the fewer turns. Before a time is believed, both must give the same nats to 1e-5, for which the bare side's logits
are read in chunks when the clock has stopped.

Memory is taken in further processes, of one turn each, in which malloc returns at once what is freed, so that the
highest resident set is what was needed and not what was kept for later. From it goes the resident set after a text of
512 tokens, by which the model is loaded and all imports are done. The cache that is subtracted is what keys and values
take by the configuration: 2 · layers · key-value heads · head width · (T − 1) · 4 bytes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}  # before torch

import torch
from methods import processor, table_line
from sides import cpu_seconds
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from menard_unlearn.config import PACKAGE
from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.memory import peak_memory_mb, reset_peak_memory
from menard_unlearn.models.long import score_long

SIZES = {"paper": (4096, 16384, 65536), "tiny": (512, 1024)}
"""Tokens of the texts."""
PIECE, CHUNK = 512, 512
WARM_UP = 512
GOAL = 1.2
"""At most this ratio of our time to the bare forward's."""
TOLERANCE = 1e-5
SIDES = ("ours", "bare")


@dataclass(frozen=True)
class Measured:
    """A side on a text."""

    seconds: tuple[float, ...]
    peak_mb: float
    """Beyond the model and the imports, the cache included."""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description="A long text scored in pieces, next to one bare forward.")
    parser.add_argument("--size", choices=tuple(SIZES), default="paper")
    parser.add_argument(
        "--repeats", type=int, default=6, help="turns at the shortest text, a third of them at the next"
    )
    parser.add_argument("--write", type=Path, help="a Markdown file for the table")
    given = parser.parse_args()
    if given.repeats < 1:
        parser.error(f"--repeats {given.repeats} must be at least 1")
    turns = [max(1, given.repeats // 3**number) for number in range(len(SIZES[given.size]))]
    found = {n_tokens: measure(n_tokens, n) for n_tokens, n in zip(SIZES[given.size], turns, strict=True)}
    text = report(found, given.size, given.repeats)
    print(text)
    if given.write is not None:
        given.write.write_text(text)


def config(positions: int) -> LlamaConfig:
    """The embedded models' architecture, for longer texts."""
    found = LlamaConfig.from_pretrained(PACKAGE / "models" / "embedded" / "full")
    found.max_position_embeddings = positions
    return found


def text_of(n_tokens: int, vocabulary: int) -> TokenItem:
    ids = torch.randint(3, vocabulary, (n_tokens,), generator=torch.Generator().manual_seed(n_tokens))
    return TokenItem("text", tuple(ids.tolist()), 1)


def ours(model: LlamaForCausalLM, item: TokenItem) -> Callable[[], float]:
    """Score the text; what is returned gives its nats."""
    found = score_long(model, item, piece=PIECE, chunk=CHUNK)
    return lambda: -found.logprob


@torch.inference_mode()
def bare(model: LlamaForCausalLM, item: TokenItem) -> Callable[[], float]:
    """One forward over the text, no more; what is returned reads the nats off its logits."""
    ids_1T = torch.tensor([item.ids[:-1]])
    logits_TV = model(input_ids=ids_1T, use_cache=False).logits[0]
    return lambda: _nats(logits_TV, torch.tensor(item.ids[1:]))


def _nats(logits_TV: Tensor, true_T: Tensor) -> float:
    pairs = zip(logits_TV.split(CHUNK), true_T.split(CHUNK), strict=True)
    losses = [torch.nn.functional.cross_entropy(logits_KV, true_K, reduction="none") for logits_KV, true_K in pairs]
    return float(torch.cat(losses).double().sum())


def serve(side: str, n_tokens: int, pipe: Connection) -> None:
    """Answer each True with the seconds of a turn and its nats, and False with the memory of all turns."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = LlamaForCausalLM(config(n_tokens)).float().eval()
    run, item = {"ours": ours, "bare": bare}[side], text_of(n_tokens, model.config.vocab_size)
    run(model, text_of(WARM_UP, model.config.vocab_size))()
    reset_peak_memory()
    before_mb = peak_memory_mb()
    while pipe.recv():
        begun = cpu_seconds()
        nats = run(model, item)
        seconds = cpu_seconds() - begun
        pipe.send((seconds, nats()))
        del nats  # it holds the logits
    pipe.send(peak_memory_mb() - before_mb)


def start(side: str, n_tokens: int) -> Any:
    """A side in a process of its own; its end of the pipe."""
    context = get_context("spawn")
    pipe, theirs = context.Pipe()
    context.Process(target=serve, args=(side, n_tokens, theirs), daemon=True).start()
    theirs.close()  # so that the end of the process is the end of the pipe
    return pipe


def measure(n_tokens: int, turns: int) -> dict[str, Measured]:
    """Both sides on a text of this length, in turn, the order reversed from turn to turn."""
    pipes = {side: start(side, n_tokens) for side in SIDES}
    taken: dict[str, list[float]] = {side: [] for side in SIDES}
    for number in range(turns):
        nats = {}
        for side in SIDES if number % 2 else reversed(SIDES):
            seconds, nats[side] = turn(pipes[side])
            taken[side].append(seconds)
        print(f"{n_tokens} tokens: " + ", ".join(f"{side} {taken[side][-1]:.2f} s" for side in SIDES), file=sys.stderr)
        if not abs(nats["ours"] - nats["bare"]) <= TOLERANCE * nats["bare"]:
            raise SystemExit(f"error: {n_tokens} tokens: ours has {nats['ours']:.8g} nats, bare {nats['bare']:.8g}")
    for pipe in pipes.values():
        end(pipe)
    return {side: Measured(tuple(taken[side]), peak_mb(side, n_tokens)) for side in SIDES}


def turn(pipe: Any) -> tuple[float, float]:
    """Seconds and nats."""
    pipe.send(True)
    return pipe.recv()


def end(pipe: Any) -> float:
    """The highest resident set of its turns, beyond what was there before."""
    pipe.send(False)
    return pipe.recv()


def peak_mb(side: str, n_tokens: int) -> float:
    """Of one turn, in a process that gives back what it frees."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(1 << 17)  # glibc's own first value, which it then raises
    try:
        pipe = start(side, n_tokens)
    finally:
        del os.environ["MALLOC_MMAP_THRESHOLD_"]
    turn(pipe)
    return end(pipe)


def cache_mb(n_tokens: int) -> float:
    """Keys and values of all tokens but the last, which is not read, in fp32."""
    shape = config(n_tokens)
    return 2 * shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim * (n_tokens - 1) * 4 / 2**20


def report(found: dict[int, dict[str, Measured]], size: str, repeats: int) -> str:
    """Markdown: the settings, then a line for each length."""
    shape = config(max(found))
    turns = ", ".join(str(len(sides["ours"].seconds)) for sides in found.values())
    lines = [
        "# A long text scored in pieces, next to one bare forward",
        "",
        f"Written by `python benchmarks/long_texts.py --size {size} --repeats {repeats}`; what each side does, and how "
        "memory is measured, is in the head of that file.",
        "",
        f"Random Llama of the embedded architecture: {shape.num_hidden_layers} layers, hidden {shape.hidden_size}, "
        f"{shape.num_attention_heads} heads, vocabulary {shape.vocab_size}, fp32, positions for the text. Pieces of at "
        f"most {PIECE} tokens, the head on {CHUNK} at a time.",
        "",
        f"Medians of CPU seconds ({turns} turns), one thread, {processor()}, torch {version('torch')}, transformers "
        f"{version('transformers')}.",
        "",
        "| tokens | key-value cache | ours, beyond the cache | bare forward, beyond the model | ours | bare | ratio | "
        "goal | met |",
        "|---|---|---|---|---|---|---|---|---|",
        *(line(n_tokens, sides["ours"], sides["bare"]) for n_tokens, sides in found.items()),
        "",
    ]
    return "\n".join(lines)


def line(n_tokens: int, own: Measured, other: Measured) -> str:
    """A row of the table."""
    ratio, cache = own.median / other.median, cache_mb(n_tokens)
    memory = [f"{mb:.0f} MB" for mb in (cache, own.peak_mb - cache, other.peak_mb)]
    times = [f"{own.median:.2f} s", f"{other.median:.2f} s", f"{ratio:.2f}×"]
    return table_line(f"{n_tokens:,}", *memory, *times, f"≤ {GOAL:g}×", "yes" if ratio <= GOAL else "no")


if __name__ == "__main__":
    main()
