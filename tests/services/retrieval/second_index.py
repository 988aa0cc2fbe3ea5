"""What tests of second indexes act with: calls of one node, and what a view has to hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import numpy as np
from ragmesh.api.retrieval.v1 import collection_pb2, migration_pb2, point_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from engine.index import View, list_points
from services.store.collections import get_collection
from services.store.store import Store
from tests.services.retrieval.given_models import MODELS, vector_of
from tests.services.retrieval.lives import LivingNode, a_call

NODES = Callable[..., LivingNode]
SMALL, LARGE = MODELS
State = migration_pb2.Migration.State
NAME = "collections/papers"
DENSE = pb.SEARCH_MODE_DENSE


async def make_collection(node: LivingNode, *, model: str = SMALL, **fields: int) -> None:
    asked = collection_pb2.Collection(embedding_model=model, **fields)  # type: ignore[arg-type]
    request = pb.CreateCollectionRequest(collection_id="papers", collection=asked)
    await node.servicer.CreateCollection(request, a_call())


async def write(node: LivingNode, texts: dict[str, str]) -> int:
    points = [point_pb2.Point(id=id, text=text) for id, text in texts.items()]
    request = pb.UpsertPointsRequest(collection=NAME, points=points)
    return int((await node.servicer.UpsertPoints(request, a_call())).watermark)


async def delete(node: LivingNode, *ids: str) -> int:
    request = pb.DeletePointsRequest(collection=NAME, ids=ids)
    return int((await node.servicer.DeletePoints(request, a_call())).watermark)


async def start(node: LivingNode, model: str = LARGE, **hnsw: int) -> migration_pb2.Migration:
    request = pb.StartMigrationRequest(
        collection=NAME, embedding_model=model, hnsw=collection_pb2.HnswSettings(**hnsw)
    )
    return (await node.servicer.StartMigration(request, a_call())).migration


async def migration(node: LivingNode) -> migration_pb2.Migration:
    request = pb.GetMigrationRequest(collection=NAME)
    return (await node.servicer.GetMigration(request, a_call())).migration


async def flip(node: LivingNode, *, back: bool = False, overlap_min: float = 0) -> None:
    request = pb.FlipMigrationRequest(collection=NAME, roll_back=back, overlap_min=overlap_min)
    await node.servicer.FlipMigration(request, a_call())


async def end(node: LivingNode) -> None:
    await node.servicer.EndMigration(pb.EndMigrationRequest(collection=NAME), a_call())


async def until_ready(node: LivingNode) -> migration_pb2.Migration:
    return await until(node, lambda found: found.state != State.STATE_BUILDING)


async def until(
    node: LivingNode, condition: Callable[[migration_pb2.Migration], bool]
) -> migration_pb2.Migration:
    give_up_s = time.monotonic() + 30
    while True:
        found = await migration(node)
        if condition(found):
            return found
        assert time.monotonic() < give_up_s, found
        await asyncio.sleep(0.03)


async def view_of(node: LivingNode, store: Store, seq: int = 0) -> View:
    async with store.transaction("default") as tx:
        row = await get_collection(tx, "papers")
    return await node.room.indexes.view(row, seq, a_call())


def check(view: View, model: str, texts: dict[str, str]) -> None:
    """A view holds exactly these texts, with vectors of the model."""
    found = {p.id: p for p in list_points(view, limit=10_000, with_vectors=True)}
    assert {id: p.text for id, p in found.items()} == texts
    for point in found.values():
        assert point.vector is not None
        np.testing.assert_allclose(point.vector, vector_of(model, point.text), atol=1e-6)


async def nearest(node: LivingNode, text: str, min_watermark: int = 0) -> str:
    request = pb.SearchCollectionRequest(
        collection=NAME, text=text, mode=DENSE, limit=1, min_watermark=str(min_watermark or "")
    )
    return (await node.servicer.SearchCollection(request, a_call())).hits[0].point.id
