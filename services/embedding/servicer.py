"""The embedding service's handlers: check, call, translate, answer."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from pathlib import Path

from ragmesh.api.embedding.v1 import embedding_service_pb2 as pb
from redis.asyncio import Redis

from engine.errors import RagmeshError
from services.config import ModelSettings
from services.embedding import convert
from services.embedding.cache import VectorCache
from services.embedding.catalog import Catalog
from services.embedding.checks import CHECKS
from services.embedding.core import Asked, EmbeddingCore
from services.embedding.loader import Description, Loader
from services.embedding.rerank import RerankCore
from services.embedding.specs import configured
from services.rpc import paging
from services.rpc.call import Call

LISTING = "embeddingModels"


class EmbeddingServicer:
    """Serves the models of the configuration.

    Raises what is wrong with the configuration of a model.
    """

    checks = CHECKS

    def __init__(
        self,
        settings: ModelSettings,
        cache_dir: Path,
        threads: Executor,
        redis: Redis | None = None,
    ) -> None:
        loader = Loader(settings, cache_dir)
        self.catalog = Catalog(configured(settings), loader, settings, threads)
        self._cache = VectorCache(settings.cache_bytes_max, settings.cache_ttl_s, redis)
        self._core = EmbeddingCore(self.catalog, self._cache, threads)
        self._rerank = RerankCore(self.catalog, threads)

    async def start(self) -> None:
        """Loads the default model (downloading and converting it the first time) and those to be
        preloaded. Raises what is wrong with one, or with the execution provider."""
        await self.catalog.start()

    async def drain(self) -> None:
        """Nothing runs in the background that callers do not wait for."""

    async def close(self) -> None:
        """Stops loads and queues."""
        await self._cache.close()
        await self.catalog.close()

    async def EmbedTexts(self, request: pb.EmbedTextsRequest, call: Call) -> pb.EmbedTextsResponse:
        """Embeds texts."""
        asked = Asked(
            convert.KINDS[request.input_kind],
            request.dimensions,
            request.truncate,
            request.include_sentences,
            request.include_tokens,
        )
        embedded = await self._core.embed(_model_id(request.model), request.texts, asked, call)
        return convert.embed_response(embedded, call.lane)

    async def RerankPassages(
        self, request: pb.RerankPassagesRequest, call: Call
    ) -> pb.RerankPassagesResponse:
        """Scores passages for a query."""
        found = await self._rerank.rerank(
            _model_id(request.model),
            request.query,
            request.passages,
            request.prior_scores,
            request.truncate,
            call,
        )
        return convert.rerank_response(found, len(request.passages), call.lane)

    async def CountTokens(
        self, request: pb.CountTokensRequest, call: Call
    ) -> pb.CountTokensResponse:
        """Counts tokens."""
        counts = await self._core.count(_model_id(request.model), request.texts)
        return pb.CountTokensResponse(tokens=counts)

    async def ListEmbeddingModels(
        self, request: pb.ListEmbeddingModelsRequest, call: Call
    ) -> pb.ListEmbeddingModelsResponse:
        """Lists models by name."""
        size = paging.page_size(request.page_size)
        after = paging.read_token(LISTING, request.page_token) or ""
        ids = [i for i in self.catalog.ids() if i > after]
        found = await asyncio.gather(*(self._listed(i) for i in ids[:size]))
        response = pb.ListEmbeddingModelsResponse(
            embedding_models=[convert.model_message(one) for one in found]
        )
        if len(ids) > size:
            response.next_page_token = paging.write_token(LISTING, ids[size - 1])
        return response

    async def GetEmbeddingModel(
        self, request: pb.GetEmbeddingModelRequest, call: Call
    ) -> pb.GetEmbeddingModelResponse:
        """Returns one model."""
        found = await self.catalog.describe(_model_id(request.name))
        return pb.GetEmbeddingModelResponse(embedding_model=convert.model_message(found))

    async def _listed(self, model_id: str) -> Description:
        """A model for a list, which one that is broken must not hide: only its id is known."""
        try:
            return await self.catalog.describe(model_id)
        except RagmeshError:
            return Description(model_id, "")


def _model_id(name: str) -> str:
    return name.removeprefix("embeddingModels/")
