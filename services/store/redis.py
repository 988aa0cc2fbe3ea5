"""The Redis client, and how to ask it for what may be lost (D4)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

T = TypeVar("T")

CONNECTIONS_MAX = 20
WAIT_S = 1.0
SOCKET_TIMEOUT_S = 1.0
HEALTH_CHECK_S = 15


@dataclass(frozen=True, slots=True)
class Lost:
    """Redis did not answer. `reason` is for a log, not for a caller."""

    reason: str

    def __bool__(self) -> bool:
        return False


def connect(url: str, *, connections_max: int = CONNECTIONS_MAX) -> Redis:
    """A client of `redis://`, `rediss://` or `unix:///socket?db=0`; it connects when first used.

    The library's defaults are 100 connections, an error when they are taken, and 10 retries, which
    multiply an outage's latency; here a call waits for a connection and is tried twice.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections_max,
        timeout=WAIT_S,
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=SOCKET_TIMEOUT_S,
        health_check_interval=HEALTH_CHECK_S,
        retry=Retry(ExponentialBackoff(cap=0.05, base=0.01), 1),
    )
    return Redis.from_pool(pool)


async def attempt(call: Awaitable[T], *, timeout_s: float = 2 * SOCKET_TIMEOUT_S) -> T | Lost:
    """The answer, or Lost after a failure or `timeout_s`; never an error of Redis.

    A caller that is cancelled goes at once, but the command runs on to the end of its answer:
    a connection with half an answer on it would give the next caller that one's data
    (CVE-2023-28858, CVE-2023-28859).
    """
    task = asyncio.ensure_future(call)
    task.add_done_callback(_look)
    try:
        return await asyncio.wait_for(asyncio.shield(task), timeout_s)
    except TimeoutError:
        return Lost(f"no answer within {timeout_s} s")
    except (RedisError, OSError) as error:
        return Lost(f"{type(error).__name__}: {error}")


def _look(task: asyncio.Future[T]) -> None:
    """Have the error of a call that nobody waits for any more be seen."""
    if not task.cancelled():
        task.exception()
