"""A node for the tests of the memory service. They share its database; each has a Redis
of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import pytest_asyncio

from services.config import MIB, GenerationSettings, ModelSettings, OpenAIModel
from services.embedding.servicer import EmbeddingServicer
from services.generation.servicer import GenerationServicer
from services.memory.servicer import MemoryServicer
from services.mesh.mesh import Mesh
from services.rpc.chain import Chain, Gate
from services.store.redis import connect
from services.store.store import Store
from tests.services.generation.openai_endpoint import MODEL, Endpoint
from tests.services.memory.memory_node import MemoryNode
from tests.services.store.redis_server import running_redis
from tests.services.store.stored import Database


@dataclass(frozen=True)
class Siblings:
    """What a memory service asks, and what answers it."""

    mesh: Mesh
    endpoint: Endpoint
    embedding: EmbeddingServicer


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def siblings(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Siblings]:
    endpoint = Endpoint()
    await endpoint.start()
    settings = GenerationSettings(
        openai=(
            OpenAIModel(id="writer", url=endpoint.url, model=MODEL),
            OpenAIModel(id="gone", url="http://127.0.0.1:9/v1", model=MODEL),
        )
    )
    checks = {**EmbeddingServicer.checks, **GenerationServicer.checks, **MemoryServicer.checks}
    mesh = Mesh(Chain(Gate(64), checks, 16 * MIB), {}, 16 * MIB)
    with ThreadPoolExecutor(2) as threads, pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "*")  # a proxy of the environment does not serve loopback
        embedding = EmbeddingServicer(ModelSettings(), tmp_path_factory.mktemp("models"), threads)
        generation = GenerationServicer(settings, mesh, threads)
        for area, servicer in (("embedding", embedding), ("generation", generation)):
            await servicer.start()
            mesh.host(area, servicer)
        yield Siblings(mesh, endpoint, embedding)
        await generation.close()
        await embedding.close()
        await endpoint.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sessions_database(migrated: Database) -> AsyncIterator[Database]:
    """One for all tests here: each makes sessions of its own."""
    made = migrated.backup()
    yield made
    made.drop()


@pytest_asyncio.fixture
async def sessions_store(sessions_database: Database) -> AsyncIterator[Store]:
    """Which a test may close."""
    opened = await Store.open(sessions_database.url, connections_max=16, migrations=False)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def memory_node(siblings: Siblings, sessions_store: Store) -> AsyncIterator[MemoryNode]:
    siblings.endpoint.script.clear()
    siblings.endpoint.asked.clear()
    with running_redis() as (url, _):
        redis = connect(url)
        model = GenerationSettings().default
        servicer = MemoryServicer(sessions_store, siblings.mesh, redis, model)
        siblings.mesh.host("memory", servicer)
        siblings.mesh.host("embedding", siblings.embedding)
        yield MemoryNode(siblings.mesh, servicer, sessions_store, redis, siblings.endpoint)
        await redis.aclose()
