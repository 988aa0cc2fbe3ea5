"""The form of a policy: a pure function from what waits to the next batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from engine.schedule.cost import Cost, Pace
from engine.schedule.items import Batch, Limits
from engine.schedule.waiting import Waiting


@dataclass(frozen=True, slots=True)
class Moment:
    """What a decision may know besides the items. `bulk_served_s` is when the last batch with a
    bulk item was taken, or when the queue began."""

    now_s: float
    bulk_served_s: float
    cost: Cost = field(default_factory=Cost)
    pace: Pace = field(default_factory=Pace)


Policy: TypeAlias = Callable[[Waiting, Limits, Moment], Batch]
"""Decides when the worker is free; changes nothing. A batch without items and without a time to
wait until means that nothing waits that has not expired."""
