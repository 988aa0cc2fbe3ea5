"""What the behaviour tests run on: real PostgreSQL, Redis and Envoy, a node in this process, and a
split mesh of four nodes in processes of their own. Each of the two meshes has its own database."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg

from engine.models import default
from services.app import Node
from services.config import (
    ModelSettings,
    NodeSettings,
    ObjectSettings,
    ServedModel,
    Settings,
    StoreSettings,
)
from services.gateway.bootstrap import BootstrapValues, grpc_bootstrap, render
from services.gateway.control import run_control_plane
from services.gateway.settings import GatewaySettings
from services.local.directory import HeldDirectory, hold
from services.local.envoy import envoy_part
from services.local.postgres import Postgres, embedded_postgres
from services.local.redis import redis_part, redis_url
from services.local.supervisor import Part, Supervisor
from services.mesh.registry import Registry
from services.store.redis import connect
from tests.behaviour.rungs import GrpcRung
from tests.engine.models import families
from tests.free_ports import free_port

BOOTSTRAP = Path(__file__).parents[2] / "deploy" / "envoy" / "bootstrap.json"
NODE_PROCESS = Path(__file__).with_name("node_process.py")
SPLIT = {
    "retrieval-1": ("retrieval",),
    "retrieval-2": ("retrieval",),
    "embedding-1": ("embedding",),
    "rest-1": ("documents", "memory", "generation", "chat"),
}
"""The nodes of the split mesh, and what each hosts."""

READY_S = 30.0
UPLOADS_MAX = 8
"""Uploads that the bridge takes at once."""
STALL_S = 2.0
"""How long an upload may send nothing."""


class Stores:
    """PostgreSQL and Redis of the tests' own."""

    def __init__(self, root: Path) -> None:
        self.held: HeldDirectory = hold(root)
        directory = self.held.directory
        self.postgres: Postgres = embedded_postgres(directory)
        self.redis_url = redis_url(directory)
        self._supervisor = Supervisor([self.postgres.part(), redis_part(directory)])
        judge = families.write(directory.root / "judge", "bert-pairs")
        self.more_models = (
            ServedModel(id="exact", source=str(default.directory()), precision="fp32"),
            ServedModel(id="judge", source=str(judge)),
        )
        """The default model in the precision of its checkpoint, and a cross-encoder of random
        weights that knows the words of `families.WORDS`."""

    @property
    def models(self) -> Path:
        """Where converted models are cached: once for all nodes."""
        return self.held.directory.root

    async def start(self) -> None:
        """Starts both."""
        await self._supervisor.start()

    async def database(self, name: str) -> str:
        """Makes one more database of the application's role, and returns its URL."""
        async with await psycopg.AsyncConnection.connect(
            self.postgres.admin_url, autocommit=True
        ) as connection:
            await connection.execute(f"CREATE DATABASE {name} OWNER ragmesh".encode())
        return self.postgres.url.replace("/ragmesh?", f"/{name}?")

    def admin_url(self, database: str) -> str:
        """A URL of a superuser, whom row security does not stop."""
        return self.postgres.admin_url.replace("/postgres?", f"/{database}?")

    async def stop(self) -> None:
        """Stops both."""
        await self._supervisor.stop()
        self.held.release()


class OneNode:
    """Everything in one node in this process, with its gRPC port."""

    def __init__(self, stores: Stores) -> None:
        self.postgres_url = stores.postgres.url
        self.settings = Settings(
            data_dir=stores.models,
            models=ModelSettings(more=stores.more_models),
            store=StoreSettings(postgres_url=stores.postgres.url),
            node=NodeSettings(listen="127.0.0.1:0", identity="header"),
            # Of its own, as its database: what that does not name is swept.
            objects=ObjectSettings(directory=stores.models / "objects-of-one"),
        )
        self.node = Node(self.settings)

    async def start(self) -> None:
        """Loads the model, opens the store, serves."""
        await self.node.open()
        await self.node.serve()

    async def stop(self) -> None:
        """Drains and stops."""
        await self.node.drain()
        await self.node.close()


@dataclass(frozen=True, slots=True)
class Serving:
    """Where a node of the split mesh answers, and where it logs."""

    areas: tuple[str, ...]
    address: str
    metrics_address: str
    log_file: Path


