"""What else than knowledge could answer a probe: a guess at the commonest answer, and how well known a fact is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from menard_unlearn.corpus.documents import Fact
from menard_unlearn.corpus.statements import Templates, answer_of


def predictability(facts: Sequence[Fact], templates: Templates) -> dict[str, float]:
    """Id of a fact → probability that another fact of its relation, drawn at random, has its answer.

    (c − 1) / (n − 1), where c of the relation's n facts have the answer that the relation's first wording asks for:
    what a model gets by saying what it says most often. 0 where nothing shares the answer, or where the fact is alone.
    Fails when: the prompt itself narrows the answers, as the language of a name narrows countries; then a guess does
    better than this.
    """
    answers = {fact.id: (fact.relation, _answer(fact, templates)) for fact in facts}
    same = Counter(answers.values())
    size = Counter(relation for relation, _ in answers.values())
    return {id: (same[key] - 1) / max(1, size[key[0]] - 1) for id, key in answers.items()}


def _answer(fact: Fact, templates: Templates) -> str:
    return answer_of(fact, templates.for_relation(fact.relation)[0]).casefold()


def popularity(facts: Sequence[Fact]) -> dict[str, float | None]:
    """Id of a fact → its popularity as the corpus gives it, in the corpus' unit; None where it does not."""
    return {fact.id: fact.popularity for fact in facts}
