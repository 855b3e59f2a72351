"""All metrics from one pass, next to each metric computed by itself: sequences run through the model, and CPU seconds.

    python benchmarks/evaluation.py [--size paper|tiny] [--repeats 3] [--write benchmarks/evaluation.md]

The embedded model is asked what `menard evaluate` asks it. Our side is what that command runs to score: `suite.run`,
which is one call of `score` for all instruments and one for the windows of B5, and `models.long.score_long` for the
target, its editions and its controls (B1 to B4, C1, C2). Left out on both sides are what generates (A7, fluency, near
verbatim, the free-running B4), the numerical error bar, KL to the base, other models, tokenizing, and statistics on
the scores.

By itself means: a script for each metric, that knows of no other. Metrics of the same probes or windows run them again.
Which sequences a metric needs is in `asked.py`. B1 and its like are whole texts, in which nothing is to be shared.
There are two such sides:

    plain   a sequence a candidate answer: four for a question of four answers or letters, as many as there are years
            for one of years. Batches of 64 in the order in which the metric has them, padded to the longest, through
            transformers' forward with the logits of all tokens, whose log-softmax is taken; no ranks, no top-k
    shared  our `score`, called once for each metric: what a metric asks twice is run once, and candidates of one token
            after one prompt are one sequence

The plain side is timed on a random tenth of its batches, and at least four, of each set of sequences; the table gives
seconds of these, divided by their sequences, times the metric's sequences. Metrics that run the same sequences are
given the same time. Sides take turns in one process with one thread, and times are medians of CPU seconds. Before a
time is believed, every sampled sequence must have the nats that the one pass found, to 1e-4.

Legend: B sequences, T tokens, V vocabulary, M lines of the table, C columns: sequences and seconds of both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}  # before torch

import numpy as np
import torch
from asked import BATCH, METRICS, OF_KINDS, SIZES, Metric, Work, prepared
from methods import processor, table_line
from numpy.typing import NDArray
from sides import cpu_seconds
from transformers import PreTrainedModel

from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.evaluation.suite import run
from menard_unlearn.models.long import score_long
from menard_unlearn.models.scores import cover, score

GOAL = 10.0
"""At least this ratio of sequences."""
TOLERANCE = 1e-4
Key = tuple[tuple[int, ...], int]
"""(ids, n_prompt) of a sequence."""


@dataclass(frozen=True)
class Turn:
    """Both sides once."""

    ours: float
    """CPU seconds."""
    n_ours: int
    """Sequences of our side."""
    shared: Mapping[str, float]
    """CPU seconds of `score` for each set."""
    plain: Mapping[str, float]
    """CPU seconds a sequence, by set."""


def main() -> None:
    parser = argparse.ArgumentParser(description="All metrics from one pass, next to each by itself.")
    parser.add_argument("--size", choices=tuple(SIZES), default="paper")
    parser.add_argument("--repeats", type=int, default=3, help="turns, after a warm-up")
    parser.add_argument("--write", type=Path, help="a Markdown file for the table")
    given = parser.parse_args()
    if given.repeats < 1:
        parser.error(f"--repeats {given.repeats} must be at least 1")
    torch.set_num_threads(1)
    work = prepared(given.size)
    warm_up(work)
    turns = [turn(work, number) for number in range(given.repeats)]
    text = report(work, turns, given.size)
    print(text)
    if given.write is not None:
        given.write.write_text(text)


def warm_up(work: Work) -> None:
    """What is done once a process."""
    first = work.sets["probes"][:BATCH]
    score(work.loaded.model, first, batch_size=BATCH, chunk=work.config.chunk, padding=work.padding)
    score_long(work.loaded.model, first[0], piece=work.config.reproduction.piece, chunk=work.config.chunk)
    plain_nats(work.plain, first, work.padding)


def turn(work: Work, number: int) -> Turn:
    """Each side once; the plain one goes first every other time."""
    first = plain(work) if number % 2 else None
    seconds, n_rows, nats_of = ours(work)
    by_set = shared(work)
    per_sequence, plain_of = plain(work) if first is None else first
    check(nats_of, plain_of)
    sample = sum(per_sequence[name] * n for name, n in work.n_sampled.items())
    print(
        f"one pass {seconds:.1f} s, score by set {sum(by_set.values()):.1f} s, plain's sample {sample:.1f} s",
        file=sys.stderr,
    )
    return Turn(seconds, n_rows, by_set, per_sequence)


def ours(work: Work) -> tuple[float, int, dict[Key, float]]:
    """Seconds, sequences, and the nats of all that was asked."""
    model, tokenizer, config = work.loaded.model, work.loaded.tokenizer, work.config
    begun = cpu_seconds()
    scores = run(model, tokenizer, work.plan, config)
    read = [score_long(model, item, piece=config.reproduction.piece, chunk=config.chunk) for item in work.texts]
    seconds = cpu_seconds() - begun
    nats_of = {key: -tokens.logprob for key, tokens in scores.found.items()}
    nats_of |= {(item.ids, item.n_prompt): -own.logprob for item, own in zip(work.texts, read, strict=True)}
    return seconds, scores.n_rows + len(work.texts), nats_of


def shared(work: Work) -> dict[str, float]:
    """Seconds of `score` for each set by itself."""
    found = {}
    for name, items in work.sets.items():
        begun = cpu_seconds()
        score(work.loaded.model, items, batch_size=BATCH, chunk=work.config.chunk, padding=work.padding)
        found[name] = cpu_seconds() - begun
    return found


def plain(work: Work) -> tuple[dict[str, float], dict[Key, float]]:
    """Seconds a sequence of each set, and the nats of what was sampled."""
    seconds, nats_of = {}, {}
    for name, batches in work.sampled.items():
        begun = cpu_seconds()
        nats = [plain_nats(work.plain, batch, work.padding) for batch in batches]
        seconds[name] = (cpu_seconds() - begun) / max(1, work.n_sampled[name])
        pairs = zip(
            (item for batch in batches for item in batch), (value for own in nats for value in own), strict=True
        )
        nats_of |= {(item.ids, item.n_prompt): value for item, value in pairs}
    return seconds, nats_of


@torch.inference_mode()
def plain_nats(model: PreTrainedModel, batch: Sequence[TokenItem], padding: int) -> list[float]:
    """Of the scored tokens of each sequence, the batch padded to its longest."""
    shape = (len(batch), max(len(item.ids) for item in batch))
    input_ids_BT, mask_BT, scored_BT = torch.full(shape, padding), torch.zeros(shape).long(), torch.zeros(shape)
    for row, item in enumerate(batch):
        input_ids_BT[row, : len(item.ids)] = torch.tensor(item.ids)
        mask_BT[row, : len(item.ids)] = 1
        scored_BT[row, item.n_prompt : len(item.ids)] = 1
    logits_BTV = model(input_ids=input_ids_BT, attention_mask=mask_BT, use_cache=False).logits
    logprob_BTV = logits_BTV[:, :-1].log_softmax(-1)
    logprob_BT = logprob_BTV.gather(2, input_ids_BT[:, 1:, None])[..., 0]
    return (-(logprob_BT.double() * scored_BT[:, 1:]).sum(1)).tolist()


def check(ours_of: Mapping[Key, float], plain_of: Mapping[Key, float]) -> None:
    """Every sampled sequence has the same nats on both sides."""
    for key, nats in plain_of.items():
        if not abs(ours_of[key] - nats) <= TOLERANCE * max(1.0, nats):
            raise SystemExit(f"error: a sequence has {ours_of[key]:.8g} nats in the one pass, {nats:.8g} by itself")


def costs_MC(work: Work, turns: Sequence[Turn], metrics: Sequence[Metric]) -> NDArray[np.float64]:
    """What each line costs, all its metrics together. Sets of a metric share nothing, being of unlike sequences."""
    cost_of = {}
    for name, items in work.sets.items():
        n_rows = len(set(cover(item.ids[:-1] for item in items).values()))
        plain_seconds = statistics.median(one.plain[name] for one in turns) * len(items)
        shared_seconds = statistics.median(one.shared[name] for one in turns)
        cost_of[name] = np.array([len(items), n_rows, plain_seconds, shared_seconds])
    return np.array([sum(cost_of[name] for name in metric.sets) * metric.times for metric in metrics])


def report(work: Work, turns: Sequence[Turn], size: str) -> str:
    """Markdown: the settings, a line for each metric, totals and ratios."""
    own_MC, kinds_MC = (costs_MC(work, turns, metrics) for metrics in (METRICS, OF_KINDS))
    without_C, full_C = own_MC.sum(0), own_MC.sum(0) + kinds_MC.sum(0)
    of_years_C = own_MC[[metric.sets == ("year",) for metric in METRICS]].sum(0)
    years_C = of_years_C + kinds_MC[[metric.sets == ("year",) for metric in OF_KINDS]].sum(0)
    # The one pass keeps its rows for the years, so that this is less than it would be.
    no_years_C = without_C - of_years_C
    n_ours, seconds = turns[0].n_ours, statistics.median(one.ours for one in turns)
    one_C, n_timed = np.array([n_ours, n_ours, seconds, seconds]), sum(work.n_sampled.values())
    shape = work.plain.config
    lines = [
        "# All metrics from one pass, next to each by itself",
        "",
        f"Written by `python benchmarks/evaluation.py --size {size} --repeats {len(turns)}`; what each side does, and "
        "what is left out, is in the head of that file.",
        "",
        f"Embedded model: {shape.num_hidden_layers} layers, hidden {shape.hidden_size}, vocabulary {shape.vocab_size}, "
        f"fp32. Plain: a sequence a candidate, nothing shared, timed on {n_timed:,} sequences and scaled. Shared: "
        "`score` called once a metric, so that a metric runs nothing twice, but metrics share nothing.",
        "",
        "kinds.json holds A1, A2, A3 and A5 of each kind of question, for which a script of its own asks the questions "
        f"again. {years_C[0] / full_C[0]:.0%} of the plain side's sequences are one-token or two-token years after a "
        "question: any script that reads them all off one forward saves most of these, which is the last line below.",
        "",
        f"Medians of CPU seconds ({len(turns)} turns), one thread, {processor()}, torch {version('torch')}, "
        f"transformers {version('transformers')}.",
        "",
        "| metrics, each by itself | number | plain, sequences | shared, sequences | plain | shared |",
        "|---|---|---|---|---|---|",
        *(_line(metric.name, metric.times, row_C) for metric, row_C in zip(METRICS, own_MC, strict=True)),
        _line("**without kinds.json**", sum(metric.times for metric in METRICS), without_C),
        *(_line(metric.name, metric.times, row_C) for metric, row_C in zip(OF_KINDS, kinds_MC, strict=True)),
        _line("**full suite**", sum(metric.times for metric in (*METRICS, *OF_KINDS)), full_C),
        _line("**one pass**", None, one_C),
        "",
        "| by itself / one pass | plain, sequences | goal | met | shared, sequences | plain, time | shared, time |",
        "|---|---|---|---|---|---|---|",
        _ratios("full suite", full_C / one_C, goal=True),
        _ratios("without kinds.json", without_C / one_C, goal=True),
        _ratios("without kinds.json and the years of events", no_years_C / one_C, goal=False),
        "",
    ]
    return "\n".join(lines)


def _line(name: str, times: int | None, cost_C: NDArray[np.float64]) -> str:
    n_plain, n_shared, *seconds = cost_C
    number = "" if times is None else f"{times}"
    return table_line(name, number, f"{n_plain:,.0f}", f"{n_shared:,.0f}", *(f"{one:.1f} s" for one in seconds))


def _ratios(name: str, ratio_C: NDArray[np.float64], *, goal: bool) -> str:
    of_plain, *others = (f"{ratio:.1f}×" for ratio in ratio_C)
    verdict = (f"≥ {GOAL:g}×", "yes" if ratio_C[0] >= GOAL else "no") if goal else ("", "")
    return table_line(name, of_plain, *verdict, *others)


if __name__ == "__main__":
    main()
