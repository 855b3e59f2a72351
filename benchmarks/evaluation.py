"""All metrics from one pass, next to each metric computed by itself: sequences run through the model, and CPU seconds.

    python benchmarks/evaluation.py [--size paper|tiny] [--repeats 3] [--write benchmarks/evaluation.md]

The embedded model is asked what `menard evaluate` asks it. Our side is what that command runs to score: `suite.run`,
which is one call of `score` for all instruments and one for the windows of B5, and `models.long.score_long` for the
target, its editions and its controls (B1 to B4, C1, C2). Left out on both sides are what generates (A7, fluency, near
verbatim, the free-running B4), the numerical error bar, KL to the base, other models, tokenizing, and statistics on
the scores.

By itself means: a script for each metric, that knows of no other. Metrics of the same probes or windows run them again.
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
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}  # before torch

import torch
from methods import processor, table_line
from sides import cpu_seconds
from transformers import AutoModelForCausalLM, PreTrainedModel

from menard_unlearn.compose import compose
from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.evaluation.config import EvaluationConfig
from menard_unlearn.evaluation.encoded import encode_target, in_context
from menard_unlearn.evaluation.material import Material, Plan
from menard_unlearn.evaluation.suite import run
from menard_unlearn.evaluation.target import Target
from menard_unlearn.evaluation.tokens import pad_id
from menard_unlearn.models.load import LoadedModel, load, resolve
from menard_unlearn.models.long import score_long
from menard_unlearn.models.scores import cover, score
from menard_unlearn.stages.settings import Settings, prepare

SIZES = {
    "paper": (),
    "tiny": (
        "evaluation.questions.per_year=1",
        "evaluation.extraction.stride=50",
        "evaluation.attribution.max_tokens=128",
        "evaluation.attribution.windows=1",
    ),
}
"""Changes to the settings of `menard evaluate`."""
EVERY = {"paper": 1, "tiny": 40}
"""One in so many probes, facts and retained texts."""
BATCH = 64
SHARE, LEAST = 0.1, 4
"""Of the plain side's batches that are timed."""
GOAL = 10.0
"""At least this ratio of sequences."""
TOLERANCE = 1e-4
KINDS = ("statement", "cloze", "choice", "year")
Key = tuple[tuple[int, ...], int]
"""(ids, n_prompt) of a sequence."""
T = TypeVar("T")


@dataclass(frozen=True)
class Metric:
    """What a script of its own would compute."""

    name: str
    sets: tuple[str, ...]
    """The sets of sequences that it runs."""
    times: int = 1
    """So many metrics run the same."""


METRICS = (
    Metric("A1, A2, A3, A5, agreement of paraphrases, covariates", ("probes",), 6),
    Metric("statement: likelihood of answers", ("statement",)),
    Metric("cloze", ("cloze",)),
    Metric("choice of a letter", ("choice",)),
    Metric("year of an event", ("year",)),
    Metric("A4, surprisal by year", ("surprisal",)),
    Metric("A6, self-dating", ("dating",)),
    Metric("A8, residue", ("residue",)),
    Metric("B1, B3, B4 teacher-forced, C1, C2", ("target",), 5),
    Metric("B1 of controls", ("controls",)),
    Metric("B5, full softmax and top-k", ("windows",), 2),
    Metric("B6, heat map", ("windows", "heat")),
    Metric("C3 and C6, variants", ("variants",), 2),
    Metric("C4, other prefixes", ("passages",)),
    Metric("C5, the same of controls", ("beside",)),
    Metric("bits a byte of retained text", ("retain",)),
)
OF_KINDS = (
    *(Metric(f"A1, A2, A5 of {kind} questions", (kind,), 3) for kind in KINDS),
    *(Metric(f"A3 of {kind} questions, true answers alone", (f"{kind}_true",)) for kind in KINDS),
)
"""What kinds.json adds; A3 compares the true answer with itself in another model."""


