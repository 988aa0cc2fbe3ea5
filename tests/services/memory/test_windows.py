"""The newest messages in Redis make a session faster, and nothing else: with Redis flushed, gone,
overtaken or damaged, what is read is the same."""

from __future__ import annotations

import asyncio
import json
import subprocess

import pytest
from ragmesh.api.memory.v1 import memory_service_pb2 as pb

from engine.errors import SessionNotFound, StoreUnavailable
from services.config import GenerationSettings
from services.memory.servicer import MemoryServicer
from services.memory.window import BYTES_MAX, MESSAGES_MAX
from services.store import messages, sessions, summaries
from services.store.redis import connect
from services.store.store import Store
from services.store.summaries import Summary
from tests.services.memory.conftest import Siblings
from tests.services.memory.memory_node import MemoryNode, call, small_talk
from tests.services.store.redis_server import running_redis


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The leaves of the branches that were read from PostgreSQL."""
    seen: list[int] = []
    real = messages.list_branch

    async def counted(tx: object, session: object, leaf: object, **asked: object) -> object:
        seen.append(leaf.index)  # type: ignore[attr-defined]
        return await real(tx, session, leaf, **asked)  # type: ignore[arg-type]

    monkeypatch.setattr(messages, "list_branch", counted)
    return seen


async def test_a_conversation_that_goes_on_is_read_from_redis(
    memory_node: MemoryNode, reads: list[int]
) -> None:
    name = await memory_node.session("What?", "That.")
    for turn in range(5):
        await memory_node.say(name, f"And {turn}?", f"It is {turn}.")
        found = await memory_node.context(name)
        assert found.indexes == list(range(1, 5 + 2 * turn))
    assert reads == []
    await memory_node.redis.flushall()
    assert (await memory_node.context(name)).indexes == list(range(1, 13))
    assert reads == [12]
    assert (await memory_node.context(name)).indexes == list(range(1, 13))
    assert (await memory_node.context(name, leaf_index=7)).indexes == list(range(1, 8))
    assert reads == [12], "it is there again"


async def test_branches_never_mix(memory_node: MemoryNode, reads: list[int]) -> None:
    name = await memory_node.session("Red?", "No.")
    tails = {1: [1], 2: [1]}
    for turn in range(6):
        side = 1 + turn % 2
        tails[side] += await memory_node.say(name, f"{side}: {turn}", parent=tails[side][-1])
        for tail in tails.values():
            found = await memory_node.context(name, leaf_index=tail[-1])
            assert found.indexes == tail
    assert reads, "what was overtaken is read from PostgreSQL"


async def test_writers_at_once_leave_a_window_that_is_one_branch_or_none(
    memory_node: MemoryNode,
) -> None:
    name = await memory_node.session("Start?")
    written = await asyncio.gather(
        *(memory_node.say(name, f"a {i}", f"b {i}", parent=1) for i in range(8))
    )
    for indexes in written:
        found = await memory_node.context(name, leaf_index=indexes[-1])
        assert found.indexes == [1, *indexes]


@pytest.mark.parametrize("damage", [b"", b"{", b"[[1,2]]", b"\xff", b"[[1,0,1,1,1,2,{},4]]"])
async def test_what_cannot_be_read_is_read_elsewhere(
    memory_node: MemoryNode, damage: bytes
) -> None:
    name = await memory_node.session("What?", "That.")
    (key,) = await memory_node.redis.keys("ragmesh:session:*")
    await memory_node.redis.set(key, damage)
    assert (await memory_node.context(name)).indexes == [1, 2]


async def test_a_window_has_bounds(memory_node: MemoryNode, reads: list[int]) -> None:
    name = await memory_node.session(*small_talk(400))
    found = await memory_node.context(name, tokens_max=32_768)
    assert len(found.indexes) == MESSAGES_MAX and found.answer.messages_left_out == 800 - 512
    (key,) = await memory_node.redis.keys("ragmesh:session:*")
    assert len(json.loads(await memory_node.redis.get(key) or "")) == MESSAGES_MAX
    assert await memory_node.redis.ttl(key) > 0
    assert reads == []
    long = await memory_node.session(*(["x" * 100_000] * 15))
    await memory_node.context(long)
    for key in await memory_node.redis.keys("ragmesh:session:*"):
        assert await memory_node.redis.strlen(key) < BYTES_MAX + 100_000


async def test_redis_may_die_and_come_back(siblings: Siblings, sessions_store: Store) -> None:
    with running_redis() as (url, process):
        redis = connect(url)
        servicer = MemoryServicer(
            sessions_store, siblings.mesh, redis, GenerationSettings().default
        )
        siblings.mesh.host("memory", servicer)
        siblings.mesh.host("embedding", siblings.embedding)
        node = MemoryNode(siblings.mesh, servicer, sessions_store, redis, siblings.endpoint)
        name = await node.session("What?", "That.")
        _kill(process)
        assert await node.say(name, "And?") == [3]
        assert (await node.context(name)).indexes == [1, 2, 3]
        await redis.aclose()


async def test_nothing_is_left_of_a_session_that_is_deleted(memory_node: MemoryNode) -> None:
    name = await memory_node.session("What?", "That.")
    kept = await memory_node.session("Mine?", "Yours.")
    await memory_node.context(name)
    async with memory_node.store.transaction("t") as tx:
        session = await sessions.get_session(tx, name.removeprefix("sessions/"))
        await summaries.keep_summary(tx, session, "generationModels/m", Summary(2, "That."))
    delete = memory_node.mesh.method("memory", "DeleteSession")
    assert (await delete(pb.DeleteSessionRequest(name=name), call())).messages == 2
    assert len(await memory_node.redis.keys("ragmesh:session:*")) == 1
    async with memory_node.store.transaction("t") as tx:
        for table in ("messages", "session_summaries"):
            left = f"SELECT FROM {table} WHERE session_uid = %s"
            assert await tx.rows(left, (session.uid,)) == []
        # Late: a model wrote it while the session was deleted.
        await summaries.keep_summary(tx, session, "generationModels/m", Summary(2, "That."))
        assert await tx.rows(left, (session.uid,)) == []
    for ask in (memory_node.context(name), memory_node.say(name, "Still?")):
        with pytest.raises(SessionNotFound):
            await ask
    assert (await memory_node.context(kept)).indexes == [1, 2]


async def test_without_postgresql_nothing_is_said_to_be_kept(memory_node: MemoryNode) -> None:
    name = await memory_node.session("What?", "That.")
    await memory_node.store.close()
    for ask in (memory_node.say(name, "And?"), memory_node.context(name)):
        with pytest.raises(StoreUnavailable):
            await ask


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
