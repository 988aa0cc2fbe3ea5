"""The way to one endpoint: so many at once, few that wait, and nobody while it is broken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from engine import breaker
from engine.breaker import CLOSED, Breaker, BreakerPolicy
from engine.errors import DeadlineExceeded, QueueFull
from services.config_generation import LanguageModel
from services.generation.providers.pieces import EndpointFailed
from services.rpc.call import Call

FULL_RETRY_S = 1.0
"""When those are told to come back who found no place."""


class Door:
    """Of one model. `clock` is in seconds, from any point."""

    def __init__(
        self,
        model: LanguageModel,
        policy: BreakerPolicy,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._policy = policy
        self._clock = clock
        self._places = asyncio.Semaphore(model.concurrency_max)
        self._waiting = 0
        self._breaker: Breaker = CLOSED

    @asynccontextmanager
    async def place(self, call: Call) -> AsyncIterator[None]:
        """Holds one of the places. Raises QueueFull where too many wait, or none became free in
        time, and DeadlineExceeded where the caller's ran out meanwhile."""
        await self._enter(call)
        try:
            yield
        finally:
            self._places.release()

    @property
    def open(self) -> bool:
        """Whether somebody would be admitted now."""
        return breaker.admit(self._breaker, self._clock())[0]

    def admit(self) -> None:
        """Counts a call in. Raises EndpointFailed while the endpoint is left alone. Whoever was
        admitted says what became of it: `succeeded`, `failed` or `left`."""
        now_s = self._clock()
        admitted, self._breaker = breaker.admit(self._breaker, now_s)
        if not admitted:
            name = f"generationModels/{self._model.id}"
            raise EndpointFailed(
                f"The endpoint of {name} failed {self._breaker.failures} times in a row and is "
                "left alone for a while. Try again, or ask another model.",
                metadata={"model": name, "failures": self._breaker.failures},
                retry_after_s=max(breaker.wait_s(self._breaker, now_s), 0.1),
                broken=False,
            )

    def succeeded(self) -> None:
        """An answer began."""
        self._breaker = breaker.after_success(self._breaker)

    def failed(self) -> None:
        """The endpoint failed."""
        self._breaker = breaker.after_failure(self._breaker, self._policy, self._clock())

    def left(self) -> None:
        """The caller left, or was refused, before that was known."""
        self._breaker = breaker.after_silence(self._breaker)

    async def _enter(self, call: Call) -> None:
        if not self._places.locked():
            await self._places.acquire()  # which does not wait
            return
        if self._waiting >= self._model.waiting_max:
            raise self._full(f"{self._waiting} callers wait for one already")
        remaining_s = call.remaining_s()
        wait_s = self._model.wait_s if remaining_s is None else min(self._model.wait_s, remaining_s)
        self._waiting += 1
        try:
            async with asyncio.timeout(wait_s):
                await self._places.acquire()
        except TimeoutError as error:
            if wait_s < self._model.wait_s:
                raise DeadlineExceeded(
                    "The deadline passed while the generation model had no place."
                ) from error
            raise self._full(f"none became free within {wait_s:g} s") from error
        finally:
            self._waiting -= 1

    def _full(self, why: str) -> QueueFull:
        name, most = f"generationModels/{self._model.id}", self._model.concurrency_max
        return QueueFull(
            f"All {most} places of {name} are taken, and {why}. Try again shortly.",
            metadata={"model": name, "concurrency_max": most},
            retry_after_s=FULL_RETRY_S,
        )
