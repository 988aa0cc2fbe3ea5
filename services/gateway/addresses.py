"""Names to IP addresses: Envoy's and gRPC's endpoints take no names."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import replace

from services.gateway.listener import socket_address
from services.mesh.lease import NodeLease

RESOLVE_TIMEOUT_S = 2.0


class Resolver:
    """Turns leases' addresses into IP addresses. A name that cannot be resolved now keeps the
    address that it had, if it had one."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    async def resolve(
        self, leases: tuple[NodeLease, ...]
    ) -> tuple[tuple[NodeLease, ...], tuple[str, ...]]:
        """The leases with IP addresses, and a sentence for each that has to be left out."""
        found, failed = [], []
        for lease in leases:
            try:
                found.append(replace(lease, address=await self._one(lease.address)))
            except (ValueError, OSError, TimeoutError) as error:
                failed.append(f"node {lease.node_id!r} is left out: {lease.address!r}: {error}")
        return tuple(found), tuple(failed)

    async def _one(self, address: str) -> str:
        socket_value = socket_address(address)["socket_address"]
        host, port = socket_value["address"], socket_value["port_value"]
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return _join(await self._lookup(host), port)
        return _join(host, port)

    async def _lookup(self, host: str) -> str:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_S):
                answers = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError):
            if host in self._known:
                return self._known[host]
            raise
        addresses = sorted(str(answer[4][0]) for answer in answers)
        # A name of several addresses keeps the one in use while it is among them.
        if self._known.get(host) not in addresses:
            self._known[host] = addresses[0]
        return self._known[host]


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
