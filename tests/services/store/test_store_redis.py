"""Redis may be lost: calls say so in time, and nobody ever gets another's answer."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import Iterator

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from services.store.redis import Lost, attempt, connect
from tests.services.store.redis_server import running_redis

pytestmark = pytest.mark.asyncio


@pytest.fixture
def redis_server() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with running_redis() as server:
        yield server


async def test_cancelled_callers_never_mix_up_answers(
    redis_server: tuple[str, subprocess.Popen[bytes]],
) -> None:
    client = connect(redis_server[0], connections_max=3)
    for number in range(200):
        await client.set(f"k{number}", number)

    async def ask(number: int) -> None:
        answer = await attempt(client.get(f"k{number}"))
        assert answer == str(number).encode()

    for round_number in range(15):
        tasks = [asyncio.create_task(ask(number)) for number in range(60)]
        await asyncio.sleep(0.0003 * round_number)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(r is None or isinstance(r, asyncio.CancelledError) for r in results)
    await asyncio.gather(*(ask(number) for number in range(200)))
    await client.aclose()


async def test_a_stopped_redis_is_a_value_not_an_error(
    redis_server: tuple[str, subprocess.Popen[bytes]],
) -> None:
    url, process = redis_server
    client = connect(url)
    assert await attempt(client.set("k", "v")) is True
    process.kill()
    process.wait()
    start = time.monotonic()
    lost = await attempt(client.get("k"))
    assert isinstance(lost, Lost) and not lost and lost.reason
    assert time.monotonic() - start < 5.0
    with pytest.raises(RedisConnectionError):
        await client.get("k")
    with contextlib.suppress(RedisConnectionError):
        await client.aclose()


async def test_a_redis_that_hangs_is_given_up_in_time(
    redis_server: tuple[str, subprocess.Popen[bytes]],
) -> None:
    client = connect(redis_server[0])
    assert await attempt(client.ping())
    start = time.monotonic()
    lost = await attempt(client.blpop(["nothing"], timeout=0.9), timeout_s=0.1)
    assert isinstance(lost, Lost) and time.monotonic() - start < 0.8
    await asyncio.sleep(0.9)
    await client.aclose()
