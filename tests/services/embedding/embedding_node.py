"""A node of one service, and another process that converts a model."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ragmesh.api.embedding.v1 import embedding_model_pb2
from ragmesh.api.embedding.v1 import embedding_service_pb2 as pb

from engine.models.encoder import Encoder
from engine.types import Vector
from services.embedding.servicer import EmbeddingServicer
from services.mesh.mesh import Mesh
from services.rpc.call import Call
from services.rpc.values import vector_value


class EmbeddingNode:
    """Asks the service as a sibling does."""

    def __init__(self, mesh: Mesh, servicer: EmbeddingServicer) -> None:
        self.mesh = mesh
        self.servicer = servicer

    async def embed(self, model: str, text: str, within_s: float | None = None) -> Vector:
        """The vector of a text."""
        response = await self.mesh.embedding.EmbedTexts(
            pb.EmbedTextsRequest(model=f"embeddingModels/{model}", texts=[text]), call(within_s)
        )
        return vector_value(response.embeddings[0].vector, "vector")

    async def model(self, model: str) -> embedding_model_pb2.EmbeddingModel:
        """A model as GetEmbeddingModel shows it."""
        response = await self.mesh.embedding.GetEmbeddingModel(
            pb.GetEmbeddingModelRequest(name=f"embeddingModels/{model}"), call()
        )
        return response.embedding_model

    async def models(self) -> dict[str, embedding_model_pb2.EmbeddingModel]:
        """All models by id, as ListEmbeddingModels shows them."""
        response = await self.servicer.ListEmbeddingModels(pb.ListEmbeddingModelsRequest(), call())
        return {m.name.removeprefix("embeddingModels/"): m for m in response.embedding_models}


def call(within_s: float | None = None) -> Call:
    """A caller, who waits so long."""
    deadline_s = None if within_s is None else time.monotonic() + within_s
    return Call(tenant="default", request_id="test", deadline_s=deadline_s)


@contextmanager
def converted_elsewhere(directory: Path, cache_dir: Path, scratch: Path) -> Iterator[None]:
    """Holds the lock of a model's conversion, as a process does that converts it: who loads the
    model waits until the context ends."""
    Encoder.load(directory, scratch, threads=1)
    cache_dir.mkdir(exist_ok=True)
    with (cache_dir / next(scratch.glob("*.lock")).name).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
