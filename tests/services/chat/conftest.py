"""One node for all tests of the chat service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import pytest_asyncio

from services.chat.servicer import ChatServicer
from services.config import MIB, GenerationSettings, ModelSettings
from services.embedding.servicer import EmbeddingServicer
from services.generation.servicer import GenerationServicer
from services.mesh.mesh import Mesh
from services.rpc.chain import Chain, Gate
from services.rpc.service import Service
from tests.services.chat.chat_mesh import ChatNode, Shelf, Teller


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _chat_node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ChatNode]:
    checks = {**EmbeddingServicer.checks, **GenerationServicer.checks, **ChatServicer.checks}
    mesh = Mesh(Chain(Gate(64), checks, 16 * MIB), {}, 16 * MIB)
    shelf = Shelf()
    with ThreadPoolExecutor(2) as threads:
        embedding = EmbeddingServicer(ModelSettings(), tmp_path_factory.mktemp("models"), threads)
        generation = GenerationServicer(GenerationSettings(), mesh, threads)
        chat = ChatServicer(GenerationSettings(), mesh)
        services: dict[str, Service] = {
            "embedding": embedding,
            "generation": generation,
            "chat": chat,
        }
        for area, servicer in services.items():
            await servicer.start()
            mesh.host(area, servicer)
        mesh.host("retrieval", shelf)
        await shelf.fill(mesh)
        yield ChatNode(mesh, shelf, generation)
        for servicer in services.values():
            await servicer.close()


@pytest.fixture
def chat_node(_chat_node: ChatNode) -> Iterator[ChatNode]:
    """The node, with nothing left of the test before."""
    _chat_node.shelf.pause_s = 0.0
    _chat_node.shelf.together = None
    _chat_node.shelf.cancelled = 0
    _chat_node.shelf.asked.clear()
    _chat_node.shelf.arrived = asyncio.Semaphore(0)
    yield _chat_node
    _chat_node.mesh.host("generation", _chat_node.generation)


@pytest.fixture
def teller(chat_node: ChatNode) -> Callable[..., Teller]:
    """Puts a teller in the place of the generation service."""

    def put(*args: object, **fields: object) -> Teller:
        teller = Teller(*args, **fields)  # type: ignore[arg-type]
        chat_node.mesh.host("generation", teller)
        return teller

    return put
