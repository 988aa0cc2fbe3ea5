"""Streamed answers of one node: begun, followed, cancelled."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from redis.asyncio import Redis

from engine.errors import AnswerFinished, AnswerNotFound, InvalidField, NodeDraining, RagmeshError
from services.chat.streams.feed import Event, Feed, Key
from services.chat.streams.following import Follower
from services.chat.streams.keeping import FailedData, Keeper
from services.chat.streams.waking import Wakes
from services.chat.streams.writing import Writers, Written
from services.config import ChatSettings
from services.store.answers import (
    AnswerRow,
    end_answer,
    get_answer,
    read_events,
    say_read,
)
from services.store.store import Store


class Streams:
    """What the chat service asks of this room."""

    def __init__(
        self,
        store: Store,
        redis: Redis | None,
        node_id: str,
        settings: ChatSettings,
        failed: FailedData,
    ) -> None:
        """`failed` makes the last event of a log that ends with an error."""
        self._store = store
        self._settings = settings
        self._failed = failed
        self._feeds: dict[Key, Feed] = {}
        self._wakes = Wakes(redis, lambda keys: self._follower.look(keys))
        self._follower = Follower(store, self._feeds, self._wakes)
        self._writers = Writers(
            store, node_id, settings, self._feeds, self._wakes.say, lambda: self._follower.look()
        )
        self._keeper = Keeper(
            *(store, node_id, settings, self._feeds, self._writers, self._follower), failed
        )

    def start(self) -> None:
        """Begins to look after answers."""
        self._wakes.start()
        self._follower.start()
        self._writers.start()
        self._keeper.start()

    async def close(self) -> None:
        """Ends what is being written, and says so in its log."""
        error = NodeDraining("The node that wrote this answer was stopped. Ask again.")
        for tenant, answer_id in self._writers.keys:
            try:
                async with self._store.transaction(tenant, timeout_s=2.0) as tx:
                    await end_answer(tx, answer_id, "failed", self._failed(error))
            except RagmeshError:
                break  # the leases run out
        await self._keeper.close()
        await self._writers.close()
        await self._follower.close()
        await self._wakes.close()

    async def begin(
        self,
        key: Key,
        request: bytes,
        first: bytes,
        source: AsyncGenerator[Written, None],
        *,
        timeout_s: float | None,
    ) -> AsyncGenerator[Event | int, None]:
        """Begins an answer and gives its events, as `follow` does. Raises QueueFull and
        StoreUnavailable."""
        feed = await self._writers.begin(key, request, first, source, timeout_s=timeout_s)
        self._keeper.look()
        return self._read(feed, 0)

    async def follow(
        self, tenant: str, answer_id: str, after: int, *, timeout_s: float | None
    ) -> AsyncGenerator[Event | int, None]:
        """The events of an answer after number `after`, those to come as they come; after a while
        without any, the number of the last one, as a sign of life. Raises AnswerNotFound, and
        InvalidField for a number that the log has not come to."""
        key = (tenant, answer_id)
        feed = self._feeds.get(key)
        if feed is not None and feed.own:
            _require_position(after, feed.last_id)
            return self._read(feed, after)
        async with self._store.transaction(tenant, timeout_s=timeout_s) as tx:
            row = await get_answer(tx, answer_id)
            _require_position(after, row.last_event_id)
            if row.state == "running":
                await say_read(tx, [key], self._settings.unread_s)
        feed = self._feeds.get(key)
        if feed is None:
            feed = Feed(key, row.last_event_id, own=False)
            if row.state == "running":
                self._feeds[key] = feed
            else:
                feed.ended_at = row.last_event_id
        return self._read(feed, after)

    async def cancel(
        self, tenant: str, answer_id: str, error: RagmeshError, *, timeout_s: float | None
    ) -> AnswerRow:
        """Ends an answer with `error`, wherever it is written; one that was cancelled before is
        returned. Raises AnswerNotFound and AnswerFinished."""
        async with self._store.transaction(tenant, timeout_s=timeout_s) as tx:
            await end_answer(tx, answer_id, "cancelled", self._failed(error))
            row = await get_answer(tx, answer_id)
        if row.state != "cancelled":
            raise AnswerFinished(
                f"answer {answer_id!r} has {row.state} already, so it cannot be cancelled",
                metadata={"answer": answer_id, "state": row.state},
            )
        self._writers.stop((tenant, answer_id))
        self._wakes.say([(tenant, answer_id)])
        self._keeper.look()
        return row

    async def _read(self, feed: Feed, position: int) -> AsyncGenerator[Event | int, None]:
        with feed.reading():
            if not feed.own and feed.ended_at is None:
                self._follower.look()
            while not feed.over(position):
                events = feed.after(position)
                if events is None:
                    events = await self._page(feed.key, position)
                for event in events:
                    yield event
                    position = event.id
                if feed.gone:
                    raise AnswerNotFound(
                        f"answer {feed.key[1]!r} is not known any more",
                        metadata={"answer": feed.key[1]},
                    )
                if events or feed.over(position):
                    continue
                if not await feed.changed(self._settings.heartbeat_s):
                    yield position

    async def _page(self, key: Key, position: int) -> list[Event]:
        async with self._store.transaction(key[0]) as tx:
            rows = await read_events(tx, key[1], position)
        if not rows:
            raise AnswerNotFound(
                f"answer {key[1]!r} is not known any more", metadata={"answer": key[1]}
            )
        return [Event(row.event_id, row.event) for row in rows]


def _require_position(after: int, last: int) -> None:
    if after > last:
        raise InvalidField(
            f"after_event_id is {after}, but the answer has come to event {last}. Give the number "
            "of the last event that was received, or 0 for all.",
            field="after_event_id",
            metadata={"after_event_id": after, "last_event_id": last},
        )
