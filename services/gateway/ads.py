"""The thin shell around `stream`: aggregated discovery over grpc.aio."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from services.gateway.snapshot import Group, Snapshot
from services.gateway.stream import Request, Response, StreamState, receive, respond
from services.gateway.xds import DiscoveryRequest, DiscoveryResponse

_LOG = logging.getLogger(__name__)
_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_GROUPS: Mapping[str, Group] = {"gateway": "gateway", "mesh": "mesh"}

STREAMS_MAX = 4096
"""Connected clients; more are refused."""


@dataclass(frozen=True, slots=True)
class TypeStatus:
    """What a client did with one type. `error` is the client's own text for what it rejected."""

    type_url: str
    accepted_version: str
    rejected_version: str
    error: str


@dataclass(frozen=True, slots=True)
class ClientStatus:
    """One connected client."""

    node_id: str
    group: str
    version: str
    types: tuple[TypeStatus, ...]


class _Client:
    """One stream: its state, and an event that says that there may be something to send."""

    def __init__(self) -> None:
        self.node_id = ""
        self.group: Group | None = None
        self.unknown_group: str | None = None
        self.version = ""
        self.state = StreamState()
        self.wake = asyncio.Event()
        self.ended = False

    def status(self) -> ClientStatus:
        types = tuple(
            TypeStatus(url.rpartition(".")[2], t.accepted_version, t.rejected_version, t.error)
            for url, t in sorted(self.state.types.items())
        )
        return ClientStatus(self.node_id, self.group or "", self.version, types)


class AdsServer:
    """Serves the published snapshots to every connected client of their group."""

    def __init__(self) -> None:
        self._snapshots: dict[Group, Snapshot] = {}
        self._clients: set[_Client] = set()
        self._server: grpc.aio.Server | None = None
        self.changed = asyncio.Event()
        """Set whenever a client came, went, accepted or rejected something."""

    def publish(self, snapshot: Snapshot) -> None:
        """Offers a snapshot to its group, in place of the one before."""
        self._snapshots[snapshot.group] = snapshot
        for client in self._clients:
            client.wake.set()

    def clients(self) -> tuple[ClientStatus, ...]:
        """All clients that have said who they are."""
        known = (c.status() for c in self._clients if c.group is not None)
        return tuple(sorted(known, key=lambda c: (c.group, c.node_id)))

    async def start(self, address: str) -> int:
        """Listens at `host:port` and returns the port. Raises RuntimeError where it is taken."""
        server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),
                # Envoy pings every 10 s to notice a lost control plane; one that was busy gets
                # several at once, which are no flood.
                ("grpc.http2.max_ping_strikes", 0),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
            maximum_concurrent_rpcs=STREAMS_MAX,
        )
        method = grpc.stream_stream_rpc_method_handler(
            self._serve,
            request_deserializer=DiscoveryRequest.FromString,
            response_serializer=DiscoveryResponse.SerializeToString,
        )
        handler = grpc.method_handlers_generic_handler(
            _SERVICE, {"StreamAggregatedResources": method}
        )
        server.add_generic_rpc_handlers((handler,))
        port = server.add_insecure_port(address)
        await server.start()
        self._server = server
        return port

    async def stop(self) -> None:
        """Ends every stream; clients go on with what they have and try to come back."""
        if self._server is not None:
            await self._server.stop(grace=0)

    async def _serve(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        client = _Client()
        self._clients.add(client)
        reader = asyncio.create_task(self._read(requests, client))
        try:
            while not client.ended:
                await client.wake.wait()
                client.wake.clear()
                if client.unknown_group is not None:
                    sentence = f"node.cluster {client.unknown_group!r} is none of {list(_GROUPS)}"
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, sentence)
                if client.group is None or client.group not in self._snapshots:
                    continue
                snapshot = self._snapshots[client.group]
                client.version = snapshot.version
                client.state, response = respond(client.state, snapshot)
                while response is not None:
                    yield _message(response)
                    client.state, response = respond(client.state, snapshot)
            await reader
        finally:
            reader.cancel()
            self._clients.discard(client)
            self.changed.set()

    async def _read(self, requests: AsyncIterator[Any], client: _Client) -> None:
        try:
            async for message in requests:
                if client.group is None and message.node.id:
                    self._introduce(client, message.node)
                request = _request(message)
                if request.error is not None:
                    _LOG.error(
                        "%s rejected %s: %s", client.node_id, request.type_url, request.error
                    )
                client.state = receive(client.state, request)
                client.wake.set()
                self.changed.set()
        finally:
            client.ended = True
            client.wake.set()

    def _introduce(self, client: _Client, node: Any) -> None:
        client.node_id = node.id
        client.group = _GROUPS.get(node.cluster)
        if client.group is None:
            client.unknown_group = node.cluster


def _request(message: Any) -> Request:
    error = message.error_detail.message if message.HasField("error_detail") else None
    return Request(message.type_url, tuple(message.resource_names), message.response_nonce, error)


def _message(response: Response) -> Any:
    return DiscoveryResponse(
        version_info=response.version,
        type_url=response.type_url,
        nonce=response.nonce,
        resources=[resource.packed for resource in response.resources],
    )
