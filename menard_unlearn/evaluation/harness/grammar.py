"""Minimal pairs: two sentences that differ in one word or ending, one of which is English.

Made by rules from word lists, always the same, in the manner of BLiMP (arXiv 1912.00582). The words are old and common,
so that a model of any period should know them. The better sentence is the shorter one about as often as not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

PAIRS = 20
"""Pairs a phenomenon."""


@dataclass(frozen=True)
class Pair:
    """One minimal pair."""

    phenomenon: str
    good: str
    bad: str


MEN = ("baker", "sailor", "miller", "farmer", "soldier", "tailor", "shepherd", "weaver", "carter", "hunter")
VERBS = (("sings", "sing"), ("sleeps", "sleep"), ("works", "work"), ("waits", "wait"), ("walks", "walk"))
VERBS += (("laughs", "laugh"), ("rests", "rest"), ("reads", "read"), ("swims", "swim"), ("drinks", "drink"))
WHEN = ("in the morning", "after supper", "by the river", "every Sunday")
THINGS = ("key", "letter", "coat", "basket", "lamp", "chair", "bell", "knife", "rope", "boat")
BESIDE = ("doors", "books", "windows", "tables", "walls", "trees", "candles", "bottles", "horses", "bridges")
STATES = ("lost", "broken", "old", "heavy")
HE = ("king", "uncle", "monk", "boy", "duke", "brother", "grandfather", "nephew", "priest", "son")
SHE = ("queen", "aunt", "nun", "girl", "duchess", "sister", "grandmother", "niece", "widow", "daughter")
REFLEXIVE = ("saw", "warned", "blamed", "praised")
PARTICIPLES = (("eaten", "ate", "the bread"), ("written", "wrote", "a letter"), ("broken", "broke", "the cup"))
PARTICIPLES += (("stolen", "stole", "the horse"), ("forgotten", "forgot", "the song"), ("drunk", "drank", "the milk"))
PARTICIPLES += (("chosen", "chose", "a hat"), ("torn", "tore", "the shirt"), ("hidden", "hid", "the gold"))
PARTICIPLES += (("taken", "took", "the lamp"),)
TRANSITIVE = ("found", "carried", "sold", "painted", "repaired")
INTRANSITIVE = ("slept", "smiled", "sneezed", "arrived", "fainted")
CASES = (("him", "he"), ("her", "she"), ("them", "they"), ("us", "we"), ("me", "I"))
GIVEN = ("A letter came from {0}", "The dog ran after {0}", "The story is about {0}", "Nobody spoke to {0}")
MASSES = ("water", "flour", "smoke", "gold", "milk", "sand", "wine", "straw", "iron", "salt")
MODALS = ("can", "must", "should", "may")
PLURALS = ("horses", "bells", "boats", "wells", "houses", "gardens", "letters", "lamps", "ships", "stones")
NUMBERS = ("two", "three", "seven", "ten")
PLACES = ("in the valley", "on the hill", "near the church", "behind the mill")


def _many(noun: str) -> str:
    return "knives" if noun == "knife" else f"{noun}s"


def _subject_verb(i: int) -> tuple[str, str]:
    one, many = VERBS[i % 10]
    noun = MEN[(i + i // 10) % 10]
    first, second = (f"The {noun} {one}", f"The {noun} {many}")
    if i % 2:
        first, second = (f"The {noun}s {many}", f"The {noun}s {one}")
    return f"{first} {WHEN[i % 4]}.", f"{second} {WHEN[i % 4]}."


def _attraction(i: int) -> tuple[str, str]:
    near, state = BESIDE[(i + i // 10) % 10], STATES[i // 2 % 4]
    if i % 2:
        begun = f"The {_many(THINGS[i % 10])} beside the {near[:-1]}"
        return f"{begun} are {state}.", f"{begun} is {state}."
    begun = f"The {THINGS[i % 10]} beside the {near}"
    return f"{begun} is {state}.", f"{begun} are {state}."


def _determiner(i: int) -> tuple[str, str]:
    noun, verb = THINGS[i % 10], ("found", "bought")[i // 10]
    if i % 2:
        noun = _many(noun)
        return f"The {MEN[i % 10]} {verb} these {noun}.", f"The {MEN[i % 10]} {verb} this {noun}."
    return f"The {MEN[i % 10]} {verb} this {noun}.", f"The {MEN[i % 10]} {verb} these {noun}."


def _reflexive_gender(i: int) -> tuple[str, str]:
    noun, right, wrong = (HE[i // 2], "himself", "herself") if i % 2 else (SHE[i // 2], "herself", "himself")
    return f"The {noun} {REFLEXIVE[i % 4]} {right}.", f"The {noun} {REFLEXIVE[i % 4]} {wrong}."


def _reflexive_number(i: int) -> tuple[str, str]:
    verb = REFLEXIVE[(i + i // 10) % 4]
    if i % 2:
        return f"The {MEN[i % 10]} {verb} himself.", f"The {MEN[i % 10]} {verb} themselves."
    return f"The {MEN[i % 10]}s {verb} themselves.", f"The {MEN[i % 10]}s {verb} himself."


def _participle(i: int) -> tuple[str, str]:
    right, wrong, thing = PARTICIPLES[i % 10]
    noun = MEN[(i + 3 * (i // 10)) % 10]
    return f"The {noun} has {right} {thing}.", f"The {noun} has {wrong} {thing}."


def _polarity(i: int) -> tuple[str, str]:
    ending = f"ever {('seen', 'found', 'wanted', 'lost')[i % 4]} the {THINGS[(i + i // 10) % 10]}."
    return f"No {MEN[i % 10]} has {ending}", f"The {MEN[i % 10]} has {ending}"


def _transitivity(i: int) -> tuple[str, str]:
    noun, thing = MEN[i % 10], THINGS[(i + i // 10) % 10]
    return f"The {noun} {TRANSITIVE[i % 5]} the {thing}.", f"The {noun} {INTRANSITIVE[i % 5]} the {thing}."


def _case(i: int) -> tuple[str, str]:
    right, wrong = CASES[i % 5]
    return GIVEN[i // 5].format(right) + ".", GIVEN[i // 5].format(wrong) + "."


def _quantity(i: int) -> tuple[str, str]:
    if i % 2:
        begun = f"There was not much {MASSES[i // 2]}"
        return f"{begun} left.", f"There was not many {MASSES[i // 2]} left."
    return f"He had seen many {PLURALS[i // 2]}.", f"He had seen much {PLURALS[i // 2]}."


def _existence(i: int) -> tuple[str, str]:
    nouns, place = PLURALS[i % 10], PLACES[(i + i // 10) % 4]
    if i % 2:
        return f"There is a {nouns[:-1]} {place}.", f"There are a {nouns[:-1]} {place}."
    return f"There are {NUMBERS[i % 4]} {nouns} {place}.", f"There is {NUMBERS[i % 4]} {nouns} {place}."


def _modal(i: int) -> tuple[str, str]:
    one, many = VERBS[i % 10]
    begun = f"The {MEN[(i + i // 10) % 10]} {MODALS[i % 4]}"
    return f"{begun} {many} {WHEN[i % 4]}.", f"{begun} {one} {WHEN[i % 4]}."


PHENOMENA: dict[str, Callable[[int], tuple[str, str]]] = {
    "subject-verb agreement": _subject_verb,
    "agreement across a noun": _attraction,
    "determiner-noun agreement": _determiner,
    "reflexive, gender": _reflexive_gender,
    "reflexive, number": _reflexive_number,
    "irregular participle": _participle,
    "negative polarity": _polarity,
    "transitivity": _transitivity,
    "case of pronouns": _case,
    "much and many": _quantity,
    "existential there": _existence,
    "verb after a modal": _modal,
}
"""Name → the i-th pair of it."""


def pairs() -> list[Pair]:
    """All minimal pairs, `PAIRS` of each phenomenon."""
    return [Pair(name, *make(i)) for name, make in PHENOMENA.items() for i in range(PAIRS)]
