"""Long work that callers wait for, join, and may leave: it goes on without them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from engine.errors import DeadlineExceeded, RagmeshError
from services.ending import ended
from services.rpc.call import Call

T = TypeVar("T")
_LOG = logging.getLogger(__name__)

ANSWER_S = 0.05
"""Before the deadline, so that the caller reads what becomes of the work."""


class Joined(Generic[T]):
    """Work by key, at most one of each at once."""

    def __init__(self, what: str) -> None:
        """`what` begins a sentence: `The compaction`."""
        self._what = what
        self._tasks: dict[Hashable, asyncio.Task[T]] = {}

    async def run(self, key: Hashable, work: Callable[[], Awaitable[T]], call: Call) -> T:
        """What `work` returns, begun now or by an earlier call with the same key.

        Raises what it raises, and DeadlineExceeded where the call ends first: the work goes on.
        """
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(_awaited(work), name=self._what)
            task.add_done_callback(lambda done: self._ended(key, done))
        remaining_s = call.remaining_s()
        timeout_s = None if remaining_s is None else max(0.0, remaining_s - ANSWER_S)
        # Unlike awaiting it, waiting for a task does not cancel it with the caller.
        await asyncio.wait({task}, timeout=timeout_s)
        if not task.done():
            raise DeadlineExceeded(
                f"{self._what} was not done in time and goes on. Call again to wait for it, with "
                "a later deadline.",
            )
        return task.result()

    async def close(self) -> None:
        """Ends what goes on."""
        await ended(self._tasks.values())

    def _ended(self, key: Hashable, task: asyncio.Task[T]) -> None:
        del self._tasks[key]
        if task.cancelled():
            return
        error = task.exception()  # asked, so that a failure without a caller is no surprise
        if isinstance(error, RagmeshError):
            _LOG.warning("%s failed: %s", self._what, error.message)
        elif error is not None:
            _LOG.error("%s failed", self._what, exc_info=error)


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()
