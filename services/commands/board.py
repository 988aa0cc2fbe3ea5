"""The control plane's report, left in Redis for whoever asks how the mesh is."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis.asyncio import Redis

_KEY = "ragmesh:control-plane:status"
_LIFE_S = 10
"""A report is made anew every 2 s; one older than this is of a control plane that is gone."""


def publisher(redis: Redis) -> Callable[[dict[str, Any]], Awaitable[None]]:
    """Writes each report over the last. What Redis raises is raised."""

    async def publish(report: dict[str, Any]) -> None:
        await redis.set(_KEY, json.dumps(report), ex=_LIFE_S)

    return publish


async def read(redis: Redis) -> dict[str, Any] | None:
    """The last report; None where there is none. Raises what Redis raises."""
    text = await redis.get(_KEY)
    return None if text is None else dict(json.loads(text))
