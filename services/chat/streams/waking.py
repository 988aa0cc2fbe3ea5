"""Redis, which tells other nodes that a log has grown. Without it they look by themselves."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.chat.streams.feed import Key
from services.ending import ended
from services.store.redis import attempt

_LOG = logging.getLogger(__name__)

CHANNEL = "ragmesh:answers"
AGAIN_S = 1.0
"""After a failure of Redis."""
LISTEN_S = 0.5


class Wakes:
    """Says and hears which logs have grown."""

    def __init__(self, redis: Redis | None, heard: Callable[[list[Key]], None]) -> None:
        self._redis = redis
        self._heard = heard
        self._dirty: set[Key] = set()
        self._said = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.listening = False

    def start(self) -> None:
        """Begins to listen."""
        if self._redis is not None:
            self._tasks = [
                asyncio.create_task(self._listen(self._redis), name="wakes heard"),
                asyncio.create_task(self._speak(self._redis), name="wakes said"),
            ]

    async def close(self) -> None:
        """Ends both."""
        if self._tasks:
            await ended(self._tasks)

    def say(self, keys: Iterable[Key]) -> None:
        """Tells the others, soon; never waits."""
        self._dirty.update(keys)
        if self._dirty:
            self._said.set()

    async def _speak(self, redis: Redis) -> None:
        while True:
            await self._said.wait()
            self._said.clear()
            keys, self._dirty = sorted(self._dirty), set()
            await attempt(redis.publish(CHANNEL, json.dumps(keys)))

    async def _listen(self, redis: Redis) -> None:
        while True:
            try:
                async with redis.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(CHANNEL)
                    self.listening = True
                    while True:
                        message = await channel.get_message(timeout=LISTEN_S)
                        if message is not None:
                            self._heard(_keys(message["data"]))
            except (RedisError, OSError, TimeoutError) as error:
                _LOG.info("Redis wakes nobody: %s", error)
            finally:
                self.listening = False
            await asyncio.sleep(AGAIN_S)


def _keys(data: object) -> list[Key]:
    """What a message names; nothing where somebody else wrote it."""
    try:
        return [(str(tenant), str(name)) for tenant, name in json.loads(str(data, "utf-8"))]  # type: ignore[call-overload]
    except (ValueError, TypeError):
        return []
