"""Nodes over a real PostgreSQL, and a collection for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import pytest_asyncio

from engine.index import MaintenanceSettings
from services.config import IndexSettings
from services.retrieval.index.opening import IndexRoom
from services.retrieval.migration import migrator
from services.store.collections import Collection, CollectionSpec, create_collection
from services.store.store import Store
from tests.services.retrieval.given_models import Models, mesh_of
from tests.services.retrieval.lives import LivingNode, hurry
from tests.services.retrieval.nodes import DIMENSIONS, ROOMS, SMALL
from tests.services.retrieval.second_index import NODES, make_collection


@pytest_asyncio.fixture
async def rooms(store: Store, tmp_path: Path) -> AsyncIterator[ROOMS]:
    """Makes nodes that share an object store; each has a directory of its own, by name."""
    threads = ThreadPoolExecutor(4)
    made: list[IndexRoom] = []

    def make(name: str, maintenance: MaintenanceSettings = SMALL) -> IndexRoom:
        settings = IndexSettings(directory=tmp_path / name, objects_dir=tmp_path / "objects")
        room = IndexRoom(store, threads, None, settings, tmp_path, name, maintenance)
        made.append(room)
        return room

    yield make
    for room in made:
        await room.close()
    threads.shutdown()


@pytest_asyncio.fixture
async def collection(store: Store) -> Collection:
    async with store.transaction("default") as tx:
        return await create_collection(
            tx, "papers", CollectionSpec(dimensions=DIMENSIONS, hnsw_m=4)
        )


@pytest.fixture
def models() -> Models:
    return Models()


@pytest_asyncio.fixture
async def model_nodes(
    store: Store, tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[NODES]:
    """Makes nodes by name that share their objects and the models."""
    hurry(monkeypatch)
    for name, value in {"POLL_S": 0.1, "IDLE_S": 0.02, "RETRY_S": 0.1, "LEASE_S": 0.6}.items():
        monkeypatch.setattr(migrator, name, value)
    made: list[LivingNode] = []

    def make(name: str = "one") -> LivingNode:
        made.append(LivingNode(store, tmp_path, name, mesh=mesh_of(models)))
        return made[-1]

    yield make
    for node in made:
        await node.close()


@pytest_asyncio.fixture
async def node(model_nodes: NODES) -> LivingNode:
    """One of them, which serves `papers`: nothing is in it."""
    node = model_nodes()
    await node.start()
    await make_collection(node)
    return node
