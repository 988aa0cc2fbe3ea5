"""The same scenario on both clients: every test that takes `client` runs twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.clients import scripted_server
from tests.clients.either_client import EitherClient
from tests.clients.scripted_server import ScriptedServer


@pytest.fixture
def script() -> Iterator[ScriptedServer]:
    """A server of its own for each test."""
    server, script = scripted_server.start()
    yield script
    server.stop(None).wait()


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which of the two clients."""
    return str(request.param)


@pytest.fixture
async def client(kind: str, script: ScriptedServer) -> AsyncIterator[EitherClient]:
    """A client of the scripted server."""
    either = EitherClient(kind, script.address, timeout_s=5.0)
    yield either
    await either.close()
