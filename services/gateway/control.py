"""The control plane: looks at the registry, decides, publishes, and says how it went."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from services.gateway.addresses import Resolver
from services.gateway.ads import AdsServer, ClientStatus
from services.gateway.contract import read_contract
from services.gateway.membership import Membership, from_json, merge, restore, to_json
from services.gateway.settings import GatewaySettings
from services.gateway.snapshot import Group, Snapshot, build, fixed_resources, problems
from services.mesh.lease import NodeLease, RegistryView

_LOG = logging.getLogger(__name__)
_GROUPS: tuple[Group, ...] = ("gateway", "mesh")

STATUS_INTERVAL_S = 2.0
"""The status is published this often even if nothing changes …"""
STATUS_PAUSE_S = 0.25
"""… and at most this often if much does."""

PublishStatus: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]


class Watchable(Protocol):
    """The part of the registry that the control plane needs."""

    def watch(self) -> AsyncIterator[RegistryView]:
        """Yields what the registry shows, again and again; does not raise for a lost registry."""
        ...


@dataclass(frozen=True, slots=True)
class ControlPlaneStatus:
    """What is published, to whom, and what they said. `held` are nodes that count although the
    registry does not show them; `problems` keep something from being published."""

    registry_readable: bool
    nodes: tuple[NodeLease, ...]
    held: tuple[str, ...]
    versions: dict[str, str]
    problems: tuple[str, ...]
    clients: tuple[ClientStatus, ...]

    @property
    def rejected(self) -> tuple[str, ...]:
        """A line for everything that a client rejects now, with the client's own text."""
        return tuple(
            f"{client.node_id} rejected {one.type_url} {one.rejected_version}: {one.error}"
            for client in self.clients
            for one in client.types
            if one.rejected_version
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `rejected` included."""
        return {**asdict(self), "rejected": list(self.rejected)}


class ControlPlane:
    """One control plane. Not thread-safe: one event loop owns it."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Raises ValueError where a setting does not fit Envoy's configuration."""
        self._settings = settings
        self._contract = read_contract(settings.descriptor)
        self._fixed = {g: fixed_resources(g, settings, self._contract) for g in _GROUPS}
        self._resolver = Resolver()
        self._membership = Membership()
        self._published: dict[Group, Snapshot] = {}
        self._readable = False
        self._problems: tuple[str, ...] = ()
        self._saved = ""
        self.server = AdsServer()

    async def start(self) -> int:
        """Reads the last good set, listens, and returns the port. Raises RuntimeError where the
        address is taken."""
        self._membership = restore(_load(self._settings.state_path), time.monotonic())
        return await self.server.start(self._settings.ads_address)

    async def stop(self) -> None:
        """Ends every stream."""
        await self.server.stop()

    async def observe(self, view: RegistryView, now_s: float | None = None) -> None:
        """Takes a look at the registry into account and publishes what follows from it."""
        now_s = time.monotonic() if now_s is None else now_s
        self._readable = view.readable
        before = self._membership.members
        self._membership = merge(self._membership, view, now_s, self._settings.lease_ttl_s)
        if self._membership.members != before:
            self.server.changed.set()
        nodes, left_out = await self._resolver.resolve(self._membership.leases)
        found = list(left_out)
        for group in _GROUPS:
            snapshot = build(group, self._fixed[group], self._contract, nodes)
            wrong = problems(snapshot, self._contract)
            found += [f"{group}: {one}" for one in wrong]
            if not wrong:
                self._publish(snapshot)
        if tuple(found) != self._problems:
            for one in found:
                _LOG.error("not published: %s", one)
            self._problems = tuple(found)
            self.server.changed.set()
        if not found:
            self._save()

    def status(self) -> ControlPlaneStatus:
        """How it stands now."""
        members = self._membership.members
        return ControlPlaneStatus(
            registry_readable=self._readable,
            nodes=self._membership.leases,
            held=tuple(m.lease.node_id for m in members if m.missing_since_s is not None),
            versions={group: s.version for group, s in sorted(self._published.items())},
            problems=self._problems,
            clients=self.server.clients(),
        )

    def _publish(self, snapshot: Snapshot) -> None:
        before = self._published.get(snapshot.group)
        if before is None or before.version != snapshot.version:
            self._published[snapshot.group] = snapshot
            self.server.publish(snapshot)
            self.server.changed.set()
            _LOG.info("published %s %s", snapshot.group, snapshot.version)

    def _save(self) -> None:
        """Keeps the set for a start without a registry. Only what says who serves what: loads
        change at every beat."""
        path = self._settings.state_path
        text = to_json(replace(lease, load=0.0) for lease in self._membership.leases)
        if path is None or text == self._saved:
            return
        scratch = path.with_name(path.name + ".new")
        try:
            scratch.write_text(text)
            os.replace(scratch, path)
            self._saved = text
        except OSError as error:
            _LOG.warning("cannot keep the set of nodes in %s: %s", path, error)


def _load(path: Path | None) -> tuple[NodeLease, ...]:
    if path is None or not path.exists():
        return ()
    try:
        return from_json(path.read_text())
    except (OSError, ValueError, KeyError, TypeError) as error:
        _LOG.warning("the set of nodes in %s cannot be read and is passed over: %s", path, error)
        return ()


async def run_control_plane(
    settings: GatewaySettings,
    registry: Watchable,
    stop: asyncio.Event,
    publish_status: PublishStatus | None = None,
) -> None:
    """Runs until `stop` is set. `publish_status` gets `ControlPlaneStatus.to_dict()` after every
    change and every few seconds; what it raises is logged. Raises ValueError for settings that
    fit no configuration, and RuntimeError where the address is taken."""
    plane = ControlPlane(settings)
    await plane.start()
    tasks = [asyncio.create_task(_follow(plane, registry))]
    if publish_status is not None:
        tasks.append(asyncio.create_task(_report(plane, publish_status)))
    stopped = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (stopped, *tasks):
            task.cancel()
        await asyncio.gather(stopped, *tasks, return_exceptions=True)
        await plane.stop()


async def _follow(plane: ControlPlane, registry: Watchable) -> None:
    async for view in registry.watch():
        await plane.observe(view)
    raise RuntimeError("the registry's watch ended")


async def _report(plane: ControlPlane, publish_status: PublishStatus) -> None:
    while True:
        plane.server.changed.clear()
        try:
            await publish_status(plane.status().to_dict())
        except Exception:  # whoever takes the status must not stop the control plane
            _LOG.warning("the status could not be published", exc_info=True)
        await asyncio.sleep(STATUS_PAUSE_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(STATUS_INTERVAL_S):
                await plane.server.changed.wait()
