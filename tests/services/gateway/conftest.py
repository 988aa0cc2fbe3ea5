"""Gateways of real parts: one shared by tests that change nothing, and new ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.services.gateway.harness import Gateway


@pytest_asyncio.fixture(scope="session")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Two nodes, a control plane and Envoy; leave it as you find it."""
    shared = Gateway(tmp_path_factory.mktemp("gateway"))
    try:
        await shared.start("node-a", "node-b")
        yield shared
    finally:
        await shared.stop()


@pytest_asyncio.fixture
async def make_gateway(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Gateway]]]:
    """Starts a gateway of one's own, with the named nodes."""
    made: list[Gateway] = []

    async def make(*node_ids: str, **settings: Any) -> Gateway:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        own = Gateway(directory, **settings)
        made.append(own)
        await own.start(*node_ids)
        return own

    yield make
    for own in made:
        await own.stop()
