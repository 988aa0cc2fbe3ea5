"""The schedule of one model's work: what waits, what runs, and what was learned from runs.

Deterministic, and without a clock: whoever drives it says what time it is. The order is `next`,
then, if it gave items, any number of `measured`, then `ended`; `add` and `remove` at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from types import MappingProxyType
from typing import Literal

from engine.schedule import fifo, lanes
from engine.schedule.cost import Cost, Pace
from engine.schedule.items import Batch, Item, Lane, Limits
from engine.schedule.policy import Moment, Policy
from engine.schedule.waiting import Waiting

PolicyName = Literal["lanes", "fifo"]

POLICIES: Mapping[PolicyName, Policy] = MappingProxyType(
    {"lanes": lanes.next_batch, "fifo": fifo.next_batch}
)

DOUBT = 2.0
"""An estimate is believed to this factor: work is refused only if even so it comes too late."""


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a model is. `tokens_waiting` includes the batch that runs, as padded tokens."""

    tokens_waiting: int
    texts_waiting: int
    tokens_per_s: float


class Scheduler:
    """Decides for one worker of one model."""

    def __init__(self, policy: Policy, limits: Limits, now_s: float) -> None:
        self._policy = policy
        self._limits = limits
        self._waiting = Waiting(limits)
        self._running = Batch()
        self._ends_s = -inf
        self._bulk_served_s = now_s
        self._cost = Cost()
        self._pace = Pace()

    def __len__(self) -> int:
        """Items that wait; what runs is not among them."""
        return len(self._waiting)

    @property
    def tokens_waiting(self) -> int:
        """Tokens that wait, without what runs."""
        return self._waiting.tokens("interactive") + self._waiting.tokens("bulk")

    @property
    def load(self) -> Load:
        """How busy the model is."""
        return Load(
            self.tokens_waiting + self._running.padded_tokens,
            len(self._waiting),
            self._cost.tokens_per_s,
        )

    def texts_waiting(self, lane: Lane) -> int:
        """Items of a lane that wait."""
        return self._waiting.count(lane)

    def add(self, items: Sequence[Item], now_s: float) -> None:
        """Takes items in."""
        self._pace = self._pace.arrived(len(items), now_s, self._limits.wait_s_max)
        for item in items:
            self._waiting.add(item)

    def remove(self, ids: Iterable[int]) -> list[Item]:
        """Takes out what still waits of `ids`, and returns it."""
        removed = (self._waiting.remove(item_id) for item_id in ids)
        return [item for item in removed if item is not None]

    def next(self, now_s: float) -> Batch:
        """What the free worker does now. Items and expired items have left the queue."""
        moment = Moment(now_s, self._bulk_served_s, self._cost, self._pace)
        batch = self._policy(self._waiting, self._limits, moment)
        for item in (*batch.items, *batch.expired):
            self._waiting.remove(item.id)
        if batch.items:
            self._running = batch
            self._ends_s = now_s + self._cost.seconds(batch.padded_tokens)
            if any(item.lane == "bulk" for item in batch.items):
                self._bulk_served_s = now_s
        return batch

    def measured(self, padded_tokens: int, seconds: float) -> None:
        """Learns what a run took."""
        self._cost = self._cost.seen(padded_tokens, seconds)

    def ended(self, now_s: float) -> None:
        """The worker is free again."""
        self._pace = self._pace.ended(len(self._running.items), now_s)
        self._running = Batch()
        self._ends_s = -inf

    def late_s(self, items: Sequence[Item], now_s: float) -> float | None:
        """Seconds from now at which `items`, one request that is not in the queue yet, are expected
        to be done, if that is hopelessly late for their deadline; None if they may make it, have no
        deadline, or too little was measured to say.

        Counts what runs, what presses more in their lane, and themselves.
        """
        if not items or items[0].deadline_s is None or not self._cost.measured:
            return None
        believed_s = DOUBT * (items[0].deadline_s - now_s)
        running_s = max(0.0, self._ends_s - now_s)
        asked = sum(item.tokens for item in items)
        if running_s + self._drain_s(asked + self._waiting.tokens(items[0].lane)) <= believed_s:
            return None
        at_most = self._cost.tokens_within(believed_s) + 1
        ahead = self._waiting.tokens_before(items[0], at_most)
        expected_s = running_s + self._drain_s(asked + ahead)
        return expected_s if expected_s > believed_s else None

    def room_s(self, asked: int, tokens_waiting_max: int, now_s: float) -> float:
        """Seconds until so many tokens fit into a queue of this bound; if they never do, until it
        is empty, when they are taken all the same."""
        excess = min(self.tokens_waiting, self.tokens_waiting + asked - tokens_waiting_max)
        return max(0.0, self._ends_s - now_s) + self._drain_s(max(0, excess))

    def _drain_s(self, tokens: int) -> float:
        return self._cost.drain_s(tokens, lanes.tokens_max(self._limits, self._cost))
