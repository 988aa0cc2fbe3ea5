"""The generation service's handlers: check, call, translate, answer."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from contextlib import aclosing

from ragmesh.api.generation.v1 import generation_service_pb2 as pb

from engine.errors import InvalidField
from services.config import GenerationSettings
from services.generation import convert
from services.generation.backend import Backend
from services.generation.checks import CHECKS
from services.generation.core import GenerationCore
from services.generation.extractive_backend import ExtractiveBackend
from services.mesh.mesh import Mesh
from services.rpc import names, paging
from services.rpc.call import Call
from services.rpc.events import told

LISTING = "generationModels"
EXTRACTIVE = "extractive"


class GenerationServicer:
    """Serves the extractive model and those of the configuration."""

    checks = CHECKS

    def __init__(self, settings: GenerationSettings, mesh: Mesh, threads: Executor) -> None:
        self._settings = settings
        self._mesh = mesh
        self._threads = threads
        self._core = GenerationCore({})

    async def start(self) -> None:
        """Makes the backends. No endpoint is called: one that is down must not keep the others
        from answering. Raises InvalidField for a configuration that names a model twice, or has
        a default that is not there."""
        backends: dict[str, Backend] = {EXTRACTIVE: ExtractiveBackend(self._mesh, self._threads)}
        if self._settings.openai:
            # Takes a second to import, which nodes without such a model need not pay.
            from services.generation.openai_backend import OpenAIBackend

            for model in self._settings.openai:
                names.check_id(model.id, "generation.openai.id")
                if model.id in backends:
                    raise InvalidField(
                        f"The configuration has more than one generation model {model.id!r}.",
                        field="generation.openai.id",
                        metadata={"model": model.id},
                    )
                backends[model.id] = OpenAIBackend(model, self._threads)
        core = GenerationCore(backends)
        core.backend(_model_id(self._settings.default))
        self._core = core

    async def drain(self) -> None:
        """Nothing runs in the background that callers do not wait for."""

    async def close(self) -> None:
        """Closes the connections to endpoints."""
        await self._core.close()

    async def GenerateText(
        self, request: pb.GenerateTextRequest, call: Call
    ) -> pb.GenerateTextResponse:
        """Writes one answer."""
        begin_s = time.perf_counter()
        task = convert.task_value(request)
        written = await self._core.write(_model_id(request.model), task, call)
        return convert.response(written, request, (time.perf_counter() - begin_s) * 1000)

    def StreamGenerateText(
        self, request: pb.StreamGenerateTextRequest, call: Call
    ) -> AsyncGenerator[pb.StreamGenerateTextResponse, None]:
        """Writes one answer as events."""
        return told(self._events(request, call), call, convert.failed)

    async def _events(
        self, request: pb.StreamGenerateTextRequest, call: Call
    ) -> AsyncGenerator[pb.StreamGenerateTextResponse, None]:
        begin_s = time.perf_counter()
        backend = self._core.backend(_model_id(request.model))
        async with aclosing(backend.write(convert.task_value(request), call)) as progresses:
            async for progress in progresses:
                elapsed_ms = (time.perf_counter() - begin_s) * 1000
                yield convert.event(progress, request, elapsed_ms)

    async def ListGenerationModels(
        self, request: pb.ListGenerationModelsRequest, call: Call
    ) -> pb.ListGenerationModelsResponse:
        """Lists models by name."""
        size = paging.page_size(request.page_size)
        after = paging.read_token(LISTING, request.page_token) or ""
        ids = [i for i in self._core.ids() if i > after]
        response = pb.ListGenerationModelsResponse(
            generation_models=[convert.model_message(i, self._core.backend(i)) for i in ids[:size]]
        )
        if len(ids) > size:
            response.next_page_token = paging.write_token(LISTING, ids[size - 1])
        return response

    async def GetGenerationModel(
        self, request: pb.GetGenerationModelRequest, call: Call
    ) -> pb.GetGenerationModelResponse:
        """Returns one model."""
        model_id = _model_id(request.name)
        return pb.GetGenerationModelResponse(
            generation_model=convert.model_message(model_id, self._core.backend(model_id))
        )


def _model_id(name: str) -> str:
    return name.removeprefix("generationModels/")
