"""Which memories say the same, so that one of them can stand for all.

Two memories of one kind and slot are alike where most of their meaningful words are the same and
nothing that turns the meaning is different: numbers, negations, and the days they are about. Of
those that are alike the most important one stays, the newest of equals. Nothing is deleted here:
what is merged keeps its row and can be taken out again.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from engine.answers.words import terms

ALIKE_MIN = 0.8
"""Shared words over all words of both (Jaccard): one word of five may differ."""

MEMORIES_MAX = 5_000
"""Looked at in one round."""

_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nobody|nothing|without|cannot|hardly|\w+n['\u2019]t)\b", re.IGNORECASE
)
_WORDS_COMPARED = 8
"""The rarest words of a memory that lead to others: of texts that are alike, one of two at least
is shared."""


@dataclass(frozen=True, slots=True)
class Mergeable:
    """A memory as it is compared."""

    id: str
    kind: str
    text: str
    importance: float
    learned_at: datetime
    slot: str = ""
    happens_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Merge:
    """`kept` stands for all of `merged`, by id."""

    kept: str
    merged: tuple[str, ...]


def merges(memories: Sequence[Mergeable], limit: int) -> list[Merge]:
    """At most `limit` groups of memories that are alike, by the id of the one that is kept.

    Raises ValueError for more than MEMORIES_MAX memories.
    """
    if len(memories) > MEMORIES_MAX:
        raise ValueError(f"{len(memories)} memories; at most {MEMORIES_MAX} in one round")
    order = sorted(memories, key=lambda one: (-one.importance, -one.learned_at.timestamp(), one.id))
    words = {one.id: frozenset(terms(one.text)) for one in order}
    counts = Counter(word for held in words.values() for word in held)
    kept: dict[str, list[str]] = {}
    keys = {one.id: _key(one) for one in order}
    leading: defaultdict[tuple[object, str], list[str]] = defaultdict(list)
    for one in order:
        own = words[one.id]
        rare = sorted(own, key=lambda word: (counts[word], word))[:_WORDS_COMPARED]
        seen = {other: None for word in rare for other in leading[keys[one.id], word]}
        match = next((other for other in seen if _alike(own, words[other])), None)
        if match is not None:
            kept[match].append(one.id)
            continue
        kept[one.id] = []
        for word in own:
            leading[keys[one.id], word].append(one.id)
    found = [Merge(one, tuple(others)) for one, others in sorted(kept.items()) if others]
    return found[:limit]


def _key(one: Mergeable) -> tuple[object, ...]:
    """What has to be equal."""
    return (
        one.kind,
        one.slot,
        one.happens_at,
        tuple(_NUMBER.findall(one.text)),
        len(_NEGATION.findall(one.text)),
    )


def _alike(one: frozenset[str], other: frozenset[str]) -> bool:
    if not one or not other:
        return False
    return len(one & other) / len(one | other) >= ALIKE_MIN
