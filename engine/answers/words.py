"""Words in common: terms of a text, how rare each is, and how much of a question is covered."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
_STOP_TEXT = (
    "a about an and any are as at be been but by can could did do does for from had has have he "
    "her his how i if in into is it its me my no nor not of on or our out she should so some such "
    "than that the their them then there these they this those to too was we were what when where "
    "which while who whom whose why will with would you your"
)
_STOP = frozenset(_STOP_TEXT.split())
_SHORTEST_STEM = 3


def terms(text: str) -> list[str]:
    """The words of `text` that carry meaning, in order, lower case, without their endings."""
    words = (match.group().casefold() for match in _WORD.finditer(text))
    return [stem(word) for word in words if word not in _STOP]


def is_stop(word: str) -> bool:
    """Whether a word, in lower case, is one of the most common that carry no meaning alone."""
    return word in _STOP


def stem(word: str) -> str:
    """`word` without a common English ending: plural, past, "-ing", "-ly", possessive.

    Rough on purpose (Harman's S-stemmer and three verb endings): both sides of every comparison
    go through it, and it needs no tables.
    """
    word = re.sub(r"['\u2019]s?$", "", word)
    for ending, instead in (("ies", "y"), ("sses", "ss"), ("ing", ""), ("ed", ""), ("ly", "")):
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return _without_double((word[: -len(ending)] + instead).rstrip("e"))
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > _SHORTEST_STEM:
        word = word[:-1]
    return word.rstrip("e") if len(word) > _SHORTEST_STEM else word


def _without_double(word: str) -> str:
    """ "stopp" (of "stopped") as "stop"; "pass" and "fall" stay."""
    if len(word) > _SHORTEST_STEM and word[-1] == word[-2] and word[-1] in "bdgmnprt":
        return word[:-1]
    return word


def rarity(texts: Sequence[Collection[str]]) -> Mapping[str, float]:
    """The weight of each term among `texts`: BM25's idf, ln(1 + (n - df + 0.5) / (df + 0.5))."""
    found = Counter(term for text in texts for term in set(text))
    n = len(texts)
    return {term: math.log1p((n - df + 0.5) / (df + 0.5)) for term, df in found.items()}


def coverage(wanted: Collection[str], held: Collection[str], weights: Mapping[str, float]) -> float:
    """The share, 0 to 1, of the weight of `wanted` that is among `held`.

    A term that no text has weighs as much as the rarest. Nothing wanted is nothing covered.
    """
    unseen = max(weights.values(), default=1.0)
    total = sum(weights.get(term, unseen) for term in set(wanted))
    if not total:
        return 0.0
    return sum(weights.get(term, unseen) for term in set(wanted) & set(held)) / total
