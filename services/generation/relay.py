"""Which language model writes: the one asked for, or where it cannot begin, its fallbacks.

Nobody else is asked once the first token of an answer is there: two models would have written it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from engine.breaker import BreakerPolicy
from engine.errors import QueueFull
from services.generation.backend import Progress, Started, Task
from services.generation.door import Door
from services.generation.language_backend import LanguageBackend
from services.generation.meter import Meter
from services.generation.providers.pieces import EndpointFailed
from services.rpc import metrics
from services.rpc.call import Call

_LOG = logging.getLogger(__name__)

TRIES_MAX = 3
"""Of the last model of the order, which nobody stands in for; the others are tried once."""

PAUSE_S = 0.25
"""Before a second try; twice as long before each further one, and somewhat by chance."""

PATIENCE_S = 2.0
"""An endpoint that wants to be left alone for longer is not tried again in the same call."""


class Relay:
    """The language models of a node, and the way to each of them."""

    def __init__(self, backends: Mapping[str, LanguageBackend], policy: BreakerPolicy) -> None:
        self._backends = backends
        self._doors = {name: Door(b.model, policy) for name, b in backends.items()}

    def order(self, model_id: str) -> list[LanguageBackend]:
        """The model and its fallbacks, each once."""
        ids = dict.fromkeys((model_id, *self._backends[model_id].fallbacks))
        return [self._backends[i] for i in ids]

    def longest_s(self, model_id: str) -> float:
        """How long an answer may take, all tries included."""
        begin = sum(
            (TRIES_MAX * (b.model.first_token_s + PATIENCE_S)) + b.model.wait_s
            for b in self.order(model_id)
        )
        return begin + 2 * max(b.model.timeout_s for b in self.order(model_id))

    async def write(
        self, model_id: str, task: Task, call: Call, meter: Meter
    ) -> AsyncGenerator[Progress, None]:
        """One answer. Raises what the last model of the order raised, with the names of those that
        were tried."""
        order = self.order(model_id)
        for place, backend in enumerate(order, 1):
            begun = False
            tries = TRIES_MAX if place == len(order) else 1
            try:
                async with aclosing(self._tried(backend, task, call, meter, tries)) as progresses:
                    async for progress in progresses:
                        begun = begun or isinstance(progress, Started)
                        yield progress
                return
            except (EndpointFailed, QueueFull) as error:
                passing = isinstance(error, QueueFull) or error.passing
                if begun or not passing or place == len(order):
                    if len(order) > 1:
                        error.metadata["tried"] = _names(order[:place])
                    raise
                metrics.GENERATION_FALLBACKS.labels(backend.model.id).inc()
                _LOG.info(
                    "a fallback is asked: %s", error.message, extra={"request_id": call.request_id}
                )

    async def _tried(
        self, backend: LanguageBackend, task: Task, call: Call, meter: Meter, tries: int
    ) -> AsyncGenerator[Progress, None]:
        """One model, up to so many times before the first token."""
        door = self._doors[backend.model.id]
        async with door.place(call):
            for left in range(tries - 1, -1, -1):
                begun = False
                try:
                    door.admit()
                    async with aclosing(self._once(backend, task, call, meter)) as progresses:
                        async for progress in progresses:
                            begun = begun or isinstance(progress, Started)
                            yield progress
                    return
                except EndpointFailed as error:
                    if begun or not error.passing or not left or not door.open:
                        raise
                    pause_s = _pause_s(tries - left, error.retry_after_s)
                    remaining_s = call.remaining_s()
                    if pause_s > PATIENCE_S or (remaining_s is not None and pause_s > remaining_s):
                        raise
                    await asyncio.sleep(pause_s)

    async def _once(
        self, backend: LanguageBackend, task: Task, call: Call, meter: Meter
    ) -> AsyncGenerator[Progress, None]:
        """One try of those that were admitted; the breaker hears what became of it."""
        door = self._doors[backend.model.id]
        said = False
        try:
            async with aclosing(backend.write(task, call, meter)) as progresses:
                async for progress in progresses:
                    if isinstance(progress, Started):
                        door.succeeded()
                        said = True
                    yield progress
        except EndpointFailed as error:
            metrics.GENERATION_FAILURES.labels(backend.model.id).inc()
            if error.broken:
                door.failed()
                said = True
            raise
        finally:
            if not said:
                door.left()


def _pause_s(tried: int, retry_after_s: float | None) -> float:
    if retry_after_s is not None:
        return retry_after_s
    return PAUSE_S * float(2 ** (tried - 1)) * random.uniform(0.75, 1.25)


def _names(backends: Sequence[LanguageBackend]) -> str:
    return ", ".join(f"generationModels/{b.model.id}" for b in backends)