class SplitMesh:
    """Four nodes that find each other over `xds:///`, a control plane, and Envoy before them."""

    def __init__(self, stores: Stores, postgres_url: str) -> None:
        self.postgres_url = postgres_url
        self._stores = stores
        self._directory = stores.held.directory
        self._ads_port, self._admin_port, port = free_port(), free_port(), free_port()
        self.gateway = GatewaySettings(
            ads_address=f"127.0.0.1:{self._ads_port}",
            listen_address=f"127.0.0.1:{port}",
            bridge_address=f"127.0.0.1:{free_port()}",
            lease_ttl_s=3.0,
            requests_per_s=100_000,
            requests_burst=100_000,
            tenant_header_trusted=True,
            access_log_path=str(self._directory.logs / "access.log"),
        )
        self.url = f"http://{self.gateway.listen_address}"
        self.nodes: dict[str, Serving] = {}
        self._redis = connect(stores.redis_url)
        self._stop = asyncio.Event()
        parts = [self._node_part(name, areas) for name, areas in SPLIT.items()]
        self._supervisor = Supervisor([*parts, self._bridge_part(), self._envoy_part()])
        self._control: asyncio.Task[None] | None = None
        self.http = httpx.AsyncClient(base_url=self.url, timeout=60.0)

    @property
    def access_log(self) -> Path:
        """Envoy's access log."""
        return Path(self.gateway.access_log_path)

    async def start(self) -> None:
        """Starts everything; returns when Envoy has an endpoint of every service."""
        self._control = asyncio.create_task(
            run_control_plane(self.gateway, Registry(self._redis, 3.0), self._stop)
        )
        await self._supervisor.start()
        for name, areas in SPLIT.items():
            said = json.loads(self._addresses(name).read_text())
            log_file = self._directory.logs / f"{name}.log"
            self.nodes[name] = Serving(areas, said["address"], said["metrics"], log_file)
        for _ in range(round(READY_S / 0.05)):
            if (await self.http.get("/readyz")).status_code == 200:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"not ready within {READY_S} s")

    def grpc_rung(self) -> GrpcRung:
        """gRPC to the nodes themselves."""
        return GrpcRung("split", [(n.address, n.areas) for n in self.nodes.values()])

    async def stop(self) -> None:
        """Stops everything."""
        await self.http.aclose()
        await self._supervisor.stop()
        self._stop.set()
        if self._control is not None:
            await self._control
        await self._redis.aclose()

    def _addresses(self, name: str) -> Path:
        return self._directory.run / f"{name}.json"

    def _node_part(self, name: str, areas: tuple[str, ...]) -> Part:
        addresses = self._addresses(name)
        environment = {
            "RAGMESH_DATA_DIR": str(self._stores.models),
            "RAGMESH_LOG_LEVEL": "DEBUG",
            "RAGMESH_OBJECTS__DIRECTORY": str(self.objects),
            "RAGMESH_MODELS__MORE": json.dumps([m.model_dump() for m in self._stores.more_models]),
            "RAGMESH_STORE__POSTGRES_URL": self.postgres_url,
            "RAGMESH_STORE__REDIS_URL": self._stores.redis_url,
            "RAGMESH_NODE__SERVICES": json.dumps(areas),
            "RAGMESH_NODE__LISTEN": "127.0.0.1:0",
            "RAGMESH_NODE__IDENTITY": "header",
            "RAGMESH_NODE__CONTROL_PLANE": self.gateway.ads_address,
            "GRPC_XDS_BOOTSTRAP_CONFIG": grpc_bootstrap(self.gateway.ads_address, name),
        }

        async def prepare() -> None:
            addresses.unlink(missing_ok=True)

        async def ready() -> bool:
            return addresses.exists()

        return Part(
            name=name,
            argv=lambda: [sys.executable, str(NODE_PROCESS), str(addresses)],
            ready=ready,
            prepare=prepare,
            env=environment,
            cwd=NODE_PROCESS.parents[2],
            log_file=self._directory.logs / f"{name}.log",
        )

    def _bridge_part(self) -> Part:
        async def ready() -> bool:
            async with httpx.AsyncClient() as client:
                found = await client.get(f"http://{self.gateway.bridge_address}/healthz")
            return found.status_code == 200

        return Part(
            name="bridge",
            argv=lambda: [sys.executable, "-m", "services.cli", "bridge"],
            env={
                "RAGMESH_BRIDGE__LISTEN": self.gateway.bridge_address,
                "RAGMESH_BRIDGE__UPLOADS_MAX": str(UPLOADS_MAX),
                "RAGMESH_BRIDGE__STALL_S": str(STALL_S),
                "RAGMESH_GATEWAY__ADS_LISTEN": self.gateway.ads_address,
                "RAGMESH_NODE__IDENTITY": "header",
            },
            ready=ready,
            cwd=NODE_PROCESS.parents[2],
            log_file=self._directory.logs / "bridge.log",
        )

    def pid(self, part: str) -> int:
        """The process of a part."""
        return next(s.pid for s in self._supervisor.states() if s.name == part)

    @property
    def objects(self) -> Path:
        """Where its object store is."""
        return self._stores.models / "objects-of-split"

    def _envoy_part(self) -> Part:
        values = BootstrapValues("127.0.0.1", self._ads_port, admin_port=self._admin_port)
        path = self._directory.run / "envoy.json"
        path.write_text(render(BOOTSTRAP, values.as_mapping()))
        return envoy_part(self._directory, path, f"127.0.0.1:{self._admin_port}", concurrency=1)
