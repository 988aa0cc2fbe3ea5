"""Writes answers to their logs: those of all answers of this node together, in groups.

An event is shown to readers once it is committed, never before. A group is what came while the one
before was committed, and for a little longer where many answers are written: at most 50 ms.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from engine.errors import QueueFull, RagmeshError
from services.chat.streams.feed import Event, Feed, Key
from services.config import ChatSettings
from services.ending import ended
from services.store.answers import Appended, append_events, begin_answer
from services.store.store import Store

_LOG = logging.getLogger(__name__)

GROUP_S_MAX = 0.05
"""The longest that an event waits for others."""
GROUP_S_EACH = 0.001
"""How long it waits for each answer that is being written: one alone hardly waits."""
PENDING_MAX = 256
"""Events of an answer that wait to be committed before its model has to wait."""
AGAIN_S = 0.1
"""After a failure of PostgreSQL."""
RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class Written:
    """An event to write. `state` is what it leads to, for the last one: finished or failed."""

    data: bytes
    state: str = ""
    answer: bytes | None = None


@dataclass(slots=True)
class _Writer:
    """One answer that this node writes."""

    feed: Feed
    next_id: int = 2
    pending: list[Written] = field(default_factory=list)
    room: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    begin_s: float = field(default_factory=time.monotonic)
    over: bool = False


class Writers:
    """The answers that this node writes."""

    def __init__(
        self,
        store: Store,
        owner: str,
        settings: ChatSettings,
        feeds: dict[Key, Feed],
        on_grown: Callable[[list[Key]], None],
        on_lost: Callable[[], None],
    ) -> None:
        """`on_grown` hears of logs that others read, `on_lost` of a feed that is ours no more."""
        self._store = store
        self._owner = owner
        self._settings = settings
        self._feeds = feeds
        self._on_grown = on_grown
        self._on_lost = on_lost
        self._writers: dict[Key, _Writer] = {}
        self._beginning = 0
        self._dirty = asyncio.Event()
        self._appending: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to append."""
        self._appending = asyncio.create_task(self._append_all(), name="answers appended")

    async def close(self) -> None:
        """Stops whatever is being written, as it is."""
        for key in list(self._writers):
            self.stop(key)
        if self._appending is not None:
            await ended([self._appending])

    @property
    def keys(self) -> dict[Key, float]:
        """The answers being written, each with when that began, by `time.monotonic`."""
        return {key: writer.begin_s for key, writer in self._writers.items() if not writer.over}

    async def begin(
        self,
        key: Key,
        request: bytes,
        first: bytes,
        source: AsyncGenerator[Written, None],
        *,
        timeout_s: float | None,
    ) -> Feed:
        """Records an answer with its first event and has the rest written in the background,
        whether or not somebody reads it. Raises QueueFull, and StoreUnavailable."""
        most = self._settings.answers_max
        if len(self._writers) + self._beginning >= most:
            raise QueueFull(
                f"This node writes {most} answers at once, and has so many. Try again shortly.",
                metadata={"answers_max": most},
                retry_after_s=RETRY_AFTER_S,
            )
        self._beginning += 1
        try:
            async with self._store.transaction(key[0], timeout_s=timeout_s) as tx:
                await begin_answer(
                    tx,
                    key[1],
                    owner=self._owner,
                    lease_s=self._settings.lease_s,
                    request=request,
                    event=first,
                )
        finally:
            self._beginning -= 1
        feed = Feed(key, 0, own=True)
        feed.publish([Event(1, first)])
        writer = _Writer(feed)
        writer.room.set()
        self._feeds[key], self._writers[key] = feed, writer
        writer.task = asyncio.create_task(self._write(writer, source), name=f"answer {key[1]}")
        return feed

    def stop(self, key: Key) -> None:
        """Ends the writing of an answer that is over, or another's; readers read its log."""
        writer = self._writers.pop(key, None)
        if writer is None:
            return
        writer.over = True
        writer.pending.clear()
        writer.feed.own = False
        if writer.task is not None:
            writer.task.cancel()
        if not writer.feed.readers:
            self._feeds.pop(key, None)
        self._on_lost()

    async def _write(self, writer: _Writer, source: AsyncGenerator[Written, None]) -> None:
        """Takes events as they come; waits where too many are not committed yet."""
        try:
            async with aclosing(source):
                async for event in source:
                    await writer.room.wait()
                    if writer.over:
                        return
                    writer.pending.append(event)
                    if len(writer.pending) >= PENDING_MAX:
                        writer.room.clear()
                    self._dirty.set()
        except asyncio.CancelledError:
            raise
        except Exception:
            # Its lease runs out, and its readers are told that it was lost.
            _LOG.exception("an answer could not be written", extra={"answer": writer.feed.key[1]})
            self.stop(writer.feed.key)

    async def _append_all(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            begin_s = time.monotonic()
            try:
                await self._append_once()
            except RagmeshError as error:
                _LOG.info("events are appended later: %s", error.message)
                self._dirty.set()
                await asyncio.sleep(AGAIN_S)
            except Exception:
                _LOG.exception("a group of events could not be appended and is tried again")
                self._dirty.set()
                await asyncio.sleep(AGAIN_S)
            group_s = min(GROUP_S_MAX, GROUP_S_EACH * len(self._writers))
            await asyncio.sleep(max(0.0, group_s - (time.monotonic() - begin_s)))

    async def _append_once(self) -> None:
        taken = [(w, tuple(w.pending)) for w in self._writers.values() if w.pending]
        if not taken:
            return
        groups = [_appended(writer, events) for writer, events in taken]
        async with self._store.system() as tx:
            held = await append_events(tx, self._owner, groups)
        grown = []
        for writer, events in taken:
            key = writer.feed.key
            if writer.over:
                continue
            if key not in held:
                self.stop(key)
                continue
            self._committed(writer, events)
            if held[key]:
                grown.append(key)
        self._on_grown(grown)

    def _committed(self, writer: _Writer, events: tuple[Written, ...]) -> None:
        numbered = [Event(writer.next_id + i, event.data) for i, event in enumerate(events)]
        writer.next_id += len(events)
        del writer.pending[: len(events)]
        writer.room.set()
        last = bool(events[-1].state)
        if last:
            writer.over = True
            self._writers.pop(writer.feed.key, None)
            self._feeds.pop(writer.feed.key, None)
        writer.feed.publish(numbered, last=last)


def _appended(writer: _Writer, events: tuple[Written, ...]) -> Appended:
    tenant, answer_id = writer.feed.key
    last = events[-1]
    return Appended(
        tenant,
        answer_id,
        writer.next_id,
        [event.data for event in events],
        last.state,
        last.answer,
    )
