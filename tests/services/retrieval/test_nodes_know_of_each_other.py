"""What may be relied on of a write that waits: it says which nodes do not have it yet."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator

import pytest_asyncio
from redis.asyncio import Redis

from services.mesh.lease import LeaseState, NodeLease
from services.mesh.registry import Registry
from services.retrieval.index.standing import Standing
from services.store.redis import connect
from tests.services.store.redis_server import running_redis

COLLECTION = uuid.uuid4()


@pytest_asyncio.fixture
async def redis() -> AsyncIterator[Redis]:
    with running_redis() as (url, _):
        client = connect(url)
        yield client
        await client.aclose()


async def announce(redis: Redis, node_id: str, state: LeaseState = "SERVING") -> None:
    lease = NodeLease(
        node_id=node_id,
        services=("retrieval",),
        address="127.0.0.1:1",
        state=state,
        locality="",
        load=0.0,
        version="0",
        metrics_address="",
    )
    assert await Registry(redis, 30.0).announce(lease)


async def standing(redis: Redis | None, node_id: str, heard: list[uuid.UUID]) -> Standing:
    made = Standing(redis, node_id, heard.append)
    await made.start()
    return made


async def behind(node: Standing, seq: int, wait_s: float = 0.2) -> list[str]:
    return await node.behind(COLLECTION, seq, time.monotonic() + wait_s)


async def said(redis: Redis, node: str, seq: int) -> None:
    for _ in range(200):
        if await redis.hget(f"ragmesh:applied:{COLLECTION}", node) == str(seq).encode():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{node} did not say {seq}")


async def test_nodes_that_have_not_applied_are_named_until_they_have(redis: Redis) -> None:
    one, two = await standing(redis, "one", []), await standing(redis, "two", [])
    await announce(redis, "one")
    await announce(redis, "two")
    assert await behind(one, 7) == []  # two does not have the collection open
    two.came(COLLECTION, 5)
    await said(redis, "two", 5)
    assert await behind(one, 7) == ["two"]
    assert await behind(one, 5) == []
    waiting = asyncio.create_task(behind(one, 7, 10))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    two.came(COLLECTION, 7)
    assert await waiting == []
    await one.close()
    await two.close()


async def test_nodes_that_are_gone_or_leave_or_closed_it_are_not_waited_for(redis: Redis) -> None:
    one, two = await standing(redis, "one", []), await standing(redis, "two", [])
    two.came(COLLECTION, 5)
    await said(redis, "two", 5)
    assert await behind(one, 7) == []  # it has no lease
    await announce(redis, "two", "DRAINING")
    assert await behind(one, 7) == []
    await announce(redis, "two")
    assert await behind(one, 7) == ["two"]
    two.came(COLLECTION, 0)
    await said(redis, "two", 0)
    assert await behind(one, 7) == []
    await one.close()
    await two.close()


async def test_nodes_hear_of_the_logs_that_others_moved_and_not_of_their_own(redis: Redis) -> None:
    heard_one: list[uuid.UUID] = []
    heard_two: list[uuid.UUID] = []
    one, two = await standing(redis, "one", heard_one), await standing(redis, "two", heard_two)
    for _ in range(200):
        one.wrote(COLLECTION)
        await asyncio.sleep(0.01)
        if heard_two:
            break
    assert set(heard_two) == {COLLECTION}
    assert heard_one == []
    await redis.publish("ragmesh:moved", b"two no uid \xff")
    await asyncio.sleep(0.05)
    await one.close()
    await two.close()


async def test_without_redis_nobody_is_waited_for() -> None:
    alone = await standing(None, "alone", [])
    alone.wrote(COLLECTION)
    alone.came(COLLECTION, 3)
    assert await behind(alone, 7) == []
    await alone.close()
    with running_redis() as (url, process):
        client = connect(url)
        process.kill()
        process.wait()
        lost = await standing(client, "lost", [])
        lost.came(COLLECTION, 3)
        assert await behind(lost, 7, 5) == []
        await lost.close()
        await client.aclose()
