"""How much a model's free text repeats itself: a part of utility that likelihoods do not show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from menard_unlearn.evaluation.anachronism import WORD
from menard_unlearn.evaluation.generation import Written

REPEATED = 4
"""Words of an n-gram whose return counts as repetition."""

KEYS = {
    "n_texts": "number of continuations",
    "n_words": "words in them",
    "mean_words": "words a continuation; null without any",
    "ended": "share of continuations that the model ended by itself; null without any",
    "repetition": f"share of {REPEATED}-grams of words that stood in the same text before; null without any",
    **{
        f"distinct_{n}": f"different {n}-grams of words / all of them, all texts together; null without any"
        for n in (1, 2, 3)
    },
}
"""Key of the result of `fluency` → meaning and unit."""


def fluency(written: Sequence[Written]) -> dict:
    """Repetition and variety of what was written; keys are `KEYS`.

    repetition = 1 − different 4-grams of a text / its 4-grams, pooled over texts; distinct-n (1510.03055) pools all
    texts. Neither is quality: random words repeat nothing and are all distinct, so both are read beside bits per byte.
    distinct-n also falls with the number of words, so compare models at like `n_words`.
    """
    words = [[match[0].lower() for match in WORD.finditer(one.text)] for one in written]
    grams = {n: [list(_grams(text, n)) for text in words] for n in (1, 2, 3, REPEATED)}
    n_words, n_texts = sum(map(len, words)), len(written)
    repeated = sum(len(own) - len(set(own)) for own in grams[REPEATED])
    return {
        "n_texts": n_texts,
        "n_words": n_words,
        "mean_words": _share(n_words, n_texts),
        "ended": _share(sum(one.ended for one in written), n_texts),
        "repetition": _share(repeated, sum(map(len, grams[REPEATED]))),
        **{f"distinct_{n}": _distinct([gram for own in grams[n] for gram in own]) for n in (1, 2, 3)},
    }


def _grams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(n)), strict=False)


def _distinct(grams: Sequence[tuple[str, ...]]) -> float | None:
    return _share(len(set(grams)), len(grams))


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None
