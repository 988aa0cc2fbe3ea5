"""A node whose indexes have taken their memory takes no more points; searches and deletes still
pass, and what they free is taken again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from pydantic import SecretStr
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.retrieval.v1 import collection_pb2, point_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from engine.errors import IndexMemoryFull, LimitReached
from services.app import Node
from services.config import IndexSettings, LimitSettings, NodeSettings, Settings, StoreSettings
from services.rpc.call import Call
from tests.services.store.stored import Database

ROWS = np.random.default_rng(8).standard_normal((200, 64)).astype(np.float32)
BUDGET_BYTES = 200_000
"""Some 600 of these points."""


@pytest_asyncio.fixture
async def node(database: Database, tmp_path: Path) -> AsyncIterator[Node]:
    limits = LimitSettings(limit_max=20)
    made = Node(
        Settings(
            data_dir=tmp_path,
            store=StoreSettings(postgres_url=SecretStr(database.url)),
            node=NodeSettings(services=("retrieval",), metrics_listen=""),
            index=IndexSettings(memory_bytes_max=BUDGET_BYTES, limits=limits),
        )
    )
    await made.open()
    yield made
    await made.close()


async def ask(node: Node, rpc: str, request: Message) -> Any:
    call = Call("default", "r", time.monotonic() + 20)
    return await node.mesh.method("retrieval", rpc)(request, call)


async def filled(node: Node, name: str) -> int:
    """Writes until the node refuses; how many points it took."""
    for batch in range(200):
        points = [
            point_pb2.Point(
                id=f"{name[-1]}-{batch}-{n}", vector=vector_pb2.Vector(packed=row.tobytes())
            )
            for n, row in enumerate(ROWS[:100])
        ]
        try:
            request = pb.UpsertPointsRequest(collection=name, points=points, wait=True)
            await ask(node, "UpsertPoints", request)
        except IndexMemoryFull:
            return batch * 100
        await asyncio.sleep(0.3)
    raise AssertionError("it takes everything")


async def create(node: Node, id: str) -> str:
    request = pb.CreateCollectionRequest(
        collection=collection_pb2.Collection(dimensions=64), collection_id=id
    )
    return str((await ask(node, "CreateCollection", request)).collection.name)


async def test_full_memory_refuses_points_and_nothing_else(node: Node) -> None:
    name = await create(node, "a")
    taken = await filled(node, name)
    # The figure is two seconds old at the most, in which some batches may have come.
    assert BUDGET_BYTES / 400 <= taken <= BUDGET_BYTES / 256 + 1_000
    vector = vector_pb2.Vector(packed=ROWS[0].tobytes())
    search = pb.SearchCollectionRequest(collection=name, vector=vector)
    assert len((await ask(node, "SearchCollection", search)).hits) == 10
    other = await create(node, "b")
    one = pb.UpsertPointsRequest(collection=other, points=[point_pb2.Point(id="x", vector=vector)])
    with pytest.raises(IndexMemoryFull) as refused:
        await ask(node, "UpsertPoints", one)
    assert refused.value.retry_after_s
    some = pb.DeletePointsRequest(collection=name, ids=["a-0-0"])
    assert (await ask(node, "DeletePoints", some)).deleted == 1
    await ask(node, "DeleteCollection", pb.DeleteCollectionRequest(name=name))
    for _ in range(50):
        try:
            await ask(node, "UpsertPoints", one)
            return
        except IndexMemoryFull:
            await asyncio.sleep(0.1)
    raise AssertionError("memory that was given back is not used again")


async def test_a_node_has_limits_of_its_own(node: Node) -> None:
    name = await create(node, "a")
    vector = vector_pb2.Vector(packed=ROWS[0].tobytes())
    with pytest.raises(LimitReached) as refused:
        await ask(
            node,
            "SearchCollection",
            pb.SearchCollectionRequest(collection=name, vector=vector, limit=21),
        )
    assert refused.value.metadata["bound"] == "20"


def test_limits_of_a_node_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGMESH_INDEX__LIMITS__POINTS_MAX", "5000")
    monkeypatch.setenv("RAGMESH_INDEX__LIMITS__SEARCHES_PER_SECOND", "0.5")
    limits = Settings().index.limits
    assert (limits.points_max, limits.searches_per_second) == (5_000, 0.5)