@dataclass(frozen=True, eq=False)
class Work:
    """What is asked of the model."""

    loaded: LoadedModel
    plain: PreTrainedModel
    """The same weights, loaded by transformers alone."""
    plan: Plan
    config: EvaluationConfig
    texts: tuple[TokenItem, ...]
    """The target, its editions and its controls, read whole."""
    n_controls: int

    @cached_property
    def sets(self) -> dict[str, list[TokenItem]]:
        """Sequences by what they are of, a candidate a sequence."""
        plan, (own, *beside) = self.plan, _present(self.plan.attribution).texts
        of_kind = {kind: [question for question in plan.questions.questions if question.kind == kind] for kind in KINDS}
        n_own = len(self.texts) - self.n_controls
        return {
            "probes": list(plan.probes),
            **{kind: [item for question in of_kind[kind] for item in question.items] for kind in KINDS},
            **{f"{kind}_true": [question.items[question.true] for question in of_kind[kind]] for kind in KINDS},
            "surprisal": plan.surprisal.items,
            "dating": plan.dating.items,
            "residue": plan.residue.items,
            "target": list(self.texts[:n_own]),
            "controls": list(self.texts[n_own:]),
            "windows": _present(plan.windows).items,
            "heat": [item for _, reading in _present(plan.heat).shown for item in reading.items],
            "variants": [own.passage.item, *own.variants],
            "passages": [item for window in own.windows for item in window.items],
            "beside": [item for text in beside for item in text.items],
            "retain": [item for windows in plan.retain for item in windows],
        }

    @cached_property
    def sampled(self) -> dict[str, list[list[TokenItem]]]:
        """The plain side's batches that are timed, by set. True answers are timed with the others."""
        found = {}
        for name, items in self.sets.items():
            batches = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
            n = min(len(batches), max(LEAST, round(SHARE * len(batches))))
            found[name] = random.Random(f"evaluation {name}").sample(batches, n)
        return found

    @property
    def padding(self) -> int:
        return pad_id(self.loaded.tokenizer)


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


def prepared(size: str) -> Work:
    """What `menard evaluate` asks of the embedded model, or a small part of it."""
    settings = Settings.of(compose("evaluate", ["tracking=none", *SIZES[size]]))
    material, loaded = _thinned(prepare(settings).material, EVERY[size]), load(settings.model)
    plain = AutoModelForCausalLM.from_pretrained(resolve(settings.model.path), dtype=torch.float32).eval()
    target = _present(material.target)
    texts = [_whole(loaded, text) for text in (target, *target.editions, *target.controls)]
    plan = Plan.of(loaded.model, loaded.tokenizer, material, settings.evaluation)
    return Work(loaded, plain, plan, settings.evaluation, tuple(texts), len(target.controls))


def _thinned(material: Material, every: int) -> Material:
    parts = {name: getattr(material, name)[::every] for name in ("probes", "retain_texts")}
    kept = {fact.id for fact in material.facts if fact.year % every == 0}
    return replace(material, facts=tuple(fact for fact in material.facts if every == 1 or fact.id in kept), **parts)


def _whole(loaded: LoadedModel, text: Target) -> TokenItem:
    (item,), _ = in_context(loaded.model, encode_target(loaded.tokenizer, text, text.prompt), None)
    return item


def _present(found: T | None) -> T:
    if found is None:
        raise SystemExit("error: the evaluation has no target")
    return found


def warm_up(work: Work) -> None:
    """What is done once a process."""
    first = work.sets["probes"][:BATCH]
    score(work.loaded.model, first, batch_size=BATCH, chunk=work.config.chunk, padding=work.padding)
    score_long(work.loaded.model, first[0], piece=work.config.reproduction.piece, chunk=work.config.chunk)
    plain_nats(work.plain, first, work.padding)


def turn(work: Work, number: int) -> Turn:
    """Each side once, the order reversed from turn to turn."""
    sides = (ours, shared, plain)
    found = {side: side(work) for side in (sides if number % 2 == 0 else reversed(sides))}
    seconds, n_rows, nats_of = found[ours]
    per_sequence, plain_of = found[plain]
    check(nats_of, plain_of)
    print(
        f"one pass {seconds:.1f} s, score by set {sum(found[shared].values()):.1f} s, plain's sample "
        f"{sum(per_sequence[name] * _n_sampled(work, name) for name in per_sequence):.1f} s",
        file=sys.stderr,
    )
    return Turn(seconds, n_rows, found[shared], per_sequence)


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
        seconds[name] = (cpu_seconds() - begun) / _n_sampled(work, name)
        pairs = zip((item for batch in batches for item in batch), (value for own in nats for value in own), strict=True)
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


def _n_sampled(work: Work, name: str) -> int:
    return sum(map(len, work.sampled[name]))


