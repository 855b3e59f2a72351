"""Do the instruments find what was planted, and nothing else? `python experiments/instruments/simulate.py`.

Prints the tables of this folder's README as Markdown. `--simulations N` sets how many the headline cells get; the
others get a fifth. 1,000 take about 20 minutes on one core.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from planted import (
    YEARS_Y,
    World,
    draw,
    found,
    level,
    linear_drift,
    logit_drift,
    recency,
    statuses,
    step,
    tally,
)
from scipy.stats import kstest

from menard_unlearn.statistics.change import change_point
from menard_unlearn.statistics.cutoff import Status
from menard_unlearn.statistics.intervals import auc
from menard_unlearn.statistics.step import fit_step

RHO = 0.5


@dataclass(frozen=True)
class Cell:
    """A planted cutoff."""

    year: float
    scale: float
    facts: int
    probes: int
    mixed: bool
    headline: bool

    @property
    def world(self) -> World:
        """With kinds, the base knows the second less well, and the method takes more of it on either side."""
        if self.mixed:
            kept = step(self.year, self.scale, 0.95, 0.25, by_kind=0.2)
            return World(level(0.95, 1.0), kept, self.facts, self.probes, RHO, mixed=True)
        return World(level(0.95), step(self.year, self.scale), self.facts, self.probes, RHO, mixed=False)


CELLS = (
    Cell(1939.5, 1, 10, 2, mixed=False, headline=True),
    Cell(1939.5, 5, 10, 2, mixed=False, headline=True),
    Cell(1939.5, 2, 5, 2, mixed=False, headline=True),
    Cell(1920.5, 2, 10, 2, mixed=False, headline=True),
    Cell(1939.5, 0.2, 10, 2, mixed=False, headline=False),
    Cell(1939.5, 1, 3, 2, mixed=False, headline=False),
    Cell(1939.5, 3, 3, 2, mixed=False, headline=False),
    Cell(1939.5, 1, 20, 3, mixed=False, headline=False),
    Cell(1939.5, 10, 20, 3, mixed=False, headline=False),
    Cell(1910.5, 2, 10, 2, mixed=False, headline=False),
    Cell(1965.5, 5, 10, 2, mixed=False, headline=False),
    Cell(1939.5, 2, 10, 2, mixed=True, headline=False),
)


def row(*cells: object) -> None:
    """A row of a Markdown table, at once."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def head(title: str, *columns: str) -> None:
    """A title and a table's head."""
    print(f"\n### {title}\n")
    row(*columns)
    row(*["---"] * len(columns))


def planted_cutoffs(simulations: int) -> None:
    """Coverage, bias and width of both estimates on the grid."""
    columns = ("year", "s", "items a year", "kinds", "", "runs", "pinned", "bias", "sd", "width", "coverage", "99%", "")
    head("Planted cutoffs", *columns)
    for place, cell in enumerate(CELLS):
        runs = simulations if cell.headline else simulations // 5
        for which in ("A1", "A2"):
            t = tally(found(cell.world, which, runs, place), cell.year)
            row(
                f"**{cell.year}**" if cell.headline else cell.year,
                cell.scale,
                cell.facts * cell.probes,
                "two, shifting" if cell.mixed else "one",
                which,
                runs,
                f"{t.pinned:.3f}",
                f"{t.bias:+.2f}",
                f"{t.sd:.2f}",
                f"{t.width:.2f}",
                f"{t.coverage:.3f}",
                f"{t.low:.3f}–{t.high:.3f}",
                "holds" if t.holds else "above" if t.low > 0.95 else "below",
            )


def recency_slope(simulations: int) -> None:
    """A base that knows later years better biases A1, not A2."""
    head("A base that knows later years better", "points a year", "", "pinned", "bias", "sd", "width", "coverage")
    for slope in (0.0, 0.004):
        for which in ("A1", "A2"):
            world = World(recency(slope), step(1939.5, 5), 10, 2, RHO, mixed=False)
            t = tally(found(world, which, simulations, 100), 1939.5)
            numbers = (f"{t.bias:+.2f}", f"{t.sd:.2f}", f"{t.width:.2f}", f"{t.coverage:.3f}")
            row(f"{100 * slope:.1f}", which, f"{t.pinned:.3f}", *numbers)


def no_cutoff_worlds() -> dict[str, tuple[str, World, bool]]:
    """Worlds without a cutoff: which estimate sees them, what is true, and whether strata are known."""
    all_known = level(1 - 1e-9)

    def world(kept, mixed: bool) -> World:
        return World(all_known, kept, 10, 2, RHO, mixed)

    return {
        **{f"logit falls 90–10% in {w} years": ("A1", world(logit_drift(w), False), True) for w in (25, 40, 80, 160)},
        "level .4 throughout": ("A1", world(level(0.4), False), True),
        "logit falls in 80 years, kinds shift": ("A1", world(logit_drift(80, 2.0), True), True),
        "level .6 and .17, kinds shift": ("A1", world(level(0.6, 2.0), True), True),
        "the same, kinds unknown": ("A1", world(level(0.6, 2.0), True), False),
        **{f"share falls by {f}": ("A2", world(linear_drift(f), False), True) for f in (0.2, 0.5, 0.9)},
        "share falls by 0.3, kinds shift": ("A2", world(linear_drift(0.3, 0.4), True), True),
        "levels .97 and .57, kinds shift": ("A2", world(linear_drift(0.0, 0.4), True), True),
        "the same levels, kinds unknown": ("A2", world(linear_drift(0.0, 0.4), True), False),
    }


