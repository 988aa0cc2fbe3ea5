"""The wiring: settings in, a node out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from wsgiref.simple_server import WSGIServer

from google.protobuf.message import Message
from prometheus_client import start_http_server
from redis.asyncio import Redis
from threadpoolctl import threadpool_limits

from engine.errors import InvalidField, ServiceUnavailable
from services.config import NodeSettings, Settings, check_exposure
from services.ending import ended
from services.mesh.lease import LeaseState, NodeLease
from services.mesh.mesh import Mesh
from services.mesh.registry import BEATS_PER_TTL, Registry
from services.objects.opening import open_objects
from services.rpc.call import DefaultIdentity, HeaderIdentity, Identity
from services.rpc.chain import Chain, Check, Gate, Reader
from services.rpc.methods import AREAS
from services.rpc.server import Server
from services.rpc.service import HasReaders, Service
from services.store.housekeeping import keep_house
from services.store.redis import connect
from services.store.store import Store

_LOG = logging.getLogger(__name__)

STORED_AREAS = frozenset({"retrieval", "documents", "memory"})
"""Services that need PostgreSQL."""

DRAIN_NOTICE_S = 1.0
"""How long a draining node goes on taking calls, so that everybody has heard: the registry is
polled every 0.25 s and the control plane publishes within 0.2 s."""


class Node:
    """One process of the mesh: hosts services, serves them, holds a lease, drains and stops."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        node = settings.node
        for name in ("listen", "metrics_listen"):
            check_exposure(f"node.{name}", getattr(node, name), node.allow_unauthenticated)
        unknown = set(node.services) - set(AREAS)
        if unknown or not node.services:
            raise InvalidField(
                f"node.services is {', '.join(node.services) or 'empty'}; choose from "
                f"{', '.join(AREAS)}.",
                field="node.services",
            )
        self.node_id = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        self.gate = Gate(node.calls_max)
        self.threads = ThreadPoolExecutor(
            max(4, len(os.sched_getaffinity(0))), thread_name_prefix="engine"
        )
        self.checks: dict[type[Message], Check] = {}
        self.readers: dict[type[Message], Reader] = {}
        self.chain = Chain(self.gate, self.checks, node.message_bytes_max, self.readers)
        self.mesh = Mesh(self.chain, _siblings(node), node.message_bytes_max)
        self.services: dict[str, Service] = {}
        self.store: Store | None = None
        self.redis: Redis | None = None
        self.server: Server | None = None
        self.address = ""
        self.metrics_address = ""
        self._metrics: WSGIServer | None = None
        self._beat: asyncio.Task[None] | None = None
        self._announcing = asyncio.Lock()
        self._house: asyncio.Task[None] | None = None
        self._state: LeaseState = "SERVING"

    async def open(self) -> None:
        """Opens the store and starts the services in this process; no socket yet.

        Raises what keeps a service from working.
        """
        store = self.settings.store
        needed, used = _storing(self.settings)
        if needed or (used and store.postgres_url.get_secret_value()):
            if not store.postgres_url.get_secret_value():
                raise InvalidField(
                    "The retrieval, documents and memory services need PostgreSQL, and so does the "
                    "generation service where answers may cost something. Give "
                    "--postgres-url or RAGMESH_STORE__POSTGRES_URL, or use `ragmesh up`, which "
                    "starts one.",
                    field="store.postgres_url",
                )
            self.store = await Store.open(
                store.postgres_url.get_secret_value(), connections_max=store.pool_max
            )
            self._house = asyncio.create_task(keep_house(self.store), name="housekeeping")
        if store.redis_url.get_secret_value():
            self.redis = connect(store.redis_url.get_secret_value())
        for area in self.settings.node.services:
            service = self._build(area)
            self.checks.update(service.checks)
            if isinstance(service, HasReaders):
                self.readers.update(service.readers)
            self.mesh.host(area, service)
            self.services[area] = service
        for service in self.services.values():
            await service.start()
        # BLAS brings threads of its own for every core, which spin after each product and take the
        # cores from the model: a third of the time of a reranking. Ours are enough. It is told
        # when the services have loaded it.
        threadpool_limits(1, user_api="blas")

    def _build(self, area: str) -> Service:
        settings = self.settings
        # Imported here so that a node loads only what it hosts: onnxruntime alone takes 100 MB.
        if area == "embedding":
            from services.embedding.servicer import EmbeddingServicer

            cache_dir = settings.models.cache_dir or settings.data_dir / "models"
            return EmbeddingServicer(settings.models, cache_dir, self.threads, self.redis)
        if area == "retrieval":
            from services.retrieval.index.opening import IndexRoom
            from services.retrieval.servicer import RetrievalServicer

            index = IndexRoom(
                self._stored(),
                self.threads,
                self.redis,
                settings.index,
                settings.data_dir,
                self.node_id,
                objects=open_objects(settings, "segments"),
            )
            return RetrievalServicer(self._stored(), self.mesh, self.threads, index)
        if area == "documents":
            from services.documents.servicer import DocumentServicer

            return DocumentServicer(
                settings.documents,
                self._stored(),
                self.mesh,
                self.node_id,
                open_objects(settings, "files"),
            )
        if area == "memory":
            from services.memory.servicer import MemoryServicer

            return MemoryServicer(
                self._stored(), self.mesh, self.redis, settings.generation.default
            )
        if area == "generation":
            from services.generation.servicer import GenerationServicer

            return GenerationServicer(settings.generation, self.mesh, self.threads, self.store)
        from services.chat.servicer import ChatServicer

        return ChatServicer(settings.generation, self.mesh)

    def _stored(self) -> Store:
        if self.store is None:
            raise ServiceUnavailable("The store is not open.")
        return self.store

    async def serve(self) -> None:
        """Binds the ports, answers, and announces the node. Raises InvalidField for a port that
        is taken."""
        node = self.settings.node
        identity: Identity = HeaderIdentity() if node.identity == "header" else DefaultIdentity()
        self.server = Server(self.services, self.chain, identity, node.message_bytes_max)
        try:
            port = self.server.bind(node.listen)
        except RuntimeError as error:
            raise InvalidField(
                f"{node.listen} cannot be bound: {error}. Is another node there? Choose another "
                "port, or port 0 for a free one.",
                field="node.listen",
                metadata={"listen": node.listen},
            ) from error
        host = node.listen.rpartition(":")[0]
        self.address = node.advertise or f"{host}:{port}"
        await self.server.start()
        if node.metrics_listen:
            metrics_host, _, metrics_port = node.metrics_listen.rpartition(":")
            self._metrics, _ = start_http_server(int(metrics_port), metrics_host)
            self.metrics_address = f"{metrics_host}:{self._metrics.server_port}"
        await self.server.set_serving(True)
        if self.redis is not None:
            registry = Registry(self.redis, node.lease_ttl_s)
            await self._announce(registry)
            self._beat = asyncio.create_task(self._beats(registry), name="lease")
        _LOG.info("node serves", extra={"node": self.node_id, "address": self.address})

    def _lease(self) -> NodeLease:
        node = self.settings.node
        return NodeLease(
            node_id=self.node_id,
            services=node.services,
            address=self.address,
            state=self._state,
            locality=node.locality,
            load=round(self.gate.load, 3),
            version=version("ragmesh-server"),
            metrics_address=self.metrics_address,
        )

    async def _announce(self, registry: Registry) -> None:
        # One at a time, or a beat that is still on its way could undo what was said after it.
        async with self._announcing:
            await registry.announce(self._lease())

    async def _beats(self, registry: Registry) -> None:
        while True:
            await self._announce(registry)
            await asyncio.sleep(registry.ttl_s / BEATS_PER_TTL)

    async def drain(self) -> None:
        """Leaves the mesh without losing a call: says so, waits until everybody has heard, then
        finishes what is in flight within `drain_grace_s`."""
        grace_end_s = time.monotonic() + self.settings.node.drain_grace_s
        self._state = "DRAINING"
        for service in self.services.values():
            await service.drain()
        if self.server is None:
            return
        await self.server.set_serving(False)
        if self.redis is not None:
            await self._announce(Registry(self.redis, self.settings.node.lease_ttl_s))
            await asyncio.sleep(DRAIN_NOTICE_S)
        await self.server.stop(max(0.1, grace_end_s - time.monotonic()))
        self.gate.draining = True

    async def close(self) -> None:
        """Stops everything; call `drain` first unless nobody calls any more."""
        for task in (self._beat, self._house):
            if task is not None:
                await ended([task])
        if self.server is not None:
            await self.server.stop(0.1)
        for service in reversed(self.services.values()):
            await service.close()
        await self.mesh.close()
        if self.redis is not None:
            ttl_s = self.settings.node.lease_ttl_s
            await Registry(self.redis, ttl_s).withdraw(self.node_id)
            with contextlib.suppress(Exception):
                await self.redis.aclose()
        if self.store is not None:
            await self.store.close()
        if self._metrics is not None:
            self._metrics.shutdown()
            self._metrics.server_close()
        self.threads.shutdown(wait=False, cancel_futures=True)


def _storing(settings: Settings) -> tuple[bool, bool]:
    """Whether a service of the node needs PostgreSQL, and whether one uses it where it is there:
    without it, the generation service of language models would pass over budgets."""
    services = set(settings.node.services)
    generates = "generation" in services
    needed = bool(STORED_AREAS & services)
    return needed or (generates and bool(settings.generation.language_models)), generates


def _siblings(node: NodeSettings) -> dict[str, str]:
    return {"*": "xds:///{service}"} if node.control_plane else {}
