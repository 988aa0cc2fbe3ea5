"""A mesh that hosts the real generation service in front of a real HTTP endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import pytest_asyncio
from pydantic import SecretStr

from services.config import MIB, ModelSettings
from services.config_generation import GenerationSettings, OpenAIModel
from services.embedding.servicer import EmbeddingServicer
from services.generation.servicer import GenerationServicer
from services.mesh.mesh import Mesh
from services.rpc.chain import Chain, Gate
from tests.services.generation.generation_mesh import KEY, GenerationNode
from tests.services.generation.openai_endpoint import MODEL, Endpoint


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def generation_node(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[GenerationNode]:
    """Its models: `writer`; `hasty`, which waits 0.3 s; `gone`, whose endpoint is not there."""
    endpoint = Endpoint()
    await endpoint.start()
    settings = GenerationSettings(
        breaker_failures_max=10_000,  # one endpoint fails for all tests
        openai=(
            OpenAIModel(id="writer", url=endpoint.url, model=MODEL, api_key=SecretStr(KEY)),
            OpenAIModel(id="hasty", url=endpoint.url, model=MODEL, timeout_s=0.3),
            OpenAIModel(id="gone", url="http://127.0.0.1:9/v1", model=MODEL),
        ),
    )
    checks = {**EmbeddingServicer.checks, **GenerationServicer.checks}
    chain = Chain(Gate(16), checks, 16 * MIB)
    mesh = Mesh(chain, {}, 16 * MIB)
    with ThreadPoolExecutor(1) as threads, pytest.MonkeyPatch.context() as patch:
        # A proxy of the environment does not serve loopback.
        patch.setenv("NO_PROXY", "*")
        servicer = GenerationServicer(settings, mesh, threads)
        mesh.host("generation", servicer)
        await servicer.start()
        embedding = EmbeddingServicer(ModelSettings(), tmp_path_factory.mktemp("models"), threads)
        mesh.host("embedding", embedding)
        await embedding.start()
        yield GenerationNode(mesh, endpoint, threads, servicer)
        await servicer.close()
        await embedding.close()
        await endpoint.close()
