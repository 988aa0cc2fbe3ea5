"""Follows the logs of answers that other nodes write, all of them with two statements a round."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from engine.errors import RagmeshError
from services.chat.streams.feed import Event, Feed, Key
from services.chat.streams.waking import Wakes
from services.ending import ended
from services.store.answers import PAGE_EVENTS, new_events, standings
from services.store.store import Store

_LOG = logging.getLogger(__name__)

POLL_S = 0.1
"""Between two looks without Redis."""
POLL_WOKEN_S = 0.5
"""The same while Redis wakes us: what it lost is found then."""


class Follower:
    """Publishes to feeds what stands in their logs."""

    def __init__(self, store: Store, feeds: dict[Key, Feed], wakes: Wakes) -> None:
        self._store = store
        self._feeds = feeds
        self._wakes = wakes
        self._look = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins."""
        self._task = asyncio.create_task(self._run(), name="answers followed")

    async def close(self) -> None:
        """Ends."""
        if self._task is not None:
            await ended([self._task])

    def look(self, keys: Iterable[Key] | None = None) -> None:
        """Has it look now: at any of `keys` that is followed, or at all."""
        if keys is None or any(key in self._feeds and not self._feeds[key].own for key in keys):
            self._look.set()

    def followed(self) -> list[Feed]:
        """The feeds of answers that others write. Those that nobody reads are dropped."""
        others = [feed for feed in self._feeds.values() if not feed.own]
        for feed in others:
            if not feed.readers or feed.ended_at is not None or feed.gone:
                self._feeds.pop(feed.key, None)
        return [feed for feed in others if feed.key in self._feeds]

    async def _run(self) -> None:
        while True:
            feeds = self.followed()
            if not feeds:
                await self._look.wait()
                self._look.clear()
                continue
            behind = False
            try:
                behind = await self._round(feeds)
            except RagmeshError as error:
                _LOG.info("answers are followed later: %s", error.message)
            except Exception:
                _LOG.exception("a look at the logs of answers failed and is tried again")
            if not behind:
                await self._pause()

    async def _pause(self) -> None:
        poll_s = POLL_WOKEN_S if self._wakes.listening else POLL_S
        try:
            async with asyncio.timeout(poll_s):
                await self._look.wait()
        except TimeoutError:
            pass
        self._look.clear()

    async def _round(self, feeds: list[Feed]) -> bool:
        """Reads what is new; whether there is more of it."""
        async with self._store.system() as tx:
            # How they stand comes first: events up to there are in what is read after.
            stand = {
                (one.tenant, one.id): one
                for one in await standings(tx, [feed.key for feed in feeds])
            }
            after = [
                (*feed.key, feed.last_id)
                for feed in feeds
                if feed.key in stand and stand[feed.key].last_event_id > feed.last_id
            ]
            rows = await new_events(tx, after) if after else []
        events: dict[Key, list[Event]] = {}
        for row in rows:
            key = (row.tenant, row.answer_id)
            events.setdefault(key, []).append(Event(row.event_id, row.event))
        behind = False
        for feed in feeds:
            standing, new = stand.get(feed.key), events.get(feed.key, [])
            if standing is None:
                feed.give_up()
                continue
            at = new[-1].id if new else feed.last_id
            last = standing.state != "running" and at >= standing.last_event_id
            feed.publish(new, last=last)
            behind = behind or len(new) == PAGE_EVENTS
        return behind
