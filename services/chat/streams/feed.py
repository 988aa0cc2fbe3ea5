"""The newest events of one log, for all its readers on this node.

A reader that keeps up reads from here; one that does not reads the log, and slows nobody down.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WINDOW_EVENTS = 256
"""Events that a feed keeps: seconds of a fast model."""

Key = tuple[str, str]
"""Tenant and id of an answer."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a log: its number and its message without the number."""

    id: int
    data: bytes


class Feed:
    """What one answer's readers on this node wait for.

    `own` says that this node writes the answer: then the writer publishes, else a follower does.
    `ended_at` is the number of the log's last event once that is known.
    """

    def __init__(self, key: Key, last_id: int, *, own: bool) -> None:
        self.key = key
        self.own = own
        self.last_id = last_id
        self.ended_at: int | None = None
        self.gone = False
        self.readers = 0
        self.unread_since_s = time.monotonic()
        self._window: deque[Event] = deque(maxlen=WINDOW_EVENTS)
        self._changed = asyncio.Event()

    def publish(self, events: Sequence[Event], *, last: bool = False) -> None:
        """Shows events that are in the log, in their order; those it has are passed over. `last`
        says that nothing comes after them."""
        new = [event for event in events if event.id > self.last_id]
        if new:
            self._window.extend(new)
            self.last_id = new[-1].id
        if last:
            self.ended_at = self.last_id
        if new or last:
            self._wake()

    def give_up(self) -> None:
        """Says that the answer is not there any more."""
        self.gone = True
        self._wake()

    def after(self, position: int) -> Sequence[Event] | None:
        """The events after a number, empty where there are none yet; None where the reader has
        fallen behind and has to read the log."""
        if position >= self.last_id:
            return ()
        if not self._window or self._window[0].id > position + 1:
            return None
        return [event for event in self._window if event.id > position]

    def over(self, position: int) -> bool:
        """Whether a reader at `position` has everything."""
        return self.ended_at is not None and position >= self.ended_at

    async def changed(self, within_s: float) -> bool:
        """Waits until something is published; False where nothing was `within_s`."""
        changed = self._changed
        try:
            async with asyncio.timeout(within_s):
                await changed.wait()
        except TimeoutError:
            return False
        return True

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Counts a reader."""
        self.readers += 1
        try:
            yield
        finally:
            self.readers -= 1
            self.unread_since_s = time.monotonic()

    def unread_s(self) -> float:
        """For how long nobody on this node has read."""
        return 0.0 if self.readers else time.monotonic() - self.unread_since_s

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
