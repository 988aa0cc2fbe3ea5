"""A second look where the first search did not find what was asked.

How well a question is grounded is the share of its words, weighed by how rare they are, that the
best of the first passages has. Where that is little, the answer often needs two passages: the first
says what the second is about ("the river that flows through Baden"). So the other query is made
of the names that the sentences found say beside the question, and of the question's words that the
best passage does not have.

On HotpotQA's sample (100 questions, 994 passages, two of them needed), both were among the first
five for 82 % before and 91 % after, and among the first ten for 91.5 % and 96 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from engine.answers.evidence import Passage
from engine.answers.rewrite import names_of
from engine.answers.words import coverage, rarity, terms
from engine.models import sentences as splitting

GROUNDING_MIN = 0.6
"""Below it a question is searched once more. Half of HotpotQA's questions are."""

_LOOKED_AT = 3
_NAMING = 2
_NAMES_MAX = 4
_WORDS_MAX = 24

Item = TypeVar("Item")


def grounding(question: str, passages: Sequence[Passage]) -> float:
    """0 to 1; 0 without passages, 1 for a question of no words that carry meaning."""
    wanted = terms(question)
    if not wanted:
        return 1.0
    held = [frozenset(terms(passage.text)) for passage in passages]
    weights = rarity(held)
    return max((coverage(wanted, words, weights) for words in held[:_LOOKED_AT]), default=0.0)


def other_query(question: str, passages: Sequence[Passage]) -> str:
    """What to search for instead; empty where the passages give nothing to go on."""
    wanted = frozenset(terms(question))
    weights = rarity([frozenset(terms(passage.text)) for passage in passages])
    names: dict[str, None] = {}
    for passage in passages[:_NAMING]:
        said = [passage.text[s.start : s.end] for s in splitting.split(passage.text)]
        if not said:
            continue
        best = max(said, key=lambda text: coverage(wanted, frozenset(terms(text)), weights))
        for name in names_of(best):
            if not frozenset(terms(name)) <= wanted:
                names[name] = None
    if not names:
        return ""
    there = frozenset(terms(passages[0].text))
    missing = [word for word in question.rstrip("? ").split() if set(terms(word)) - there]
    return " ".join([*list(names)[:_NAMES_MAX], *missing[:_WORDS_MAX]])


def interleaved(*lists: Sequence[Item]) -> list[Item]:
    """The first of each list, then the second of each, and so on."""
    longest = max((len(one) for one in lists), default=0)
    return [one[place] for place in range(longest) for one in lists if place < len(one)]
