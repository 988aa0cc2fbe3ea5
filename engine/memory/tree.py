"""Trees that grow at their leaves, in which any ancestor is a few steps away.

Each message keeps, beside its parent, one jump to an ancestor further up, as in Myers' skew-binary
stack (E. W. Myers, "An applicative random-access stack", Information Processing Letters 17, 1983):
a jump is as long as the two before it together where those are equally long, else one step. The
ancestor at any depth is then found in O(log depth) steps, and a message needs nothing but its
parent's own jumps to be appended. The steps are taken where the messages are
(`services/store/messages.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message stands. `index` counts from 1 in the order of appending; `parent` and `jump`
    are indexes of ancestors, 0 for none; `depth` is 1 for a message without a parent."""

    index: int
    parent: int
    jump: int
    depth: int


ROOT = Place(0, 0, 0, 0)
"""What messages without a parent follow. It is no message."""


def grow(parent: Place, known: Mapping[int, Place], first_index: int, count: int) -> list[Place]:
    """The places of `count` messages that follow `parent`, each after the one before.

    They get the indexes from `first_index` on. `known` has the messages that jumps lead to from
    `parent`, up to the first of its branch (`ROOT` need not be in it).
    """
    places: dict[int, Place] = {ROOT.index: ROOT, parent.index: parent, **known}
    grown: list[Place] = []
    last = parent
    for index in range(first_index, first_index + count):
        place = Place(index, last.index, _jump(last, places), last.depth + 1)
        places[index] = place
        grown.append(place)
        last = place
    return grown


def _jump(parent: Place, places: Mapping[int, Place]) -> int:
    """Where a message that follows `parent` jumps to."""
    near = places[parent.jump]
    far = places[near.jump]
    return far.index if parent.depth - near.depth == near.depth - far.depth else parent.index
