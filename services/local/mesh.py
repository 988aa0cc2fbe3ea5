"""A whole mesh on this machine: PostgreSQL, Redis, nodes, control plane and Envoy, kept alive.

Invariants:
- Whoever holds the data directory runs the mesh; the directory is released only after every part
  has ended.
- `start` returns when a question would be answered through every door, or raises and leaves
  nothing behind.
- The doors close in the order in which calls go through them: nodes drain first (the gateway
  learns of it and sends nobody there), then Envoy, then what nodes need.

With Ray the nodes are parts of the cluster instead: one part, `ray`, places and drains them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from engine.errors import InvalidField, ServiceUnavailable
from services.config import NodeSettings, Settings, StoreSettings, check_exposure, to_environment
from services.local.directory import DataDirectory, HeldDirectory, hold
from services.local.gateway import gateway_parts, split_address
from services.local.ports import choose_ports, is_free, remembered_ports
from services.local.postgres import embedded_postgres
from services.local.process import own_argv
from services.local.ray_parts import RAY, check_ray, ray_parts, remove_scratch
from services.local.redis import redis_part, redis_url
from services.local.supervisor import Emit, Part, Supervisor

_OPEN_WITHIN_S = 20.0
_OPEN_PAUSE_S = 0.02
_NODE_READY_TIMEOUT_S = 120.0  # a node converts its model first, and replays what it missed


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running mesh is reached. `metrics` and `nodes` are in the order of the nodes, and
    empty where those are on Ray."""

    grpc: str
    rest: str
    nodes: tuple[str, ...]
    metrics: tuple[str, ...]
    postgres: str = field(repr=False)
    redis: str = field(repr=False)
    admin: str


def parse_nodes(text: str) -> tuple[tuple[str, ...], ...]:
    """`embedding;retrieval,documents` as one tuple of services a node."""
    return tuple(
        tuple(name.strip() for name in node.split(",") if name.strip())
        for node in text.split(";")
        if node.strip()
    )


