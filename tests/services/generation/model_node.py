"""A generation service over real HTTP endpoints, made for one test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from ragmesh.api.generation.v1 import generation_service_pb2 as pb

from services.config import MIB
from services.config_generation import AnthropicModel, GenerationSettings, OpenAIModel
from services.generation.servicer import GenerationServicer
from services.mesh.mesh import Mesh
from services.rpc.chain import Chain, Gate
from services.store.store import Store
from tests.services.generation.generation_mesh import KEY, call
from tests.services.generation.openai_endpoint import MODEL, Endpoint


@dataclass(frozen=True)
class ModelNode:
    """Its models are those of `openai` and `anthropic`, each with an endpoint by its id."""

    mesh: Mesh
    endpoints: dict[str, Endpoint]
    servicer: GenerationServicer

    async def ask(self, rpc: str, request: Any, tenant: str = "default") -> Any:
        """Any unary RPC."""
        asked = replace(call(60.0), tenant=tenant)
        return await self.mesh.method("generation", rpc)(request, asked)

    async def text(self, **fields: Any) -> pb.GenerateTextResponse:
        """An answer of `writer` to a question without passages."""
        given = {"model": "generationModels/writer", "question": "When?"}
        made: pb.GenerateTextResponse = await self.ask(
            "GenerateText", pb.GenerateTextRequest(**{**given, **fields})
        )
        return made

    async def events(self, **fields: Any) -> list[pb.StreamGenerateTextResponse]:
        """The same as events."""
        given = {"model": "generationModels/writer", "question": "When?"}
        request = pb.StreamGenerateTextRequest(**{**given, **fields})
        return [e async for e in self.mesh.generation.StreamGenerateText(request, call(60.0))]


@asynccontextmanager
async def model_node(
    *openai: dict[str, Any],
    anthropic: tuple[dict[str, Any], ...] = (),
    store: Store | None = None,
    prices: Path | None = None,
    calls_max: int = 256,
    **settings: Any,
) -> AsyncIterator[ModelNode]:
    """A node whose models have these settings; those of the OpenAI protocol are `openai`."""
    endpoints: dict[str, Endpoint] = {}
    for given in (*openai, *anthropic):
        endpoints[given["id"]] = Endpoint()
        await endpoints[given["id"]].start()

    def made(given: dict[str, Any]) -> dict[str, Any]:
        url = endpoints[given["id"]].url
        return {"url": url, "model": MODEL, "api_key": SecretStr(KEY), **given}

    made_settings = GenerationSettings(
        openai=tuple(OpenAIModel(**made(given)) for given in openai),
        anthropic=tuple(AnthropicModel(**made(given)) for given in anthropic),
        prices=prices,
        **settings,
    )
    chain = Chain(Gate(calls_max), dict(GenerationServicer.checks), 16 * MIB)
    mesh = Mesh(chain, {}, 16 * MIB)
    with ThreadPoolExecutor(2) as threads, pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "*")
        servicer = GenerationServicer(made_settings, mesh, threads, store)
        mesh.host("generation", servicer)
        await servicer.start()
        try:
            yield ModelNode(mesh, endpoints, servicer)
        finally:
            await servicer.close()
            await asyncio.gather(*(endpoint.close() for endpoint in endpoints.values()))