@dataclass(frozen=True)
class Cost:
    """Of metrics by themselves."""

    plain: int
    """Sequences."""
    shared: int
    plain_seconds: float
    shared_seconds: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.plain + other.plain,
            self.shared + other.shared,
            self.plain_seconds + other.plain_seconds,
            self.shared_seconds + other.shared_seconds,
        )


def costs(work: Work, turns: Sequence[Turn], metrics: Sequence[Metric]) -> list[Cost]:
    """What each line costs, all its metrics together. Sets of a metric share nothing, being of unlike sequences."""
    found = []
    for metric in metrics:
        cost = Cost(0, 0, 0.0, 0.0)
        for name in metric.sets:
            items = work.sets[name]
            n_rows = len(set(cover(item.ids[:-1] for item in items).values()))
            per_sequence, by_set = ([side[name] for side in sides] for sides in zip(*((t.plain, t.shared) for t in turns)))
            cost += Cost(len(items), n_rows, statistics.median(per_sequence) * len(items), statistics.median(by_set))
        found.append(Cost(*(getattr(cost, field) * metric.times for field in Cost.__annotations__)))
    return found


def report(work: Work, turns: Sequence[Turn], size: str) -> str:
    """Markdown: the settings, a line for each metric, totals and ratios."""
    main_costs, kind_costs = costs(work, turns, METRICS), costs(work, turns, OF_KINDS)
    nothing = Cost(0, 0, 0.0, 0.0)
    subtotal, of_kinds = sum(main_costs, nothing), sum(kind_costs, nothing)
    n_ours, seconds = turns[0].n_ours, statistics.median(one.ours for one in turns)
    n_timed = sum(_n_sampled(work, name) for name in work.sets)
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
        f"Medians of CPU seconds ({len(turns)} turns), one thread, {processor()}, torch {version('torch')}, "
        f"transformers {version('transformers')}.",
        "",
        "| metrics, each by itself | number | plain, sequences | shared, sequences | plain | shared |",
        "|---|---|---|---|---|---|",
        *(_line(metric, cost) for metric, cost in zip(METRICS, main_costs, strict=True)),
        _total("without kinds.json", METRICS, subtotal),
        *(_line(metric, cost) for metric, cost in zip(OF_KINDS, kind_costs, strict=True)),
        _total("full suite", (*METRICS, *OF_KINDS), subtotal + of_kinds),
        f"| **one pass** | | {n_ours:,} | {n_ours:,} | {seconds:.1f} s | {seconds:.1f} s |",
        "",
        "| by itself / one pass | plain, sequences | goal | met | shared, sequences | plain, time | shared, time |",
        "|---|---|---|---|---|---|---|",
        _ratios("full suite", subtotal + of_kinds, n_ours, seconds, goal=True),
        _ratios("without kinds.json", subtotal, n_ours, seconds, goal=True),
        _ratios("without kinds.json and the years of events", _without_years(main_costs), n_ours, seconds, goal=False),
        "",
    ]
    return "\n".join(lines)


def _without_years(main_costs: Sequence[Cost]) -> Cost:
    """The one pass keeps its rows for them, so that this is the least that can be claimed."""
    kept = (cost for metric, cost in zip(METRICS, main_costs, strict=True) if metric.sets != ("year",))
    return sum(kept, Cost(0, 0, 0.0, 0.0))


def _line(metric: Metric, cost: Cost) -> str:
    return table_line(metric.name, f"{metric.times}", *_cells(cost))


def _total(name: str, metrics: Sequence[Metric], cost: Cost) -> str:
    return table_line(f"**{name}**", f"{sum(metric.times for metric in metrics)}", *_cells(cost))


def _cells(cost: Cost) -> list[str]:
    times = (cost.plain_seconds, cost.shared_seconds)
    return [f"{cost.plain:,}", f"{cost.shared:,}", *(f"{seconds:.1f} s" for seconds in times)]


def _ratios(name: str, cost: Cost, n_ours: int, seconds: float, *, goal: bool) -> str:
    found = [
        each / one
        for each, one in (
            (cost.plain, n_ours),
            (cost.shared, n_ours),
            (cost.plain_seconds, seconds),
            (cost.shared_seconds, seconds),
        )
    ]
    of_plain, *others = (f"{ratio:.1f}×" for ratio in found)
    verdict = (f"≥ {GOAL:g}×", "yes" if found[0] >= GOAL else "no") if goal else ("", "")
    return table_line(name, of_plain, *verdict, *others)


if __name__ == "__main__":
    main()
