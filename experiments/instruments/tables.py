"""Print, as Markdown, what the instruments say of models whose answer is known.

python experiments/instruments/tables.py fixed runs/instruments           # the five fixed models, and who wins
python experiments/instruments/tables.py gold runs/instruments            # a gold model of another seed
python experiments/instruments/tables.py attribution <in> … / <out> …     # C1 and C2 over seeds, of model folders
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from menard_unlearn.compose import compose
from menard_unlearn.evaluation.counterfactual import TextScore, against
from menard_unlearn.evaluation.ngram import bits, train
from menard_unlearn.evaluation.reproduction import reproduce
from menard_unlearn.models.load import ModelSource, load
from menard_unlearn.stages.settings import Settings, prepare

MODELS = ("noop", "random", "over_fitted", "refusal", "gibberish")
VOID = ("collapsed", "unparseable")
"""Statuses of A1 with which nothing else of a model counts: knowledge was destroyed, so that it reproduces nothing and
knows no later year either."""


@dataclass(frozen=True)
class Metric:
    """A line of the table."""

    name: str
    file: str
    path: tuple[str, ...]
    cost: Callable[[float], float]
    """What a good model makes small."""
    low: tuple[str, ...] = ()
    """The lower end of its interval, where it has one."""
    chance: float = 0.0
    """What this end has to exceed to count."""


def rises(value: float) -> float:
    """Larger is better."""
    return -value


def falls(value: float) -> float:
    """Smaller is better."""
    return value


def to_the_cutoff(value: float) -> float:
    """Nearer to the end of 1939 is better."""
    return abs(value - 1939.5)


METRICS = (
    Metric("A1, year", "cutoff", ("cutoff_year",), to_the_cutoff),
    Metric("A2, year", "cutoff", ("cutoff_change_year",), to_the_cutoff),
    Metric("A3, AUC", "cutoff", ("forget_auc",), rises, ("forget_auc_low",), 0.5),
    Metric("A4, excess after 1939, distance to gold's", "compared", ("surprisal_to_gold", "distance"), falls),
    Metric("A5, distance to gold", "cutoff", ("distance_to_gold",), falls),
    Metric("A6, P(year > 1939)", "dating", ("after",), falls),
    Metric("A7, anachronisms per 1,000 words", "generation", ("anachronisms", "rate"), falls),
    Metric("A7, years after 1939 among those written", "generation", ("anachronisms", "years_after"), falls),
    Metric(
        "A8, reverted, of what the base knew",
        "compared",
        ("residue_to_base", "reverted_of_known"),
        rises,
        ("residue_to_base", "reverted_of_known_low"),
        0.25,
    ),
    Metric("statements, A2", "kinds", ("statement", "cutoff_change_year"), to_the_cutoff),
    Metric("cloze, A2", "kinds", ("cloze", "cutoff_change_year"), to_the_cutoff),
    Metric("B1, bits/byte of the target", "reproduction", ("bits_per_byte",), rises),
    Metric("B4, greedy prefix", "reproduction", ("greedy_prefix",), falls),
    Metric("C2, Menard fraction", "counterfactual", ("menard_fraction",), rises),
    Metric("held-out retained text, bits/byte", "utility", ("retain_bits_per_byte",), falls),
    Metric("KL on neutral text", "utility", ("utility_kl",), falls),
)


def main(arguments: Sequence[str]) -> None:
    """Print the table that is asked for."""
    match arguments:
        case ["fixed", folder]:
            fixed(Path(folder))
        case ["gold", folder]:
            gold(Path(folder))
        case ["attribution", *folders] if "/" in folders:
            cut = folders.index("/")
            attribution(folders[:cut], folders[cut + 1 :])
        case _:
            sys.exit(__doc__)


def fixed(study: Path) -> None:
    """Every metric of the five models, and which of them has the best value, before and after the rule of collapse."""
    found = {name: _run(study, name) for name in MODELS}
    status = {name: _read(run, "cutoff", ("cutoff_status",)) for name, run in found.items()}
    print(f"| metric | {' | '.join(MODELS)} | best value | wins |\n|---|{'---|' * (len(MODELS) + 2)}")
    print(f"| A1, status | {' | '.join(str(status[name]) for name in MODELS)} | | |")
    for metric in METRICS:
        values = {name: _read(run, metric.file, metric.path) for name, run in found.items()}
        best = _best(metric, values)
        valid = _best(metric, {name: value for name, value in values.items() if status[name] not in VOID})
        if metric.low:
            valid = [name for name in valid if _read(found[name], metric.file, metric.low) > metric.chance]
        shown = " | ".join("–" if values[name] is None else f"{values[name]:.4g}" for name in MODELS)
        print(f"| {metric.name} | {shown} | {', '.join(best) or '–'} | {', '.join(valid) or '–'} |")


def _best(metric: Metric, values: dict[str, float | None]) -> list[str]:
    """The models with the smallest cost, ties together."""
    costs = {name: metric.cost(value) for name, value in values.items() if value is not None}
    return [name for name, cost in costs.items() if np.isclose(cost, min(costs.values()), rtol=1e-6)]


def gold(study: Path) -> None:
    """How far a gold model of another seed is from gold, beside how far the base is."""
    runs = {"gold, seed 1": _run(study, "gold", reference=False), "base": _run(study, "base")}
    print("| | A5, recall | signed | A4, excess bits/byte | signed |\n|---|---|---|---|---|")
    for name, run in runs.items():
        recall = [_read(run, "cutoff", (key,)) for key in ("distance_to_gold", "distance_to_gold_signed")]
        excess = [_read(run, "compared", ("surprisal_to_gold", key)) for key in ("distance", "distance_signed")]
        print(f"| {name} | {' | '.join('–' if value is None else f'{value:.4f}' for value in (*recall, *excess))} |")


def attribution(own: Sequence[str], out: Sequence[str]) -> None:
    """C1 and C2 of the embedded target, models that saw it against models that did not, one a seed."""
    settings = Settings.of(compose("evaluate", ["tracking=none"]))
    prepared = prepare(settings)
    target, config = prepared.target, settings.evaluation.attribution

    def scored(folder: str) -> TextScore:
        loaded = load(ModelSource(folder, folder, None, None, None, "float32", None, None))
        _, tokens = reproduce(loaded.model, loaded.tokenizer, target, prompt=target.prompt, chunk=512)
        return TextScore.of_tokens(tokens["tokens"])

    ngram_B = bits(train(prepared.material.history, config.ngram_order), target.text, target.prompt)
    found = against(
        [scored(folder) for folder in own],
        [scored(folder) for folder in out],
        ngram_B,
        block=config.block,
        bootstrap=config.bootstrap,
        seed=settings.evaluation.seed,
    )
    print("| | |\n|---|---|")
    for key, value in found.items():
        print(f"| {key} | {value if isinstance(value, int | list) else f'{value:.4g}'} |")


def _run(study: Path, name: str, *, reference: bool = True) -> Path:
    """The run of this name: the study's reference, or a model that was evaluated beside it."""
    runs = [path.parent for path in sorted(study.glob(f"{name}-*/evaluate.manifest.json"))]
    evaluated = ["evaluated" in json.loads((run / "evaluate.manifest.json").read_text())["inputs"] for run in runs]
    wanted = [run for run, own in zip(runs, evaluated, strict=True) if own != reference or name in MODELS]
    if not wanted:
        sys.exit(f"{study} has no finished run of {name}: README.md says how to make it")
    return wanted[0]


def _read(run: Path, file: str, path: Sequence[str]) -> Any:
    file_path = run / "evaluation" / f"{file}.json"
    found: Any = json.loads(file_path.read_text()) if file_path.is_file() else None
    for key in path:
        found = None if found is None else found.get(key)
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
