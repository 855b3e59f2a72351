"""What can a fit tell? `python experiments/context_needed/simulate.py` prints the tables of this folder's README.

Nine lengths from 1K to 256K, five draws, a target of 5,000 tokens in blocks of 50. `--simulations N` sets how many each
law gets; 200 take about two minutes on one core.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import brentq

from menard_unlearn.statistics.context_needed import Losses, Rules, Status, Sweep, needed
from menard_unlearn.statistics.intervals import wilson
from menard_unlearn.statistics.orders_claim import claim_of_orders

LENGTHS_L = 2 ** np.arange(10, 19)
DRAWS, BLOCKS, BLOCK = 5, 100, 50
Q, SLOW = 0.5, 0.05
RULES = Rules(block=BLOCK, bootstrap=200, max_decades=1.0, claim_orders=5.0, seed=0)


@dataclass(frozen=True)
class Law:
    """L∞ + above · (C / C_max)^−beta, nats a token."""

    floor: float
    above: float
    beta: float
    noise: float = 0.01
    """Standard deviation of a length's mean, nats, independent from length to length."""
    between_draws: float = 0.0
    """Standard deviation of a draw's `above`, relative: draws that are better or worse at every length."""
    tokens: int = BLOCKS * BLOCK
    slow: float = 0.0
    """Nats at C_max of a second part, which falls as C^−0.05: no floor, though it looks like one."""

    def at(self, decades: Any) -> Any:
        """The loss at so many decades beyond C_max."""
        return self.floor + self.above * 10 ** (-self.beta * decades) + self.slow * 10 ** (-SLOW * decades)

    @property
    def decades(self) -> float:
        """The true log10(C*/C_max)."""
        loss = -math.log(Q) / self.tokens
        if self.floor >= loss:
            return math.inf
        found: Any = brentq(lambda decades: self.at(decades) - loss, 0, 1000)
        return float(found)

    def sweep(self, rng: np.random.Generator) -> Sweep:
        """Losses as they might be measured."""
        law_L = self.at(np.log10(LENGTHS_L / LENGTHS_L[-1]))
        law_DL = self.floor + (law_L - self.floor) * (1 + self.between_draws * rng.normal(size=(DRAWS, 1)))
        each = rng.normal(0, self.noise * math.sqrt(DRAWS * BLOCKS), (DRAWS, len(LENGTHS_L), BLOCKS))
        size = self.tokens // BLOCKS
        return Sweep(Losses(LENGTHS_L, size * (law_DL[..., None] + each), np.full(BLOCKS, size)), RULES)


CLAIMED = math.log10(2.0 / (math.log(2) / 5000)) / 5
FINITE = (
    Law(0, 2.0, 0.2),
    Law(0, 2.0, 0.5),
    Law(0, 2.0, CLAIMED),
    Law(0, 0.5, 0.3),
    Law(0, 2.0, 0.5, between_draws=0.05),
    Law(0, 2.0, 0.5, noise=0.001),
)
INFINITE = (
    Law(0.02, 2.0, 0.2),
    Law(0.1, 2.0, 0.2),
    Law(0.1, 2.0, 0.5),
    Law(0.5, 1.0, 0.1),
    Law(0.5, 1.0, 0.3),
    Law(1.0, 1.0, 0.5),
    Law(0.5, 1.0, 0.3, between_draws=0.05),
)
SHORT = (
    Law(0, 0.15, 0.4, noise=0.0005, tokens=100),
    Law(0, 0.15, 0.4, noise=0.002, tokens=100),
    Law(0.004, 0.15, 0.4, noise=0.0005, tokens=100),
    Law(0.02, 0.15, 0.4, noise=0.0005, tokens=100),
)
"""Of a hundred tokens, whose L* is 0.007 nats: near enough to be pinned, or just below a floor."""
OTHER = (Law(0, 1.5, 0.5, slow=0.5), Law(0, 0.5, 0.3, slow=1.5))


def row(*cells: object) -> None:
    """A row of a Markdown table, at once."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def share(count: int, runs: int) -> str:
    """A share and its 99% interval."""
    low, high = wilson(count, runs, 0.99) or (0.0, 1.0)
    return f"{count / runs:.2f} ({low:.2f}–{high:.2f})"


def table(title: str, laws: tuple[Law, ...], runs: int) -> None:
    """What is said of each law."""
    print(f"\n### {title}\n")
    columns = ("L∞", "L(C_max)", "β", "noise", "draws differ by", "T", "true decades", "fit says ∞", "mean P(∞)")
    row(*columns, "interval holds", "lower end holds", "five orders rejected", "statuses")
    row(*["---"] * (len(columns) + 4))
    for place, law in enumerate(laws):
        infinite = holds = low_holds = rejected = 0
        p_infinite, statuses = 0.0, Counter[Status]()
        for number in range(runs):
            sweep = law.sweep(np.random.default_rng([place, number]))
            found = needed(sweep, Q)
            claim = claim_of_orders(sweep, found.loss, RULES.claim_orders)
            if found.quantiles is None or found.p_infinite is None:
                raise RuntimeError("nine lengths, five draws and a hundred blocks give an interval")
            infinite += math.isinf(sweep.decades("floor", found.loss))
            p_infinite += found.p_infinite / runs
            holds += found.quantiles[0] <= law.decades <= found.quantiles[-1]
            low_holds += found.quantiles[0] <= law.decades
            rejected += claim is not None and claim.verdict != "not contradicted"
            statuses[found.status] += 1
        row(
            f"{law.floor:g}",
            f"{law.floor + law.above + law.slow:g}",
            f"{law.beta:.3g}",
            f"{law.noise:g}",
            f"{law.between_draws:.0%}",
            f"{law.tokens:,}",
            "∞" if math.isinf(law.decades) else f"{law.decades:.2f}",
            share(infinite, runs),
            f"{p_infinite:.2f}",
            share(holds, runs),
            share(low_holds, runs),
            share(rejected, runs),
            ", ".join(f"{status.value} {count / runs:.2f}" for status, count in statuses.most_common()),
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=200)
    runs = parser.parse_args().simulations
    table("Some length is enough", FINITE, runs)
    table("No length is enough", INFINITE, runs)
    table("A short text", SHORT, runs)
    table("Another law: a part that falls as C^−0.05", OTHER, runs)


if __name__ == "__main__":
    main()
