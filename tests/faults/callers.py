"""Calls as plain clients make them: nothing is tried again, so that every failure is seen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc.aio
import httpx
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as retrieval
from ragmesh.api.retrieval.v1 import retrieval_service_pb2_grpc as retrieval_grpc

TIMEOUT_S = 20.0

Caller = Callable[[], Awaitable[object]]


def request(collection: str) -> retrieval.SearchCollectionRequest:
    """A search for the point nearest to (1, 0)."""
    return retrieval.SearchCollectionRequest(
        collection=f"collections/{collection}",
        vector=vector_pb2.Vector(dense=vector_pb2.DenseVector(values=[1.0, 0.0])),
        limit=1,
    )


def over_grpc(channel: grpc.aio.Channel, collection: str, wanted: str) -> Caller:
    """A search over gRPC that has to find a point."""
    stub = retrieval_grpc.RetrievalServiceStub(channel)

    async def search() -> None:
        answer = await stub.SearchCollection(request(collection), timeout=TIMEOUT_S)
        assert [hit.point.id for hit in answer.hits] == [wanted]

    return search


def over_rest(http: httpx.AsyncClient, url: str, collection: str, wanted: str) -> Caller:
    """The same search over REST."""
    body = {"vector": {"dense": {"values": [1.0, 0.0]}}, "limit": 1}

    async def search() -> None:
        answer = await http.post(
            f"{url}/v1/collections/{collection}:search", json=body, timeout=TIMEOUT_S
        )
        assert answer.status_code == 200, answer.text
        assert [hit["point"]["id"] for hit in answer.json()["hits"]] == [wanted]

    return search
