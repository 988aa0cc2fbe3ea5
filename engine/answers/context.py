"""The context of an answer: the best passages within a token budget, none of them twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from engine.answers.evidence import Passage
from engine.answers.words import terms
from engine.errors import InvalidField

PASSAGES_MAX = 20
DUPLICATE_SHARE = 0.8
"""Neighboring chunks share at most a sixth of their tokens; versions of one page share most."""

_SHINGLE_TERMS = 4

DropReason: TypeAlias = Literal["DUPLICATE", "BUDGET"]


@dataclass(frozen=True, slots=True)
class Context:
    """`passages` in the order given, `tokens` in all; `dropped` says what was left out and why."""

    passages: tuple[Passage, ...]
    tokens: int
    dropped: tuple[tuple[Passage, DropReason], ...]


def assemble(
    passages: Sequence[Passage],
    tokens_max: int,
    *,
    passages_max: int = PASSAGES_MAX,
    duplicate_share: float = DUPLICATE_SHARE,
) -> Context:
    """Take passages from the best on while they fit in `tokens_max`, by their `tokens`.

    A passage is a duplicate if `duplicate_share` of its four-term shingles are in one passage
    already taken, or the other way round. One that does not fit is left out, and smaller ones
    after it may still be taken. Raises InvalidField for bounds below 1.
    """
    for name, bound in (("context_tokens_max", tokens_max), ("passages_max", passages_max)):
        if bound < 1:
            raise InvalidField(
                f"{name} is {bound}; it must be at least 1",
                field=name,
                metadata={name: bound, "bound": 1},
            )
    taken: list[Passage] = []
    taken_shingles: list[set[tuple[str, ...]]] = []
    dropped: list[tuple[Passage, DropReason]] = []
    tokens = 0
    for passage in passages:
        shingles = _shingles(passage.text)
        if any(_shared(shingles, other) >= duplicate_share for other in taken_shingles):
            dropped.append((passage, "DUPLICATE"))
        elif len(taken) == passages_max or tokens + passage.tokens > tokens_max:
            dropped.append((passage, "BUDGET"))
        else:
            taken.append(passage)
            taken_shingles.append(shingles)
            tokens += passage.tokens
    return Context(tuple(taken), tokens, tuple(dropped))


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = terms(text)
    if len(words) <= _SHINGLE_TERMS:
        return {tuple(words)}
    return {tuple(words[at : at + _SHINGLE_TERMS]) for at in range(len(words) - _SHINGLE_TERMS + 1)}


def _shared(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> float:
    return len(one & other) / min(len(one), len(other))
