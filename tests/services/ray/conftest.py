"""One mesh with two embedding nodes on a Ray of its own, for a file of tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.config import RaySettings
from tests.services.ray.ray_mesh import RayMesh


@pytest_asyncio.fixture(scope="module")
async def running_mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RayMesh]:
    """Started when a test first asks for it; nothing is left of it at the end."""
    mesh = RayMesh(
        tmp_path_factory.mktemp("ray") / "data", ray=RaySettings(replicas={"embedding": 2})
    )
    await mesh.start()
    yield mesh
    processes = mesh.processes()
    assert len(processes) > 8, "Ray, its workers, nodes and the parts of the mesh"
    await mesh.stop()
    assert mesh.alive(processes) == []


@pytest_asyncio.fixture
async def mesh(running_mesh: RayMesh) -> RayMesh:
    """The mesh, whole."""
    await running_mesh.whole()
    return running_mesh
