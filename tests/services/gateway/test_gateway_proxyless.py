"""gRPC clients follow the nodes on `xds:///<area>` without a proxy."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest_asyncio

from services.gateway.bootstrap import grpc_bootstrap
from services.gateway.settings import GatewaySettings
from tests.free_ports import free_port
from tests.services.gateway.harness import ControlRun, HandRegistry, Node, until

CLIENT = Path(__file__).parent / "proxyless_client.py"


class Client:
    """The client process; `ask` returns the nodes that answered."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self) -> list[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"go\n")
        return (await self._process.stdout.readline()).decode().split()


@pytest_asyncio.fixture
async def nodes() -> AsyncIterator[list[Node]]:
    made = [Node("a"), Node("b")]
    for node in made:
        await node.start()
    yield made
    for node in made:
        await node.stop()


async def test_a_proxyless_client_follows_the_nodes(nodes: list[Node]) -> None:
    settings = GatewaySettings(ads_address=f"127.0.0.1:{free_port()}", lease_ttl_s=0.6)
    registry = HandRegistry()
    a, b = nodes
    registry.show(a.lease)
    control = ControlRun(settings, registry)
    bootstrap = grpc_bootstrap(settings.ads_address, "client-1")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(CLIENT),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": bootstrap},
    )
    client = Client(process)
    try:
        assert await client.ask() == ["a"]
        registry.show(a.lease, b.lease)
        await follows(client, ["a", "b"])
        # Two localities share the calls by their nodes.
        registry.show(a.lease, replace(b.lease, locality="there"))
        await follows(client, ["a", "b"])
        registry.show(replace(a.lease, state="DRAINING"), b.lease)
        await follows(client, ["b"])
        shown = [c for c in control.status["clients"] if c["group"] == "mesh"]
        assert [c["node_id"] for c in shown] == ["client-1"]
        assert control.status["rejected"] == []
        await control.stop()
        assert await client.ask() == ["b"]
    finally:
        process.kill()
        await process.wait()
        if not control.task.done():
            await control.stop()


async def follows(client: Client, node_ids: list[str]) -> None:
    async def condition() -> bool:
        return await client.ask() == node_ids

    await until(condition, 2.0, f"answers by {node_ids}")
