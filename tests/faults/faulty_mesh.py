"""A whole mesh of real processes whose parts the tests kill, stop and start."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import httpx
import psycopg
import ragmesh
from ragmesh import AsyncClient

from services.config import DocumentSettings, GatewaySettings, NodeSettings, Settings, StoreSettings
from services.local.mesh import LocalMesh
from services.local.ports import remembered_ports
from services.local.supervisor import PartEvent, Supervisor

ALL = ("embedding", "retrieval", "documents", "memory", "generation", "chat")
FOLLOW_S = 2.0
"""Endpoints follow leases within this."""
MEMORY_BYTES = 256 << 20
CPU_S = 1
WALL_S = 30.0
"""What the parsers of these nodes may take: little, so that tests of the limits are short."""

Door = Literal["gateway", "node-1", "node-2"]
NODES: tuple[Door, Door] = ("node-1", "node-2")


async def until(
    condition: Callable[[], Awaitable[bool]], within_s: float, what: str = "condition"
) -> float:
    """Waits for a condition; how long it took, in seconds."""
    begin_s = time.monotonic()
    while not await condition():
        assert time.monotonic() - begin_s < within_s, f"{what}: not within {within_s} s"
        await asyncio.sleep(0.05)
    return time.monotonic() - begin_s


class FaultyMesh:
    """Two nodes that host everything, before them Envoy, behind them PostgreSQL and Redis."""

    def __init__(self, data_dir: Path) -> None:
        self.settings = Settings(
            data_dir=data_dir,
            store=StoreSettings(),
            node=NodeSettings(listen="127.0.0.1:0", identity="header", lease_ttl_s=3.0),
            documents=DocumentSettings(
                parser_memory_bytes=MEMORY_BYTES, parser_cpu_s=CPU_S, parser_wall_s=WALL_S
            ),
            gateway=GatewaySettings(
                listen="127.0.0.1:0", trust_tenant_header=True, requests_per_s=100_000
            ),
        )
        self.local = LocalMesh(self.settings, nodes=[ALL, ALL], on_event=self._note)
        self.events: list[PartEvent] = []
        self.http = httpx.AsyncClient(timeout=30.0)

    async def start(self) -> None:
        """Returns when every door is open."""
        await self.local.start()

    async def stop(self) -> None:
        """Leaves nothing behind."""
        await self.http.aclose()
        await self.local.stop()

    @property
    def supervisor(self) -> Supervisor:
        """Stops and starts parts."""
        return self.local.supervisor

    def pid(self, name: str) -> int:
        """The process of a part; 0 where it has none."""
        return {state.name: state.pid for state in self.supervisor.states()}[name]

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Sends a part's process a signal; whom."""
        pid = self.pid(name)
        assert pid, f"{name} does not run"
        os.kill(pid, number)
        return pid

    async def lives_again(self, name: str, dead: int, within_s: float = 60.0) -> float:
        """Waits until the supervisor has replaced a killed process; how long it took, seconds."""

        async def lives() -> bool:
            states = {state.name: state for state in self.supervisor.states()}
            return states[name].ready and states[name].pid != dead

        return await until(lives, within_s, f"{name} lives again")

    async def reached(self, door: Door, within_s: float = 30.0) -> None:
        """Waits until gRPC connects to a door again: clients of one process share the pause of a
        second between two tries, which may have begun before the door opened."""

        async def answers() -> bool:
            try:
                async with self.client(door) as client:
                    await client.get_embedding_model()
            except ragmesh.Unavailable:
                return False
            return True

        await until(answers, within_s, f"{door} answers")

    async def whole(self, within_s: float = 60.0) -> None:
        """Waits until every part is ready and Envoy sends calls to both nodes."""

        async def ready() -> bool:
            return all(state.ready for state in self.supervisor.states())

        await until(ready, within_s, "every part is ready")
        await until(self.both_serve, within_s, "Envoy sends calls to both nodes")

    async def both_serve(self) -> bool:
        """Whether Envoy sends calls to both nodes."""
        return await self.endpoints() == set(self.local.node_addresses)

    async def endpoints(self, area: str = "retrieval") -> set[str]:
        """The addresses that Envoy sends calls of a service to."""
        url = f"http://{self.local.addresses.admin}/clusters?format=json"
        try:
            found = (await self.http.get(url)).json()
        except httpx.TransportError:
            return set()
        hosts = [
            host
            for cluster in found["cluster_statuses"]
            if cluster["name"] == area
            for host in cluster.get("host_statuses", [])
        ]
        return {
            _address(h) for h in hosts if h["health_status"] == {"eds_health_status": "HEALTHY"}
        }

    def client(
        self, door: Door = "gateway", *, tenant: str = "default", **options: Any
    ) -> AsyncClient:
        """An SDK client; the caller closes it."""
        return AsyncClient(self.address(door), metadata={"x-ragmesh-tenant": tenant}, **options)

    def address(self, door: Door) -> str:
        """`host:port` for gRPC."""
        if door == "gateway":
            return self.local.rest_url.removeprefix("http://")
        return self.local.node_addresses[NODES.index(door)]

    @property
    def ads_address(self) -> str:
        """`host:port` of the control plane."""
        ports = remembered_ports(self.settings.data_dir / "ports.json")
        return f"127.0.0.1:{ports['ads']}"

    async def metric(self, node: Door, name: str) -> float:
        """The sum of a metric of a node, over its labels."""
        page = await self.http.get(
            f"http://{self.local.metrics_addresses[NODES.index(node)]}/metrics"
        )
        lines = [
            line for line in page.text.splitlines() if line.startswith((name + " ", name + "{"))
        ]
        assert lines, f"{node} has no metric {name}"
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    async def rows(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        """Reads PostgreSQL past row security."""
        url = self.local.postgres_url
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await connection.execute("SELECT set_config('ragmesh.tenant', '*', true)")
            return await (await connection.execute(query.encode(), params)).fetchall()

    def _note(self, event: PartEvent) -> None:
        self.events.append(event)


def _address(host: dict[str, Any]) -> str:
    where = host["address"]["socket_address"]
    return f"{where['address']}:{where['port_value']}"
