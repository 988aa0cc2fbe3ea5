"""Nodes that serve small checkpoints, asked in process through the chain that every call passes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from services.config import MIB, ModelSettings
from services.embedding.servicer import EmbeddingServicer
from services.mesh.mesh import Mesh
from services.rpc.chain import Chain, Gate
from tests.services.embedding import checkpoints
from tests.services.embedding.embedding_node import EmbeddingNode

Nodes = Callable[[ModelSettings], AbstractAsyncContextManager[EmbeddingNode]]


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """The default model of every node."""
    return checkpoints.write(tmp_path / "first", seed=1)


@pytest.fixture
def node(cache_dir: Path) -> Nodes:
    """Starts a node with these models; it is closed with the context."""

    @asynccontextmanager
    async def start(settings: ModelSettings) -> AsyncIterator[EmbeddingNode]:
        with ThreadPoolExecutor(4) as threads:
            servicer = EmbeddingServicer(settings, cache_dir, threads)
            mesh = Mesh(Chain(Gate(256), dict(servicer.checks), 16 * MIB), {}, 16 * MIB)
            mesh.host("embedding", servicer)
            try:
                await servicer.start()
                yield EmbeddingNode(mesh, servicer)
            finally:
                await servicer.close()

    return start
