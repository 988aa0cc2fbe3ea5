"""Embedding models that a text's hash is enough for, in place of a mesh."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from ragmesh.api.embedding.v1 import embedding_model_pb2
from ragmesh.api.embedding.v1 import embedding_service_pb2 as pb

from engine.errors import ModelUnavailable
from engine.types import Vector
from services.mesh.mesh import Mesh
from services.rpc.call import Call
from services.rpc.values import vector_message

MODELS = {"embeddingModels/small": 8, "embeddingModels/large": 16}
"""Names, and dimensions of vectors."""


def vector_of(model: str, text: str) -> Vector:
    """The vector of a text."""
    seed = int.from_bytes(hashlib.sha256(f"{model}/{text}".encode()).digest()[:8], "little")
    vector = np.random.default_rng(seed).normal(size=MODELS[model]).astype(np.float32)
    return cast(Vector, vector / np.linalg.norm(vector))


def fingerprint_of(model: str) -> str:
    """What vectors of the model are told by."""
    return f"print/{model.rpartition('/')[2]}"


class Models:
    """The embedding service. `away` has it fail; `texts` counts what was embedded, by model."""

    def __init__(self) -> None:
        self.away = False
        self.texts: dict[str, int] = dict.fromkeys(MODELS, 0)

    async def EmbedTexts(self, request: pb.EmbedTextsRequest, call: Call) -> pb.EmbedTextsResponse:
        """A vector for each."""
        if self.away:
            raise ModelUnavailable("the model is away")
        self.texts[request.model] += len(request.texts)
        vectors = [vector_of(request.model, text) for text in request.texts]
        return pb.EmbedTextsResponse(
            fingerprint=fingerprint_of(request.model),
            embeddings=[pb.TextEmbedding(vector=vector_message(v), tokens=2) for v in vectors],
        )

    async def GetEmbeddingModel(
        self, request: pb.GetEmbeddingModelRequest, call: Call
    ) -> pb.GetEmbeddingModelResponse:
        """What is known of a model."""
        return pb.GetEmbeddingModelResponse(
            embedding_model=embedding_model_pb2.EmbeddingModel(
                name=request.name, dimensions=MODELS[request.name], tokens_max=512
            )
        )


def mesh_of(models: Models) -> Mesh:
    """A mesh with nothing but the models."""
    return cast(Mesh, cast(Any, SimpleNamespace(embedding=models)))
