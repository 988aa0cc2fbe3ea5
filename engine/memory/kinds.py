"""What a memory can be."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """The kind of a memory."""

    FACT = "fact"
    """Something that holds for a while: where somebody lives."""

    PREFERENCE = "preference"
    """What somebody likes or does not."""

    EVENT = "event"
    """Something that happened, will happen, or was said."""

    TASK = "task"
    """Something to be done."""

    BLOCK = "block"
    """A text with a label that is edited as a whole."""


IMPORTANCE = {
    Kind.FACT: 0.6,
    Kind.PREFERENCE: 0.6,
    Kind.EVENT: 0.4,
    Kind.TASK: 0.7,
    Kind.BLOCK: 1.0,
}
"""How much a memory counts, 0 to 1, where nobody says it."""

TURN_IMPORTANCE = 0.3
"""Of a turn that is kept as it was said."""
