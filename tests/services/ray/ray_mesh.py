"""A mesh whose nodes are on Ray, seen from outside: processes, records, calls through Envoy."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import platformdirs
import psutil
from ragmesh import AsyncClient

from services.config import (
    GatewaySettings,
    ModelSettings,
    NodeSettings,
    RaySettings,
    Settings,
    StoreSettings,
)
from services.local.mesh import LocalMesh
from services.local.placement import placements
from services.local.supervisor import PartEvent
from services.ray.records import Record, all_records
from tests.faults.load import Load

EMBEDDING = ("embedding",)
CALL_S = 30.0
"""A call that a node hangs with is tried elsewhere once the node was ended, in less than this."""
MODELS = platformdirs.user_cache_path("ragmesh", appauthor=False) / "models"
"""Converted models, kept between runs as for the demo."""


async def until(
    condition: Callable[[], Awaitable[bool]], within_s: float, what: str = "condition"
) -> float:
    """Waits for a condition; how long it took, in seconds."""
    begin_s = time.monotonic()
    while not await condition():
        assert time.monotonic() - begin_s < within_s, f"{what}: not within {within_s} s"
        await asyncio.sleep(0.05)
    return time.monotonic() - begin_s


def records_in(data_dir: Path) -> list[Record]:
    """The records of a mesh's nodes on this machine."""
    homes = (data_dir / "ray").glob("*/*")
    return [record for home in homes for record in all_records(home)]


def nodes_in(data_dir: Path) -> set[int]:
    """The processes of a mesh's nodes that serve."""
    serving = [record for record in records_in(data_dir) if record.addresses() is not None]
    return {pid for record in serving if (pid := record.pid())}


class RayMesh:
    """A mesh with embedding nodes alone, on a Ray of its own or the one at `address`."""

    def __init__(
        self,
        data_dir: Path,
        *,
        address: str = "",
        ray: RaySettings,
        store: StoreSettings | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.replicas = placements([EMBEDDING], ray)[0].replicas_min
        self.events: list[PartEvent] = []
        self.local = LocalMesh(
            Settings(
                data_dir=data_dir,
                store=store or StoreSettings(),
                node=NodeSettings(),
                models=ModelSettings(cache_dir=MODELS),
                gateway=GatewaySettings(listen="127.0.0.1:0", requests_per_s=100_000),
                ray=ray,
            ),
            nodes=[EMBEDDING],
            ray=address,
            on_event=self.events.append,
        )

    async def start(self) -> None:
        """Returns when a call through Envoy is answered."""
        await self.local.start()

    async def stop(self) -> None:
        """Drains and stops all of it."""
        await self.local.stop()

    @property
    def door(self) -> str:
        """`host:port` of Envoy."""
        return self.local.rest_url.removeprefix("http://")

    def client(self) -> AsyncClient:
        """An SDK client of the gateway, which tries again as its users do."""
        return AsyncClient(self.door)

    def records(self) -> list[Record]:
        """The nodes' records on this machine."""
        return records_in(self.data_dir)

    def nodes(self) -> set[int]:
        """The processes of the nodes that serve."""
        return nodes_in(self.data_dir)

    def workers(self) -> list[psutil.Process]:
        """Ray's workers that keep the nodes."""
        below = self.part("ray-head").children(recursive=True)
        return [process for process in below if process.name().startswith("ray::ServeRepl")]

    def kept(self) -> bool:
        """Whether every node has a keeper."""
        records = self.records()
        free = [record for record in records if record.keep()]
        for record in free:
            record.release()
        return bool(records) and not free

    def part(self, name: str) -> psutil.Process:
        """The process of a part."""
        (pid,) = [state.pid for state in self.local.supervisor.states() if state.name == name]
        return psutil.Process(pid)

    def processes(self) -> list[psutil.Process]:
        """Everything that runs for this mesh."""
        states = self.local.supervisor.states()
        parts = [psutil.Process(state.pid) for state in states if state.pid]
        nodes = [psutil.Process(pid) for pid in self.nodes()]
        below = itertools.chain(*(p.children(recursive=True) for p in parts + nodes))
        return [*parts, *nodes, *below]

    def alive(self, processes: list[psutil.Process]) -> list[str]:
        """Those that still run; a zombie runs no more."""
        return [
            f"{process.pid} {process.name()}"
            for process in processes
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        ]

    async def whole(self, within_s: float = 60.0) -> None:
        """Waits until as many nodes serve as there should be, each with a keeper."""

        async def whole() -> bool:
            ready = all(state.ready for state in self.local.supervisor.states())
            return ready and len(self.nodes()) == self.replicas and self.kept()

        await until(whole, within_s, "every node serves and is kept")

    @asynccontextmanager
    async def loaded(self) -> AsyncIterator[Load]:
        """Two callers through Envoy while something happens; no call of them may fail."""
        async with self.client() as client:

            async def embed() -> None:
                answer = await client.embed_texts(["Does zinc help?"], timeout_s=CALL_S)
                assert abs(float(np.linalg.norm(answer.vectors[0])) - 1) < 1e-3

            async with Load(embed, embed) as load:
                yield load
                await load.go_on(20)
        assert load.failures == []
