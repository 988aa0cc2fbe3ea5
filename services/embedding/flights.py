"""Who asks for what is being made already waits for it instead of having it made twice."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Flights(Generic[T]):
    """What is being made now, by key. Used from one event loop."""

    def __init__(self) -> None:
        self._flying: dict[Hashable, asyncio.Future[T]] = {}

    def under_way(self, key: Hashable) -> asyncio.Future[T] | None:
        """The result that another caller makes; await it with `landed`."""
        return self._flying.get(key)

    @contextmanager
    def lead(self, keys: Iterable[Hashable]) -> Iterator[Mapping[Hashable, asyncio.Future[T]]]:
        """Says that this caller makes the results of `keys`, and returns where to put them. What
        is not there at the end, because the caller failed or left, is cancelled."""
        loop = asyncio.get_running_loop()
        led: dict[Hashable, asyncio.Future[T]] = {key: loop.create_future() for key in keys}
        self._flying.update(led)
        try:
            yield led
        finally:
            for key, future in led.items():
                if self._flying.get(key) is future:
                    del self._flying[key]
                future.cancel()


async def landed(future: asyncio.Future[T]) -> T | None:
    """The result; None where whoever made it failed or left, so that it has to be made anew."""
    await asyncio.wait([future])
    return None if future.cancelled() else future.result()
