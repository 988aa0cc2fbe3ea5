"""Where on the pages of a file a passage lies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from engine.documents.parsed import Block, Box

PLACES_MAX = 32
"""Most pages that a passage says it lies on: the first ones. 2,048 tokens are some five pages, but
slides may hold a word each."""


@dataclass(frozen=True, slots=True)
class Place:
    """A page, from 1 on, and a box on it (`parsed.Box`); None where only the page is known."""

    page: int
    box: Box | None = None


def places_of(blocks: Iterable[Block]) -> tuple[Place, ...]:
    """The pages of some blocks, ascending, each with the smallest box around those of them that
    have one. Empty where the format has no pages."""
    boxes: dict[int, Box | None] = {}
    for block in blocks:
        if block.page:
            boxes[block.page] = _around(boxes.get(block.page), block.box)
    return tuple(Place(page, boxes[page]) for page in sorted(boxes)[:PLACES_MAX])


def _around(one: Box | None, other: Box | None) -> Box | None:
    if one is None or other is None:
        return one or other
    return (
        min(one[0], other[0]),
        min(one[1], other[1]),
        max(one[2], other[2]),
        max(one[3], other[3]),
    )
