"""Documents of made-up words, each with one word that no other has."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

_SYLLABLES = ("ba", "co", "di", "fu", "ge", "lo", "mi", "nu", "pa", "ro", "sa", "tu")


@dataclass(frozen=True, slots=True)
class Paper:
    """`marker` stands in the text once."""

    id: str
    marker: str
    text: str


def papers(random_: random.Random, count: int, *, words: int = 400) -> Sequence[Paper]:
    """Some documents of about three passages each."""
    return [_paper(random_, f"paper-{number}", words) for number in range(count)]


def _paper(random_: random.Random, paper_id: str, words: int) -> Paper:
    marker = f"marker{paper_id.replace('-', '')}x"
    spoken = [_word(random_) for _ in range(words)]
    spoken.insert(random_.randrange(words), marker)
    lines = [" ".join(spoken[start : start + 12]).capitalize() for start in range(0, words, 12)]
    return Paper(paper_id, marker, ". ".join(lines) + ".")


def _word(random_: random.Random) -> str:
    return "".join(random_.choices(_SYLLABLES, k=random_.randint(2, 4)))
