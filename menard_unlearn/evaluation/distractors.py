"""Wrong answers that give nothing away but that they are wrong.

Facts of one relation and one side of the cutoff are laid into eras: runs of years, counted from the cutoff outwards,
that last so many years and hold enough different answers. A fact's wrong answers are drawn from its own era, all facts
of the era with the same chance. So of the facts whose answers stand together in a question each is as likely to be the
one that was asked for: their years, their order in time, their lengths and the cutoff say nothing about which it is.
Wrong answers from years around the true one would put it in the middle, and next to the cutoff at the edge.

What does tell something is an answer that is right more often than others (`evaluation.covariates.predictability`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from string import Formatter

from menard_unlearn.corpus.documents import Fact
from menard_unlearn.corpus.split import hash_of
from menard_unlearn.corpus.statements import Template, answer_of
from menard_unlearn.evaluation.items import SplitName

NAMES = ("subject", "object")


def slots(text: str) -> set[str]:
    """Names of the slots of a wording."""
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def counterpart(template: Template) -> str | None:
    """The slot of the prompt, subject or object, that is not asked for; None where the prompt has neither."""
    free = [name for name in NAMES if name in slots(template.prompt) - slots(template.answer)]
    return free[0] if free else None


def is_before(side: SplitName) -> bool:
    """Whether facts of this side lie before the cutoff."""
    return side in ("retain", "heldout_retain")


@dataclass(frozen=True, eq=False)
class Distractors:
    """Draws wrong answers. The same facts, window and seed give the same ones, in whatever order they are asked for."""

    facts: tuple[Fact, ...]
    """What they are drawn from; in the order of ids."""
    side: Mapping[str, SplitName]
    """Id of a fact → its side; facts without one serve for nothing."""
    n: int
    """Wrong answers a question."""
    window: int
    """Years of an era; more where so many years do not hold n + 1 different answers."""
    seed: int
    """Together with a fact's id it says which are drawn."""

    def table(self, template: Template, relation: str) -> Table:
        """The eras of a relation, and what is true in it, for wordings that ask for this."""
        own = [fact for fact in self.facts if fact.relation == relation and fact.id in self.side]
        eras: dict[str, tuple[Fact, ...]] = {}
        for before in (True, False):
            members = [fact for fact in own if is_before(self.side[fact.id]) == before]
            for era in self._eras(sorted(members, key=lambda fact: fact.year, reverse=before), template):
                eras |= dict.fromkeys((fact.id for fact in era), era)
        name, truths = counterpart(template), defaultdict(set)
        for fact in own:
            truths[getattr(fact, name) if name else fact.id].add(_plain(fact, template))
        return Table(template, name, eras, truths)

    def _eras(self, facts: Sequence[Fact], template: Template) -> list[tuple[Fact, ...]]:
        """Facts in the order of their years, cut between years; what is left at the far end joins the era before."""
        eras: list[tuple[Fact, ...]] = []
        era: list[Fact] = []
        for fact in facts:
            new_year = bool(era) and fact.year != era[-1].year
            if new_year and abs(fact.year - era[0].year) >= self.window and self._enough(era, template):
                eras.append(tuple(era))
                era = []
            era.append(fact)
        if eras and not (self._enough(era, template) and abs(era[-1].year - era[0].year) >= self.window - 1):
            era = [*eras.pop(), *era]
        return [*eras, tuple(era)]

    def _enough(self, facts: Sequence[Fact], template: Template) -> bool:
        return len({_plain(fact, template) for fact in facts}) > self.n

    def of(self, fact: Fact, prompt: str, table: Table) -> tuple[Fact, ...] | None:
        """Facts whose answers are wrong for this one, all different; None where there are not enough of them.

        Left out are answers that are also true of what is asked about, that stand in the prompt, or that contain the
        true one or are contained in it; and facts whose own subject (or object) would make the sentence true.
        """
        era, taken = table.eras[fact.id], [fact]
        for other in sorted(era, key=lambda other: hash_of(f"distractors {self.seed} {fact.id}", other.id)):
            if len(taken) > self.n:
                break
            if all(table.apart(other, one) for one in taken) and table.answer(other) not in prompt.casefold():
                taken.append(other)
        return tuple(taken[1:]) if len(taken) > self.n else None


@dataclass(frozen=True, eq=False)
class Table:
    """What is true in a relation."""

    template: Template
    """Any wording that asks for the same slot."""
    counterpart: str | None
    """The slot that the wording gives."""
    eras: Mapping[str, tuple[Fact, ...]]
    """Id of a fact → the facts of its era, itself among them."""
    truths: Mapping[str, set[str]]
    """What stands in the given slot → every answer that is true of it."""

    def answer(self, fact: Fact) -> str:
        """The answer without space, full stop and case."""
        return _plain(fact, self.template)

    def apart(self, one: Fact, other: Fact) -> bool:
        """Whether neither's answer is true of the other, and nothing of one is a part of the other's."""
        own, its = self.answer(one), self.answer(other)
        if own in its or its in own:
            return False
        if self.counterpart is None:
            return True
        given, beside = getattr(one, self.counterpart), getattr(other, self.counterpart)
        return given != beside and its not in self.truths[given] and own not in self.truths[beside]


def _plain(fact: Fact, template: Template) -> str:
    return answer_of(fact, template).strip(" .").casefold()


def chosen(facts: Iterable[tuple[str, int, str]], per_year: int, seed: int) -> set[str]:
    """Of facts given as (id, year, category), the ids of at most so many a year, by hash; one of each category before
    a second of any."""
    by_year: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for id, year, category in sorted(facts, key=lambda fact: hash_of(f"questions {seed}", fact[0])):
        by_year[year][category].append(id)
    taken: set[str] = set()
    for year, categories in by_year.items():
        order = sorted(categories, key=lambda category: hash_of(f"categories {seed} {year}", category))
        turns = zip_longest(*(categories[category] for category in order))
        taken.update([id for turn in turns for id in turn if id is not None][:per_year])
    return taken
