"""One mesh for all faults: every test leaves it whole again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.faulty_mesh import FaultyMesh
from tests.faults.soak import seeds

collect_ignore = [] if len(seeds()) > 1 else ["test_ray_may_be_lost.py"]
"""What takes minutes runs under a soak only."""


@pytest_asyncio.fixture(scope="package")
async def running_mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FaultyMesh]:
    """Started when a test first asks for it."""
    started = FaultyMesh(tmp_path_factory.mktemp("faults") / "data")
    await started.start()
    yield started
    await started.stop()


@pytest_asyncio.fixture
async def mesh(running_mesh: FaultyMesh) -> FaultyMesh:
    """The mesh, whole."""
    await running_mesh.whole()
    return running_mesh
