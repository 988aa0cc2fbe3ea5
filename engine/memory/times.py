"""When facts hold: a new one closes the old one, and loses nothing.

Facts of one subject in one slot hold one after the other. Each holds from its `valid_from` to that
of the next one, so that "as of" any instant at most one of them does. What is learned late takes
its place in the middle. A fact that says what already holds is no news.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Held:
    """A fact in a slot; `valid_to` is None while it holds."""

    id: str
    value: str
    valid_from: datetime
    valid_to: datetime | None = None

    def holds_at(self, instant: datetime) -> bool:
        """Whether it holds then: from `valid_from` on and before `valid_to`."""
        return self.valid_from <= instant and (self.valid_to is None or instant < self.valid_to)


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a new fact belongs. `known` is the id of the one that says the same, or empty;
    otherwise it holds until `valid_to`, and `closes` are the ids of those that end at its
    `valid_from`."""

    known: str = ""
    valid_to: datetime | None = None
    closes: tuple[str, ...] = ()


def place(value: str, valid_from: datetime, held: Sequence[Held]) -> Placed:
    """The place of a fact among those of its slot."""
    holding = [one for one in held if one.holds_at(valid_from)]
    for one in holding:
        if one.value == value:
            return Placed(known=one.id)
    later = [one.valid_from for one in held if one.valid_from > valid_from]
    # A closed fact ended for a reason that need not be in the slot, so its end stands.
    return Placed(
        valid_to=min(later, default=None),
        closes=tuple(one.id for one in holding),
    )