class LocalMesh:
    """A mesh in `settings.data_dir`, from `start` to `stop`, or as an asynchronous context.

    `nodes` says which services each node hosts; None is one node with `settings.node.services`.
    PostgreSQL and Redis are embedded unless `settings.store` has their URLs. Ports that the
    settings do not name are chosen once and remembered in the data directory. Runs on one event
    loop, whose thread must outlive it.

    `ray` places the nodes on the Ray cluster at `host:port`, or, empty, on one that is started
    here; `settings.ray` says how many there are and what each takes.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        nodes: Sequence[Sequence[str]] | None = None,
        ray: str | None = None,
        on_event: Emit | None = None,
    ) -> None:
        self._settings = settings
        self._nodes = [tuple(node) for node in nodes or [settings.node.services]]
        if not all(self._nodes):
            raise InvalidField("a node hosts no service; name at least one", field="nodes")
        self._ray = ray
        self._on_event = on_event
        self._reached_by = "127.0.0.1"
        self._held: HeldDirectory | None = None
        self._supervisor: Supervisor | None = None
        self._addresses: Addresses | None = None

    async def start(self) -> None:
        """Raises FailedPrecondition where the directory is held (by whom, since when) or a port
        is taken, InvalidField for an exposed address, ServiceUnavailable where a part does not
        run (with the end of its log), or the Ray cluster does not answer."""
        gateway, node = self._settings.gateway, self._settings.node
        check_exposure("gateway.listen", gateway.listen, node.allow_unauthenticated)
        if self._ray is not None:
            self._reached_by = check_ray(self._settings, self._ray)
            check_exposure("ray", _join(self._reached_by, 0), node.allow_unauthenticated)
        self._held = hold(self._settings.data_dir)
        try:
            parts = self._parts(self._held.directory)
            self._supervisor = Supervisor(parts, on_event=self._on_event)
            await self._supervisor.start()
            await self._until_open()
            self._held.describe(self._described())
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Drain the nodes, then stop everything and let go of the directory. Twice does nothing."""
        supervisor, self._supervisor = self._supervisor, None
        held, self._held = self._held, None
        if supervisor is not None:
            first = self.node_names if self._ray is None else (RAY,)
            await asyncio.gather(*(supervisor.stop_part(name) for name in first))
            await supervisor.stop()
        if held is not None:
            if self._ray is not None:
                remove_scratch(held.directory)
            held.release()

    async def __aenter__(self) -> LocalMesh:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    @property
    def addresses(self) -> Addresses:
        """Where it is reached, once started."""
        if self._addresses is None:
            raise ServiceUnavailable("the mesh has not been started")
        return self._addresses

    @property
    def grpc_address(self) -> str:
        """For gRPC: the node itself where one hosts everything, else the gateway."""
        return self.addresses.grpc

    @property
    def rest_url(self) -> str:
        """For REST, without a slash at its end; gRPC is answered there too."""
        return self.addresses.rest

    @property
    def node_addresses(self) -> tuple[str, ...]:
        """For gRPC with one node."""
        return self.addresses.nodes

    @property
    def metrics_addresses(self) -> tuple[str, ...]:
        """`host:port` of Prometheus' pages."""
        return self.addresses.metrics

    @property
    def postgres_url(self) -> str:
        """A libpq URI of the application's role."""
        return self.addresses.postgres

    @property
    def redis_url(self) -> str:
        """A URL of the registry."""
        return self.addresses.redis

    @property
    def node_names(self) -> tuple[str, ...]:
        """The parts that are nodes: `node-1` and on; none where they are on Ray."""
        if self._ray is not None:
            return ()
        return tuple(f"node-{number}" for number in range(1, len(self._nodes) + 1))

    @property
    def part_names(self) -> tuple[str, ...]:
        """All parts, in start order."""
        return tuple(state.name for state in self.supervisor.states())

    @property
    def data_dir(self) -> Path:
        """Where its data lies."""
        return self._settings.data_dir

    @property
    def supervisor(self) -> Supervisor:
        """Who keeps the parts: states, and stopping and starting one of them."""
        if self._supervisor is None:
            raise ServiceUnavailable("the mesh is not running")
        return self._supervisor

    def _parts(self, directory: DataDirectory) -> list[Part]:
        settings = self._settings
        store = settings.store
        postgres_url = store.postgres_url.get_secret_value()
        registry_url = store.redis_url.get_secret_value()
        parts: list[Part] = []
        if not postgres_url:
            postgres = embedded_postgres(directory)
            parts.append(postgres.part())
            postgres_url = postgres.url
        if not registry_url:
            parts.append(redis_part(directory))
            registry_url = redis_url(directory)
        needs = tuple(part.name for part in parts)
        ports = self._choose_ports(directory)
        gateway_host, _ = split_address(settings.gateway.listen)
        settings = settings.model_copy(
            update={
                "store": StoreSettings.model_validate(
                    {**dict(store), "postgres_url": postgres_url, "redis_url": registry_url}
                ),
                "gateway": settings.gateway.model_copy(
                    update={
                        "listen": _join(gateway_host, ports["gateway"]),
                        "ads_listen": _join(self._reached_by, ports["ads"]),
                        "admin_listen": _join("127.0.0.1", ports["admin"]),
                    }
                ),
                "bridge": settings.bridge.model_copy(
                    update={"listen": _join("127.0.0.1", ports["bridge"])}
                ),
            }
        )
        redis_only = tuple(name for name in needs if name == "redis")
        parts += gateway_parts(directory, settings, depends_on=redis_only)
        if self._ray is None:
            for name, services in zip(self.node_names, self._nodes, strict=True):
                node = _node_settings(settings, services, ports[name], ports[f"{name}-metrics"])
                own = settings.model_copy(update={"node": node})
                parts.append(_node_part(directory, name, own, needs))
        else:
            node = settings.node.model_copy(update={"control_plane": settings.gateway.ads_listen})
            own = settings.model_copy(update={"node": node})
            parts += ray_parts(directory, own, self._nodes, self._ray, ports[RAY], needs)
        self._addresses = self._where(settings, ports)
        return parts

    def _choose_ports(self, directory: DataDirectory) -> dict[str, int]:
        """A port for every door. One that the settings name must be free; the usual ones are
        taken where they are free at the first start."""
        settings = self._settings
        wanted: dict[str, int] = {"gateway": 0, "ads": 0, "admin": 0, "bridge": 0}
        if self._ray is not None:
            wanted[RAY] = 0
        for name in self.node_names:
            wanted |= {name: 0, f"{name}-metrics": 0}
        known = remembered_ports(directory.ports_file)
        host = "0.0.0.0" if _is_wildcard(split_address(settings.gateway.listen)[0]) else "127.0.0.1"
        for name, part in (("gateway", settings.gateway), ("node-1", settings.node)):
            _, port = split_address(part.listen)
            asked = "listen" in part.model_fields_set
            if name in wanted and (asked or (name not in known and is_free(port, host))):
                wanted[name] = port
        return choose_ports(wanted, directory.ports_file, host=host)

    def _where(self, settings: Settings, ports: dict[str, int]) -> Addresses:
        host, port = split_address(settings.gateway.listen)
        door = _join("127.0.0.1" if _is_wildcard(host) else host, port)
        nodes = tuple(_join("127.0.0.1", ports[name]) for name in self.node_names)
        metrics = tuple(_join("127.0.0.1", ports[f"{name}-metrics"]) for name in self.node_names)
        whole = bool(nodes) and set(self._nodes[0]) >= set(NodeSettings().services)
        return Addresses(
            grpc=nodes[0] if whole else door,
            rest=f"http://{door}",
            nodes=nodes,
            metrics=metrics if settings.node.metrics_listen else (),
            postgres=settings.store.postgres_url.get_secret_value(),
            redis=settings.store.redis_url.get_secret_value(),
            admin=settings.gateway.admin_listen,
        )

    def _described(self) -> dict[str, str]:
        """What the lock file tells clients on this machine; embedded URLs hold no password."""
        addresses = self.addresses
        described = {"gRPC": addresses.grpc, "REST": addresses.rest}
        if addresses.metrics:
            described["metrics"] = " ".join(addresses.metrics)
        if not self._settings.store.redis_url.get_secret_value():
            described["registry"] = addresses.redis
        return described

    async def _until_open(self) -> None:
        """Wait until Envoy has nodes for every service that some node hosts."""
        hosted = {service for node in self._nodes for service in node}
        path = "/readyz" if hosted >= set(NodeSettings().services) else "/healthz"
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + _OPEN_WITHIN_S
        seen = "nothing"
        async with httpx.AsyncClient(base_url=self.rest_url, timeout=2.0) as client:
            while loop.time() < deadline_s:
                with contextlib.suppress(httpx.TransportError):
                    answer = await client.get(path)
                    if answer.status_code == 200:
                        return
                    seen = f"status {answer.status_code}"
                await asyncio.sleep(_OPEN_PAUSE_S)
        raise ServiceUnavailable(
            f"every part runs, and yet {self.rest_url}{path} answered {seen} for "
            f"{_OPEN_WITHIN_S:g} s; look at control-plane.log and envoy.log in "
            f"{self.data_dir / 'logs'}",
            metadata={"url": f"{self.rest_url}{path}", "seen": seen},
        )


