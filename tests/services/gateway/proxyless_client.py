"""A gRPC client on `xds:///embedding`, in a process of its own because gRPC reads its bootstrap
once: prints, for every line it reads, the nodes that answered some calls."""

from __future__ import annotations

import asyncio
import sys

import grpc.aio
from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.embedding.v1 import embedding_service_pb2_grpc as embedding_grpc

CALLS = 20


async def main() -> None:
    async with grpc.aio.insecure_channel("xds:///embedding") as channel:
        stub = embedding_grpc.EmbeddingServiceStub(channel)
        request = embedding.ListEmbeddingModelsRequest()
        while await asyncio.to_thread(sys.stdin.readline):
            found = set()
            for _ in range(CALLS):
                try:
                    answer = await stub.ListEmbeddingModels(request, timeout=5, wait_for_ready=True)
                    found.add(answer.embedding_models[0].display_name)
                except grpc.aio.AioRpcError as error:
                    found.add(f"{error.code()} {error.details()}")
            print(" ".join(sorted(found)), flush=True)


asyncio.run(main())
