"""The embedding service's handlers: check, call, translate, answer."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import Executor
from pathlib import Path

from ragmesh.api.embedding.v1 import embedding_service_pb2 as pb

from engine.errors import ModelTaskMismatch
from engine.models import default
from engine.models.encoder import Encoder
from engine.schedule import Limits
from services.config import ModelSettings
from services.embedding import convert
from services.embedding.checks import CHECKS
from services.embedding.core import EmbeddingCore, Job, ServedModel, TextVector, run
from services.mesh.model_queue import ModelQueue
from services.rpc import paging
from services.rpc.call import Call

LISTING = "embeddingModels"


class EmbeddingServicer:
    """Serves the model of the configuration."""

    checks = CHECKS

    def __init__(self, settings: ModelSettings, cache_dir: Path, threads: Executor) -> None:
        self._settings = settings
        self._cache_dir = cache_dir
        self._threads = threads
        self._models: dict[str, ServedModel] = {}
        self._core = EmbeddingCore({}, "", threads)

    async def start(self) -> None:
        """Loads the model (converting it the first time) and warms it up. Raises what is wrong
        with the model or the execution provider."""
        loop = asyncio.get_running_loop()
        encoder = await loop.run_in_executor(self._threads, self._load)
        limits = Limits(batch_padded_tokens_max=self._settings.batch_padded_tokens_max)
        queue = ModelQueue[Job, TextVector](
            encoder.name, lambda jobs: run(encoder, jobs), limits, self._settings.queue_tokens_max
        )
        queue.start()
        self._models = {encoder.name: ServedModel(encoder, queue)}
        self._core = EmbeddingCore(self._models, encoder.name, self._threads)

    def _load(self) -> Encoder:
        directory = self._settings.directory or default.directory()
        encoder = Encoder.load(
            directory,
            cache_dir=self._cache_dir,
            provider=self._settings.provider,
            threads=self._settings.threads or len(os.sched_getaffinity(0)),
        )
        # The first forward pass allocates; a caller should not wait for that.
        run(encoder, [Job(t, True, 0) for t in encoder.tokenize(["warm up"], "passage")])
        return encoder

    async def drain(self) -> None:
        """Nothing runs in the background that callers do not wait for."""

    async def close(self) -> None:
        """Stops the queues."""
        for model in self._models.values():
            await model.queue.close()

    async def EmbedTexts(self, request: pb.EmbedTextsRequest, call: Call) -> pb.EmbedTextsResponse:
        """Embeds texts."""
        embedded = await self._core.embed(
            _model_id(request.model),
            request.texts,
            convert.KINDS[request.input_kind],
            request.dimensions,
            request.truncate,
            request.include_sentences,
            call,
        )
        return convert.embed_response(embedded)

    async def RerankPassages(
        self, request: pb.RerankPassagesRequest, call: Call
    ) -> pb.RerankPassagesResponse:
        """Scores passages for a query."""
        raise ModelTaskMismatch("not yet")

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
        ids = [i for i in self._core.ids() if i > after]
        response = pb.ListEmbeddingModelsResponse(
            embedding_models=[
                convert.model_message(i, self._core.model(i).encoder) for i in ids[:size]
            ]
        )
        if len(ids) > size:
            response.next_page_token = paging.write_token(LISTING, ids[size - 1])
        return response

    async def GetEmbeddingModel(
        self, request: pb.GetEmbeddingModelRequest, call: Call
    ) -> pb.GetEmbeddingModelResponse:
        """Returns one model."""
        encoder = self._core.model(_model_id(request.name)).encoder
        return pb.GetEmbeddingModelResponse(
            embedding_model=convert.model_message(encoder.name, encoder)
        )


def _model_id(name: str) -> str:
    return name.removeprefix("embeddingModels/")
