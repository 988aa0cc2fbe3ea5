"""Calls that go on while something is broken, and what became of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType

Caller = Callable[[], Awaitable[object]]


class Load:
    """Runs callers over and over, each in a task of its own, while it is entered.

    async with Load(search, write) as load:
        ...break something...
    assert not load.failures
    """

    def __init__(self, *callers: Caller, pause_s: float = 0.02) -> None:
        self._callers = callers
        self._pause_s = pause_s
        self._tasks: list[asyncio.Task[None]] = []
        self._stop = False
        self.done = 0
        self.failures: list[str] = []
        self.slowest_s = 0.0

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._run(caller)) for caller in self._callers]
        await self.go_on(len(self._callers))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def go_on(self, calls: int, within_s: float = 30.0) -> None:
        """Waits until so many more calls have ended."""
        wanted = self.done + len(self.failures) + calls
        async with asyncio.timeout(within_s):
            while self.done + len(self.failures) < wanted:
                await asyncio.sleep(0.02)

    async def _run(self, caller: Caller) -> None:
        while not self._stop:
            begin_s = time.monotonic()
            try:
                await caller()
                self.done += 1
            except Exception as error:
                self.failures.append(f"{type(error).__name__}: {error}")
            self.slowest_s = max(self.slowest_s, time.monotonic() - begin_s)
            await asyncio.sleep(self._pause_s)
