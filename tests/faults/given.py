"""What tests of faults begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
from ragmesh import Point

from tests.faults.callers import Caller, over_grpc, over_rest
from tests.faults.faulty_mesh import FaultyMesh

FIRST = "first"
"""The point that `searches` look for."""


@asynccontextmanager
async def searches(mesh: FaultyMesh, collection: str) -> AsyncIterator[list[Caller]]:
    """Makes a collection of one point that both nodes know, and ways to search it through Envoy:
    two over gRPC, two over REST, none of which tries anything again."""
    async with mesh.client() as client:
        await client.create_collection(collection, dimensions=2)
        written = await client.upsert_points(collection, [Point(FIRST, [1, 0])])
    for door in ("node-1", "node-2"):
        async with mesh.client(door) as client:
            await client.search_collection(
                collection, vector=[1, 0], min_watermark=written.watermark
            )
    async with grpc.aio.insecure_channel(mesh.address("gateway")) as channel:
        url = mesh.local.rest_url
        yield [
            over_grpc(channel, collection, FIRST),
            over_rest(mesh.http, url, collection, FIRST),
            over_grpc(channel, collection, FIRST),
            over_rest(mesh.http, url, collection, FIRST),
        ]