def drift(simulations: int) -> None:
    """Statuses where there is no cutoff."""
    names = (Status.NO_CUTOFF, Status.RIGHT_CENSORED, Status.LEFT_CENSORED, Status.PINNED)
    head("No cutoff", "truth", "", "runs", *names, "")
    for place, (name, (which, world, strata)) in enumerate(no_cutoff_worlds().items()):
        shares = statuses(found(world, which, simulations, 200 + place, strata=strata))
        enough = "holds" if shares[Status.NO_CUTOFF] >= 0.95 else "does not"
        row(name, which, simulations, *(f"{shares[name]:.3f}" for name in names), enough)


def permuted_auc(permutations: int) -> tuple[float, float, float]:
    """A3 of a selective method, then mean and standard error with the facts' years permuted."""
    rng = np.random.default_rng(0)
    after_F = np.repeat(YEARS_Y, 10) > 1939
    drop_FP = 2.0 * after_F[:, None] + rng.normal(0, 1, (len(after_F), 1)) + rng.normal(0, 1, (len(after_F), 2))
    selective = auc(drop_FP[after_F].ravel(), drop_FP[~after_F].ravel())
    permuted = []
    for _ in range(permutations):
        side_F = rng.permutation(after_F)
        permuted.append(auc(drop_FP[side_F].ravel(), drop_FP[~side_F].ravel()))
    values = np.array(permuted, float)
    return float(selective or 0.0), float(values.mean()), float(values.std(ddof=1) / np.sqrt(permutations))


def jumps(simulations: int) -> None:
    """The change point of a series (A4), with noise of heavy tails on top of drift."""
    head("Change point of a yearly series", "jump, sd of noise", "drift a year", "p ≤ .01", "bias", "width", "coverage")
    for size, slope in ((0.0, 0.0), (0.0, 0.05), (0.0, 0.2), (2.0, 0.05), (3.0, 0.05), (3.0, 0.0)):
        rng, results = np.random.default_rng(int(10 * size + 100 * slope)), []
        for _ in range(simulations):
            noise_Y = rng.standard_t(4, len(YEARS_Y)) / np.sqrt(2)
            mean_Y = noise_Y + slope * (YEARS_Y - 1900) + size * (YEARS_Y > 1939)
            results.append(change_point(YEARS_Y, mean_Y, np.ones(len(YEARS_Y)), replicates=199, rng=rng))
        year_N, low_N, high_N, p_N = np.array([(r.year, r.low, r.high, r.p_value) for r in results], float).T
        called = (p_N <= 0.01).mean()
        if size:
            covered = ((low_N <= 1939.5) & (high_N >= 1939.5)).mean()
            place = (f"{(year_N - 1939.5).mean():+.2f}", f"{(high_N - low_N).mean():.1f}", f"{covered:.3f}")
        else:
            place = ("–", "–", f"p uniform: Kolmogorov's p = {kstest(p_N, 'uniform').pvalue:.2f}")
        row(size, slope, f"{called:.3f}", *place)


def seconds() -> dict[str, float]:
    """CPU seconds of 1,000 bootstrap fits of 3,000 items, with one stratum and with eight."""
    rng, taken = np.random.default_rng(0), {}
    for strata in (1, 8):
        world = World(level(0.95), step(1939.5, 2), 19, 2, RHO, mixed=False)
        answers, changes = draw(world, rng)
        for which, facts in (("A1", answers), ("A2", changes)):
            begun = time.process_time()
            n_RKY, total_RKY = facts.resampled(1000, rng)
            split_RKY = (np.repeat(values_RKY / strata, strata, axis=1) for values_RKY in (n_RKY, total_RKY))
            fit_step(YEARS_Y, *split_RKY, binomial=which == "A1")
            taken[f"{which}, {strata} strata, {facts.n_items} items"] = time.process_time() - begun
    return taken


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description="Simulations that show whether the instruments find what was planted.")
    parser.add_argument("--simulations", type=int, default=1000, help="of each headline cell (default 1000)")
    simulations = parser.parse_args().simulations
    begun = time.process_time()
    planted_cutoffs(simulations)
    recency_slope(simulations // 5)
    drift(simulations // 5)
    head("Permuted labels", "AUC as it is", "mean over permutations", "standard error", "permutations")
    selective, mean, error = permuted_auc(simulations)
    row(f"{selective:.3f}", f"{mean:.4f}", f"{error:.4f}", simulations)
    jumps(simulations)
    head("1,000 bootstrap fits", "of", "CPU seconds")
    for name, taken in seconds().items():
        row(name, f"{taken:.2f}")
    print(f"\n{(time.process_time() - begun) / 60:.0f} CPU minutes in all.")


if __name__ == "__main__":
    main()
