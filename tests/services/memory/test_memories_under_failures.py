"""Memories where things fail or come at once: what was acknowledged is there once, what failed left
nothing, and what is to be forgotten goes with its history and its points."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf import timestamp_pb2
from ragmesh.api.memory.v1 import memory_pb2
from ragmesh.api.memory.v1 import memory_service_pb2 as pb

from engine.errors import CollectionNotFound, RagmeshError, ServiceUnavailable
from services.store import collections, memories
from services.store.memories import COLLECTION, purge_memories
from services.store.store import Tx
from tests.services.memory.memory_node import MemoryNode, call

FACT = memory_pb2.Memory.KIND_FACT


def fact(subject: str, text: str, slot: str = "", **fields: object) -> pb.CreateMemoryRequest:
    memory = memory_pb2.Memory(
        subject=subject,
        kind=FACT,
        text=text,
        slot=slot,
        **fields,  # type: ignore[arg-type]
    )
    return pb.CreateMemoryRequest(memory=memory)


async def add(node: MemoryNode, request: pb.CreateMemoryRequest) -> pb.CreateMemoryResponse:
    response: pb.CreateMemoryResponse = await node.servicer.CreateMemory(request, call())
    return response


async def listed(node: MemoryNode, subject: str) -> list[memory_pb2.Memory]:
    request = pb.ListMemoriesRequest(subject=subject)
    return list((await node.servicer.ListMemories(request, call())).memories)


async def points(node: MemoryNode, ids: list[str]) -> int:
    async with node.store.system() as tx:
        row = await tx.row(
            "SELECT count(*) FROM points p JOIN collections c ON c.tenant = p.tenant "
            "AND c.uid = p.collection_uid WHERE c.id = %s AND p.id = ANY(%s)",
            (COLLECTION, ids),
        )
    assert row is not None
    return int(row[0])


async def test_of_facts_that_come_at_once_exactly_one_holds(memory_node: MemoryNode) -> None:
    requests = [fact("at-once", f"Ada lives in town {i}.", "home") for i in range(8)]
    await asyncio.gather(*(add(memory_node, request) for request in requests))
    rows = await listed(memory_node, "at-once")
    assert len(rows) == 8
    assert len([row for row in rows if not row.HasField("valid_to")]) == 1


async def test_a_repeated_request_makes_one_memory_even_at_once(memory_node: MemoryNode) -> None:
    request = fact("repeated", "Ada likes rain.")
    request.request_id = str(uuid.uuid4())
    made = await asyncio.gather(*(add(memory_node, request) for _ in range(6)))
    assert len({one.memory.name for one in made}) == 1
    assert made[0].memory.text == "Ada likes rain."
    assert len(await listed(memory_node, "repeated")) == 1
    turns = pb.RememberTurnsRequest(
        subject="repeated-turns",
        turns=[pb.Turn(text="I live in Berlin. I love jazz.")],
        request_id=str(uuid.uuid4()),
    )
    first = await memory_node.servicer.RememberTurns(turns, call())
    assert await memory_node.servicer.RememberTurns(turns, call()) == first
    assert len(await listed(memory_node, "repeated-turns")) == len(first.memories) == 3


async def test_what_is_kept_for_repeated_requests_says_nothing_of_the_memory(
    memory_node: MemoryNode,
) -> None:
    request = fact("quiet", "Ada keeps a secret garden.")
    request.request_id = str(uuid.uuid4())
    await add(memory_node, request)
    async with memory_node.store.system() as tx:
        row = await tx.row(
            "SELECT response FROM requests WHERE request_id = %s", (request.request_id,)
        )
    assert row is not None
    assert b"garden" not in row[0] and b"quiet" not in row[0]


async def test_nothing_is_written_while_no_model_answers(memory_node: MemoryNode) -> None:
    await add(memory_node, fact("alone", "Ada is here."))
    memory_node.mesh.host("embedding", None)
    with pytest.raises(ServiceUnavailable):
        await add(memory_node, fact("alone", "Ada is there."))
    assert [row.text for row in await listed(memory_node, "alone")] == ["Ada is here."]


async def test_a_cancelled_call_leaves_all_or_nothing(memory_node: MemoryNode) -> None:
    for delay_s in (0.0, 0.005, 0.02):
        task = asyncio.create_task(add(memory_node, fact("cancelled", f"After {delay_s} s.")))
        await asyncio.sleep(delay_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    rows = await listed(memory_node, "cancelled")
    ids = [row.name.removeprefix("memories/") for row in rows]
    assert await points(memory_node, ids) == len(ids)
    async with memory_node.store.transaction("t") as tx:
        for one in ids:
            assert len(await memories.history(tx, one)) == 1


async def test_a_failed_batch_of_turns_leaves_nothing(
    memory_node: MemoryNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_memory, made = memories.add_memory, []

    async def fails_at_the_third(tx: Tx, memory: memories.Memory) -> memories.Memory:
        made.append(memory)
        if len(made) == 3:
            raise ServiceUnavailable("cut")
        return await add_memory(tx, memory)

    monkeypatch.setattr(memories, "add_memory", fails_at_the_third)
    turns = [pb.Turn(text=f"We went to place {i} yesterday, and it rained.") for i in range(4)]
    with pytest.raises(RagmeshError):
        await memory_node.servicer.RememberTurns(
            pb.RememberTurnsRequest(subject="cut", turns=turns), call()
        )
    assert len(made) == 3
    assert await listed(memory_node, "cut") == []


async def test_what_is_to_be_forgotten_goes_with_its_history_and_its_point(
    memory_node: MemoryNode,
) -> None:
    soon = timestamp_pb2.Timestamp()
    soon.FromDatetime(datetime.now(UTC) - timedelta(seconds=1))
    gone = (await add(memory_node, fact("expiring", "Ada is in.", expire_time=soon))).memory.name
    kept = (await add(memory_node, fact("expiring", "Ada is out."))).memory.name
    ids = [name.removeprefix("memories/") for name in (gone, kept)]
    async with memory_node.store.system() as tx:
        assert await purge_memories(tx) >= 1
    assert [row.name for row in await listed(memory_node, "expiring")] == [kept]
    assert await points(memory_node, ids) == 1
    async with memory_node.store.transaction("t") as tx:
        assert await memories.history(tx, ids[0]) == []
    async with memory_node.store.system() as tx:
        assert await purge_memories(tx) == 0


async def test_an_erasure_in_steps_ends_with_nothing_left(memory_node: MemoryNode) -> None:
    for i in range(5):
        await add(memory_node, fact("stepwise", f"Fact number {i}."))
    removed = 0
    async with memory_node.store.transaction("t") as tx:
        while True:
            step = await memories.erase_step(tx, "stepwise", 2)
            if not step.memories and not step.events:
                break
            removed += len(step.memories)
        assert await memories.count_traces(tx, "stepwise") == 0
    assert removed == 5


async def test_a_name_that_the_tenant_uses_itself_is_not_taken_over(
    memory_node: MemoryNode,
) -> None:
    async with memory_node.store.transaction("t") as tx:
        await tx.run("UPDATE collections SET system = false WHERE id = %s", (COLLECTION,))
    try:
        with pytest.raises(RagmeshError, match=COLLECTION):
            await add(memory_node, fact("own", "x"))
    finally:
        async with memory_node.store.transaction("t") as tx:
            await tx.run("UPDATE collections SET system = true WHERE id = %s", (COLLECTION,))


async def test_the_index_of_memories_is_in_no_list_and_nobody_deletes_it(
    memory_node: MemoryNode,
) -> None:
    await add(memory_node, fact("listed", "Ada is in."))
    async with memory_node.store.transaction("t") as tx:
        assert COLLECTION not in [one.id for one in await collections.list_collections(tx)]
        with pytest.raises(CollectionNotFound):
            await collections.delete_collection(tx, COLLECTION)
