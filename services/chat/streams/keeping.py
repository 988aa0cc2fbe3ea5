"""Looks after the answers of a node: keeps their leases, finds those that others ended or nobody
reads, and ends those whose writer is lost. All by PostgreSQL's clock, ten times a second."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from engine.errors import Cancelled, RagmeshError, ServiceUnavailable
from services.chat.streams.feed import Feed, Key
from services.chat.streams.following import Follower
from services.chat.streams.writing import Writers
from services.config import ChatSettings
from services.ending import ended
from services.store.answers import end_answer, fail_lost, held_answers, renew_leases, say_read
from services.store.store import Store

_LOG = logging.getLogger(__name__)

LOOK_S = 0.1
"""Between two looks while answers are written here: so long a cancel from elsewhere may take."""
IDLE_S = 1.0
"""Between two looks while none is."""

FailedData = Callable[[RagmeshError], bytes]
"""The last event of a log that ends with an error, without its number."""


class Keeper:
    """The look after answers, for the life of a node."""

    def __init__(
        self,
        store: Store,
        owner: str,
        settings: ChatSettings,
        feeds: dict[Key, Feed],
        writers: Writers,
        follower: Follower,
        failed: FailedData,
    ) -> None:
        self._store = store
        self._owner = owner
        self._settings = settings
        self._feeds = feeds
        self._writers = writers
        self._follower = follower
        self._failed = failed
        self._renewed_s = self._reaped_s = self._said_s = 0.0
        self._now = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins."""
        self._task = asyncio.create_task(self._run(), name="answers kept")

    async def close(self) -> None:
        """Ends."""
        if self._task is not None:
            await ended([self._task])

    def look(self) -> None:
        """Has it look now: something began, or was ended here."""
        self._now.set()

    async def _run(self) -> None:
        while True:
            try:
                await self._round()
            except RagmeshError as error:
                _LOG.info("answers are looked after later: %s", error.message)
            except Exception:
                _LOG.exception("a look after answers failed and is tried again")
            busy = self._writers.keys or self._follower.followed()
            try:
                async with asyncio.timeout(LOOK_S if busy else IDLE_S):
                    await self._now.wait()
            except TimeoutError:
                pass
            self._now.clear()

    async def _round(self) -> None:
        now_s, settings = time.monotonic(), self._settings
        held: dict[Key, bool] | None = None
        # Those that begin meanwhile may not be seen by this round.
        known = {key for key, begin_s in self._writers.keys.items() if begin_s < now_s}
        followed = [feed.key for feed in self._follower.followed()]
        async with self._store.system() as tx:
            if known and now_s - self._renewed_s > settings.lease_s / 4:
                await renew_leases(tx, self._owner, settings.lease_s)
                self._renewed_s = now_s
            if now_s - self._reaped_s > IDLE_S:
                await fail_lost(tx, self._failed(_lost()))
                self._reaped_s = now_s
            if followed and now_s - self._said_s > settings.unread_s / 6:
                await say_read(tx, followed, settings.unread_s)
                self._said_s = now_s
            if known:
                held = await held_answers(tx, self._owner)
        for key in known if held is not None else ():
            if key not in held:  # type: ignore[operator]
                self._writers.stop(key)
                continue
            feed = self._feeds.get(key)
            unread = feed is not None and feed.unread_s() > settings.unread_s
            if unread and not held[key]:  # type: ignore[index]
                await self._end_unread(key)

    async def _end_unread(self, key: Key) -> None:
        unread_s = self._settings.unread_s
        error = Cancelled(
            f"Nobody read the answer for {unread_s:g} s, so it was cancelled. Ask again.",
            metadata={"unread_s": unread_s},
        )
        async with self._store.transaction(key[0]) as tx:
            await end_answer(tx, key[1], "cancelled", self._failed(error))
        self._writers.stop(key)


def _lost() -> RagmeshError:
    return ServiceUnavailable("The node that wrote this answer is gone. Ask again.")