def _node_settings(
    settings: Settings, services: Sequence[str], port: int, metrics_port: int
) -> NodeSettings:
    node = settings.node
    host, _ = split_address(node.listen)
    return node.model_copy(
        update={
            "services": tuple(services),
            "listen": _join(host, port),
            "advertise": _join("127.0.0.1", port) if _is_wildcard(host) else "",
            "metrics_listen": _join("127.0.0.1", metrics_port) if node.metrics_listen else "",
            "control_plane": settings.gateway.ads_listen,
        }
    )


def _node_part(
    directory: DataDirectory, name: str, settings: Settings, needs: tuple[str, ...]
) -> Part:
    ready_file = directory.run / f"{name}.ready"

    async def prepare() -> None:
        ready_file.unlink(missing_ok=True)

    async def ready() -> bool:
        return ready_file.exists()

    services = ",".join(settings.node.services)
    return Part(
        name=name,
        argv=lambda: own_argv("serve", "--services", services, "--ready-file", str(ready_file)),
        env=to_environment(settings),
        prepare=prepare,
        ready=ready,
        log_file=directory.logs / f"{name}.log",
        depends_on=needs,
        stop_grace_s=settings.node.drain_grace_s + 10.0,
        ready_timeout_s=_NODE_READY_TIMEOUT_S,
    )


def _is_wildcard(host: str) -> bool:
    return host in ("0.0.0.0", "::")


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
