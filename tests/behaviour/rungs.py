"""The ways to call the same mesh. A scenario is written once and climbs all of them: in process,
over gRPC to one node, to a split mesh of four nodes, and over REST through Envoy."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Protocol

import grpc
from google.protobuf.message import Message
from google.rpc import code_pb2, status_pb2

from engine.errors import RagmeshError
from services.app import Node
from services.errors import to_status
from services.rpc.call import Call, new_request_id
from services.rpc.methods import Method, methods
from tests.behaviour.damage import Damage, damaged_bytes
from tests.behaviour.refusals import Refused, from_grpc

RPCS: Mapping[str, Method] = {method.name: method for method in methods().values()}
"""Every RPC of the contract, by its name, which no two services share."""

NAMES = ("process", "grpc", "split", "rest")

WITHOUT_PATH = ("UploadDocument", "ImportSnapshot")
"""RPCs that have no HTTP path, and so no REST rung. A test compares this with the contract."""

TIMEOUT_S = 45.0
MESSAGE_BYTES_MAX = 64 << 20
"""What our client takes and sends: more than any server's limit, so that the server refuses."""


class Rung(Protocol):
    """One way to call. Every method raises Refused."""

    name: str

    async def call(
        self,
        rpc: str,
        request: Message,
        *,
        tenant: str = "default",
        timeout_s: float | None = TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """A unary call."""
        ...

    def stream(
        self,
        rpc: str,
        request: Message,
        *,
        tenant: str = "default",
        timeout_s: float | None = TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Any]:
        """A server stream."""
        ...

    async def upload(
        self,
        rpc: str,
        requests: Sequence[Message],
        *,
        tenant: str = "default",
        timeout_s: float | None = TIMEOUT_S,
    ) -> Any:
        """A client stream."""
        ...

    async def send_damaged(self, rpc: str, request: Message, damage: Damage) -> None:
        """Sends bytes that are wrong; returns only if they were accepted."""
        ...


class ProcessRung:
    """The node in this process: the same chain and the same messages, without a socket."""

    name = "process"

    def __init__(self, node: Node) -> None:
        self._node = node

    async def call(
        self,
        rpc: str,
        request: Message,
        *,
        tenant: str = "default",
        timeout_s: float | None = TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """A unary call."""
        call = _call(tenant, timeout_s, headers or {})
        method = RPCS[rpc]
        try:
            return await self._node.mesh.method(method.area, rpc)(request, call)
        except RagmeshError as error:
            raise Refused(to_status(error, call.request_id)) from error

    async def stream(
        self,
        rpc: str,
        request: Message,
        *,
        tenant: str = "default",
        timeout_s: float | None = TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Any]:
        """A server stream."""
        call = _call(tenant, timeout_s, headers or {})
        try:
            async for event in self._node.mesh.method(RPCS[rpc].area, rpc)(request, call):
                yield event
        except RagmeshError as error:
            raise Refused(to_status(error, call.request_id)) from error

    async def upload(
        self,
        rpc: str,
        requests: Sequence[Message],
        *,
        tenant: str = "default",
        timeout_s: float | None = TIMEOUT_S,
    ) -> Any:
        """A client stream. The mesh has none, so this is the servicer in its chain."""
        pieces = [r.SerializeToString() for r in requests]
        return await self._upload(RPCS[rpc], pieces, tenant, timeout_s)

    async def send_damaged(self, rpc: str, request: Message, damage: Damage) -> None:
        """The chain reads bytes that are wrong."""
        method, data = RPCS[rpc], damaged_bytes(request, damage)
        if method.client_streaming:
            await self._upload(method, [data], "default", TIMEOUT_S)
            return
        try:
            parsed = self._node.chain.parse(method, data)
        except RagmeshError as error:
            raise Refused(to_status(error, "damaged")) from error
        await self.call(rpc, parsed)

    async def _upload(
        self, method: Method, pieces: Sequence[bytes], tenant: str, timeout_s: float | None
    ) -> Any:
        chain, call = self._node.chain, _call(tenant, timeout_s, {})

        async def parsed() -> AsyncIterator[Message]:
            for piece in pieces:
                request = chain.parse(method, piece)
                chain.check(request)
                yield request

        handler = getattr(self._node.services[method.area], method.name)
        requests: Any = parsed()
        try:
            return await chain.unary(method, handler, requests, call)
        except RagmeshError as error:
            raise Refused(to_status(error, call.request_id)) from error


class GrpcRung:
    """gRPC to the nodes that host a service, each in its turn."""

    def __init__(self, name: str, nodes: Iterable[tuple[str, Sequence[str]]]) -> None:
        """`nodes` are addresses, each with what it hosts."""
        self.name = name
        self._channels: list[grpc.aio.Channel] = []
        turns: dict[str, list[grpc.aio.Channel]] = {}
        for address, areas in nodes:
            channel = grpc.aio.insecure_channel(
                address,
                options=[
                    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
                    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
                ],
            )
            self._channels.append(channel)
            for area in areas:
                turns.setdefault(area, []).append(channel)
        self._turns = {area: itertools.cycle(channels) for area, channels in turns.items()}

    async def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels:
            await channel.close()

    async def call(
        self,
        rpc: str,
        request: Message,
        *,
        tenant: str = "default",
        timeout_s: float | None = TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """A unary call."""
        data = request.SerializeToString()
        return await self._unary(RPCS[rpc], data, tenant, timeout_s, headers or {})

    async def stream(
        self,
        rpc: str,
        request: Message,
        *,
        tenant: str = "default",
        timeout_s: float | None = TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Any]:
        """A server stream."""
        method = RPCS[rpc]
        stub: Any = next(self._turns[method.area]).unary_stream(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        try:
            sent = _metadata(tenant, headers or {})
            async for event in stub(request, timeout=timeout_s, metadata=sent):
                yield event
        except grpc.aio.AioRpcError as error:
            raise from_grpc(error) from error

    async def upload(
        self,
        rpc: str,
        requests: Sequence[Message],
        *,
        tenant: str = "default",
        timeout_s: float | None = TIMEOUT_S,
    ) -> Any:
        """A client stream."""
        pieces = [r.SerializeToString() for r in requests]
        return await self._upload(RPCS[rpc], pieces, tenant, timeout_s)

    async def send_damaged(self, rpc: str, request: Message, damage: Damage) -> None:
        """Sends bytes that are wrong."""
        method, data = RPCS[rpc], damaged_bytes(request, damage)
        if method.client_streaming:
            await self._upload(method, [data], "default", TIMEOUT_S)
        elif method.server_streaming:
            stub: Any = next(self._turns[method.area]).unary_stream(method.path)
            try:
                async for _ in stub(data, timeout=TIMEOUT_S):
                    pass
            except grpc.aio.AioRpcError as error:
                raise from_grpc(error) from error
        else:
            await self._unary(method, data, "default", TIMEOUT_S, {})

    async def _unary(
        self,
        method: Method,
        data: bytes,
        tenant: str,
        timeout_s: float | None,
        headers: Mapping[str, str],
    ) -> Any:
        stub: Any = next(self._turns[method.area]).unary_unary(
            method.path, response_deserializer=method.response.FromString
        )
        if method.server_streaming:
            raise TypeError(f"{method.name} is a stream")
        try:
            return await stub(data, timeout=timeout_s, metadata=_metadata(tenant, headers))
        except grpc.aio.AioRpcError as error:
            raise from_grpc(error) from error

    async def _upload(
        self, method: Method, pieces: Sequence[bytes], tenant: str, timeout_s: float | None
    ) -> Any:
        async def sent() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        stub: Any = next(self._turns[method.area]).stream_unary(
            method.path, response_deserializer=method.response.FromString
        )
        try:
            return await stub(sent(), timeout=timeout_s, metadata=_metadata(tenant, {}))
        except grpc.aio.AioRpcError as error:
            raise from_grpc(error) from error
        except asyncio.CancelledError as error:
            # What gRPC says where the deadline passed while the stream was still being written.
            task = asyncio.current_task()
            if timeout_s is None or (task is not None and task.cancelling()):
                raise
            raise Refused(status_pb2.Status(code=code_pb2.DEADLINE_EXCEEDED)) from error


def _call(tenant: str, timeout_s: float | None, headers: Mapping[str, str]) -> Call:
    return Call(
        tenant,
        headers.get("x-request-id") or new_request_id(),
        deadline_s=None if timeout_s is None else time.monotonic() + timeout_s,
        lane="bulk" if headers.get("x-ragmesh-lane") == "bulk" else "interactive",
        min_watermark=headers.get("x-ragmesh-watermark", ""),
    )


def _metadata(tenant: str, headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return (("x-ragmesh-tenant", tenant), *headers.items())
