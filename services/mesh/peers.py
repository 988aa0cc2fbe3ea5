"""The services as siblings see them: the same methods whether they run in this process or not.

A servicer satisfies its peer's protocol by having its methods; `Mesh` makes the remote ones.
"""

from __future__ import annotations

from typing import Protocol

from ragmesh.api.documents.v1 import document_service_pb2 as documents
from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.generation.v1 import generation_service_pb2 as generation
from ragmesh.api.memory.v1 import memory_service_pb2 as memory
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as retrieval

from services.rpc.call import Call


class EmbeddingPeer(Protocol):
    """What siblings ask of the embedding service."""

    async def EmbedTexts(
        self, request: embedding.EmbedTextsRequest, call: Call
    ) -> embedding.EmbedTextsResponse: ...

    async def RerankPassages(
        self, request: embedding.RerankPassagesRequest, call: Call
    ) -> embedding.RerankPassagesResponse: ...

    async def CountTokens(
        self, request: embedding.CountTokensRequest, call: Call
    ) -> embedding.CountTokensResponse: ...

    async def GetEmbeddingModel(
        self, request: embedding.GetEmbeddingModelRequest, call: Call
    ) -> embedding.GetEmbeddingModelResponse: ...


class RetrievalPeer(Protocol):
    """What siblings ask of the retrieval service."""

    async def SearchCollection(
        self, request: retrieval.SearchCollectionRequest, call: Call
    ) -> retrieval.SearchCollectionResponse: ...

    async def GetCollection(
        self, request: retrieval.GetCollectionRequest, call: Call
    ) -> retrieval.GetCollectionResponse: ...

    async def GetCollectionStats(
        self, request: retrieval.GetCollectionStatsRequest, call: Call
    ) -> retrieval.GetCollectionStatsResponse: ...


class DocumentsPeer(Protocol):
    """What siblings ask of the document service."""

    async def GetDocument(
        self, request: documents.GetDocumentRequest, call: Call
    ) -> documents.GetDocumentResponse: ...


class MemoryPeer(Protocol):
    """What siblings ask of the memory service."""

    async def AppendMessages(
        self, request: memory.AppendMessagesRequest, call: Call
    ) -> memory.AppendMessagesResponse: ...

    async def GetSessionContext(
        self, request: memory.GetSessionContextRequest, call: Call
    ) -> memory.GetSessionContextResponse: ...


class GenerationPeer(Protocol):
    """What siblings ask of the generation service."""

    async def GenerateText(
        self, request: generation.GenerateTextRequest, call: Call
    ) -> generation.GenerateTextResponse: ...

    def StreamGenerateText(
        self, request: generation.StreamGenerateTextRequest, call: Call
    ) -> AsyncResponses: ...


class AsyncResponses(Protocol):
    """The events of a streamed generation."""

    def __aiter__(self) -> AsyncResponses: ...

    async def __anext__(self) -> generation.StreamGenerateTextResponse: ...

    async def aclose(self) -> None: ...
