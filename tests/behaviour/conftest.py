"""The rungs: one PostgreSQL, Redis and Envoy, a node, and a split mesh for all behaviour tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.behaviour import rungs
from tests.behaviour.given import Given
from tests.behaviour.rest_rung import RestRung
from tests.behaviour.rungs import GrpcRung, ProcessRung, Rung
from tests.behaviour.stack import OneNode, SplitMesh, Stores


def pytest_configure(config: pytest.Config) -> None:
    """Says what our marker means."""
    config.addinivalue_line(
        "markers", "rpcs(*names): RPCs that a behaviour test calls and that may have no HTTP path"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs what takes `rung` on each of them. A test that calls RPCs of `rungs.WITHOUT_PATH` says
    so with `rpcs`, and has no REST case; that is the only way to be without one."""
    if "rung" not in metafunc.fixturenames:
        return
    called = {name for mark in metafunc.definition.iter_markers("rpcs") for name in mark.args}
    assert called <= set(rungs.RPCS), f"no such RPC: {called - set(rungs.RPCS)}"
    without = set(rungs.WITHOUT_PATH)
    if "rpc" in metafunc.fixturenames:
        cases = [(n, r) for r in rungs.RPCS for n in rungs.NAMES if n != "rest" or r not in without]
        metafunc.parametrize(("rung", "rpc"), cases, indirect=["rung"])
        return
    names = [n for n in rungs.NAMES if n != "rest" or not called & without]
    metafunc.parametrize("rung", names, indirect=True)


@pytest_asyncio.fixture(scope="package")
async def stores(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stores]:
    """PostgreSQL and Redis."""
    started = Stores(tmp_path_factory.mktemp("behaviour") / "data")
    await started.start()
    yield started
    await started.stop()


@pytest_asyncio.fixture(scope="package")
async def one_node(stores: Stores) -> AsyncIterator[OneNode]:
    """A node with all services, in this process."""
    started = OneNode(stores)
    await started.start()
    yield started
    await started.stop()


@pytest_asyncio.fixture(scope="package")
async def split_mesh(stores: Stores) -> AsyncIterator[SplitMesh]:
    """Four nodes and Envoy."""
    started = SplitMesh(stores, await stores.database("split"))
    try:
        await started.start()
        yield started
    finally:
        await started.stop()


@pytest_asyncio.fixture(scope="package")
async def one_rungs(one_node: OneNode) -> AsyncIterator[dict[str, Rung]]:
    """The rungs of the one node."""
    remote = GrpcRung("grpc", [(one_node.node.address, one_node.settings.node.services)])
    yield {"process": ProcessRung(one_node.node), "grpc": remote}
    await remote.close()


@pytest_asyncio.fixture(scope="package")
async def split_rungs(split_mesh: SplitMesh) -> AsyncIterator[dict[str, Rung]]:
    """The rungs of the split mesh."""
    remote = split_mesh.grpc_rung()
    yield {"split": remote, "rest": RestRung(split_mesh.http)}
    await remote.close()


@pytest.fixture
def rung(request: pytest.FixtureRequest) -> Rung:
    """A way to call; what it stands on is started when a test first asks."""
    fixture = "one_rungs" if request.param in ("process", "grpc") else "split_rungs"
    found: dict[str, Rung] = request.getfixturevalue(fixture)
    return found[request.param]


@pytest.fixture
def database(rung: Rung, stores: Stores) -> str:
    """A superuser's URL of the database behind the rung: what tenants may not see, tests may."""
    name = "ragmesh" if rung.name in ("process", "grpc") else "split"
    return stores.admin_url(name)


@pytest.fixture
def given(rung: Rung) -> Given:
    """What tests need before they begin, made over the same rung."""
    return Given(rung)
