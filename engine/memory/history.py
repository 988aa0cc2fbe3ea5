"""What of a conversation fits a budget of tokens: the newest turns, and older ones that matter.

A turn is what a person said with everything that followed until they spoke again. Turns are taken
whole, so that no answer stands without its question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.answers.words import coverage, rarity, terms
from engine.types import Vector

OLDER_SHARE = 1 / 3
"""What older turns, or their summary, may have of the budget where not everything fits."""
RELEVANCE_MIN = 0.25
"""Turns below this say nothing about the question: room is better given to newer ones."""
SCORED_BY_WORDS = 24
"""Older turns with the question's words that are embedded too."""
SCORED_AS_NEWEST = 64
"""Older turns that are embedded for being the newest: those that say it in other words. Vectors are
kept by the embedding service, so that each turn costs once."""


@dataclass(frozen=True, slots=True)
class Line:
    """A message as its place in a history needs it. `opens` says that a person speaks, which begins
    a turn; `tokens` is 0 or more."""

    index: int
    opens: bool
    tokens: int
    text: str


@dataclass(frozen=True, slots=True)
class Turn:
    """Lines that belong together, in their order."""

    lines: tuple[Line, ...]

    @property
    def tokens(self) -> int:
        """Of all its lines."""
        return sum(line.tokens for line in self.lines)

    @property
    def text(self) -> str:
        """Of all its lines."""
        return "\n".join(line.text for line in self.lines)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Indexes of lines, each in ascending order, and what they have together. `relevance` has the
    score of each line of `older`, 0 to 1."""

    recent: tuple[int, ...]
    older: tuple[int, ...]
    relevance: Mapping[int, float]
    tokens: int


def turns_of(lines: Sequence[Line]) -> list[Turn]:
    """The turns of a branch, in its order. What stands before the first opening is one too."""
    turns: list[Turn] = []
    held: list[Line] = []
    for line in lines:
        if line.opens and held:
            turns.append(Turn(tuple(held)))
            held = []
        held.append(line)
    if held:
        turns.append(Turn(tuple(held)))
    return turns


def recent_of(turns: Sequence[Turn], tokens_max: int, *, keep_room: bool) -> int:
    """How many of the newest turns are taken before any older one is looked at.

    All, if all fit. Else those that fit what is left beside `OLDER_SHARE`, which is kept free where
    `keep_room`; the newest turn may have all of the budget.
    """
    if sum(turn.tokens for turn in turns) <= tokens_max:
        return len(turns)
    room = tokens_max - int(tokens_max * OLDER_SHARE) if keep_room else tokens_max
    taken = tokens = 0
    for turn in reversed(turns):
        tokens += turn.tokens
        if tokens > (room if taken else tokens_max):
            break
        taken += 1
    return taken


def word_scores(question: str, turns: Sequence[Turn]) -> list[float]:
    """How much of the question's words each turn has, by their rarity among the turns, 0 to 1."""
    wanted = set(terms(question))
    held = [set(terms(turn.text)) for turn in turns]
    weights = rarity([*held, wanted])
    return [coverage(wanted, words, weights) for words in held]


def to_embed(scores: Sequence[float]) -> list[int]:
    """Which turns, by position, are worth comparing with the question by meaning, given what their
    words say."""
    by_words = sorted((i for i, score in enumerate(scores) if score > 0), key=lambda i: -scores[i])
    newest = range(max(0, len(scores) - SCORED_AS_NEWEST), len(scores))
    return sorted({*by_words[:SCORED_BY_WORDS], *newest})


def relevances(
    scores: Sequence[float], question: Vector, vectors: Mapping[int, Vector]
) -> list[float]:
    """How much each turn says about the question, 0 to 1: by words, which `scores` has, or by
    meaning, w + m - w * m. `vectors` has that of some turns by position; words alone for others.

    Vectors have unit length; m is their cosine with the question's, 0 where it is negative.
    """
    found = []
    for i, words in enumerate(scores):
        cosine = float(np.dot(question, vectors[i])) if i in vectors else 0.0
        meaning = min(1.0, max(0.0, cosine))
        found.append(words + meaning - words * meaning)
    return found


def choose(turns: Sequence[Turn], recent: int, scores: Sequence[float], tokens_max: int) -> Chosen:
    """The last `recent` turns, older ones by their scores as long as they fit, and what is left of
    the budget for the next newest, as long as each fits.

    `scores` has one for each turn that is older, or none at all. Where not even the newest turn
    fits (`recent` is 0), its last lines that do are taken.
    """
    whole = recent > 0
    older = turns[: len(turns) - max(1, recent)]
    newest = (
        [line for turn in turns[len(older) :] for line in turn.lines]
        if whole or not turns
        else _last_lines(turns[-1], tokens_max)
    )
    left = tokens_max - sum(line.tokens for line in newest)
    picked: dict[int, float] = {}
    for i in sorted(range(len(older)), key=lambda i: (-scores[i], -i)) if scores else ():
        if scores[i] >= RELEVANCE_MIN and older[i].tokens <= left:
            picked[i] = scores[i]
            left -= older[i].tokens
    position = len(older) - 1
    while whole and position >= 0 and (position in picked or older[position].tokens <= left):
        if picked.pop(position, None) is None:
            left -= older[position].tokens
        newest = [*older[position].lines, *newest]
        position -= 1
    chosen = {line.index: picked[i] for i in sorted(picked) for line in older[i].lines}
    return Chosen(
        tuple(line.index for line in newest), tuple(chosen), chosen, max(0, tokens_max - left)
    )


def _last_lines(turn: Turn, tokens_max: int) -> list[Line]:
    kept: list[Line] = []
    for line in reversed(turn.lines):
        if line.tokens > tokens_max:
            break
        tokens_max -= line.tokens
        kept.insert(0, line)
    return kept


def ending(text: str, share: float) -> str:
    """About the last `share` of a text, 0 to 1, from the beginning of a word."""
    start = len(text) - int(len(text) * share)
    if start <= 0:
        return text
    space = text.find(" ", start)
    return text[space + 1 :] if 0 <= space < len(text) - 1 else text[start:]


def estimate(text: str) -> int:
    """The tokens of a text, where nobody counts them: rather too many. English has one for four
    characters, other alphabets up to one for each."""
    plain = sum(character.isascii() for character in text)
    return len(text) - plain + (plain + 2) // 3
