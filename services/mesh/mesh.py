"""Reaches siblings: in this process where the service is hosted and has room, else over gRPC.

Both ways run the same chain on the same Call, and messages handed to a sibling are copies, so a
service cannot tell them apart. The remote way goes to `xds:///<service>`, or to a fixed address
where the configuration gives one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, cast

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2

from engine.errors import RagmeshError, ServiceUnavailable
from services.errors import from_status
from services.mesh.peers import (
    DocumentsPeer,
    EmbeddingPeer,
    GenerationPeer,
    MemoryPeer,
    RetrievalPeer,
)
from services.rpc import metrics
from services.rpc.call import Call
from services.rpc.chain import Chain
from services.rpc.methods import Method, methods_of
from services.rpc.server import HEADROOM_BYTES

ATTEMPTS_MAX = 3
"""Tries of an idempotent call to a sibling while nodes come and go."""

STATUS_WAIT_S = 1.0
"""How long the status of a call is waited for that ended while it was written."""


class Mesh:
    """The siblings of one node."""

    def __init__(self, chain: Chain, addresses: Mapping[str, str], bytes_max: int) -> None:
        """`addresses` maps a service to a gRPC target that replaces `xds:///<service>`."""
        self._chain = chain
        self._addresses = addresses
        self._bytes_max = bytes_max
        self._hosted: dict[str, object] = {}
        self._channels: dict[str, grpc.aio.Channel] = {}

    def host(self, area: str, servicer: object) -> None:
        """Says that this process hosts a service."""
        self._hosted[area] = servicer

    @property
    def embedding(self) -> EmbeddingPeer:
        """The embedding service."""
        return cast(EmbeddingPeer, _Peer(self, "embedding"))

    @property
    def retrieval(self) -> RetrievalPeer:
        """The retrieval service."""
        return cast(RetrievalPeer, _Peer(self, "retrieval"))

    @property
    def documents(self) -> DocumentsPeer:
        """The document service."""
        return cast(DocumentsPeer, _Peer(self, "documents"))

    @property
    def memory(self) -> MemoryPeer:
        """The memory service."""
        return cast(MemoryPeer, _Peer(self, "memory"))

    @property
    def generation(self) -> GenerationPeer:
        """The generation service."""
        return cast(GenerationPeer, _Peer(self, "generation"))

    def method(self, area: str, name: str) -> Any:
        """Any unary or server-streaming method of a service, by its names in the contract."""
        return getattr(_Peer(self, area), name)

    async def close(self) -> None:
        """Closes the channels to other processes."""
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()

    def local(self, area: str) -> object | None:
        """The servicer in this process, if it may be used now."""
        servicer = self._hosted.get(area)
        if servicer is None:
            return None
        alone = area not in self._addresses and not self._addresses.get("*")
        return servicer if alone or self._chain.gate.has_room() else None

    def channel(self, area: str) -> grpc.aio.Channel:
        """The channel to a service in other processes. Raises ServiceUnavailable if none can be."""
        target = self._addresses.get(area) or self._addresses.get("*", "").format(service=area)
        if not target:
            raise ServiceUnavailable(
                f"No node known here hosts the {area} service. Start one with "
                f"`ragmesh serve --services {area}` and give this node a control plane.",
                metadata={"service": area},
            )
        if area not in self._channels:
            size = self._bytes_max + HEADROOM_BYTES
            self._channels[area] = grpc.aio.insecure_channel(
                target,
                options=[
                    ("grpc.max_receive_message_length", size),
                    ("grpc.max_send_message_length", size),
                    ("grpc.keepalive_time_ms", 30_000),
                    ("grpc.keepalive_permit_without_calls", 1),
                    # A node that came back on its address is found again in a second; gRPC's own
                    # backoff would leave it out for up to two minutes.
                    ("grpc.initial_reconnect_backoff_ms", 100),
                    ("grpc.max_reconnect_backoff_ms", 1_000),
                ],
            )
        return self._channels[area]

    async def unary(self, method: Method, request: Message, call: Call) -> Message:
        """Calls a sibling and returns a message that is the caller's own."""
        servicer = self.local(method.area)
        metrics.MESH_CALLS.labels(method.area, "local" if servicer else "remote").inc()
        if servicer is not None:
            handler = getattr(servicer, method.name)
            return await self._chain.unary(method, handler, _copy(request), call)
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                return await self._remote_unary(method, request, call)
            except ServiceUnavailable:
                if not method.idempotent or attempt == ATTEMPTS_MAX:
                    raise
                await asyncio.sleep(0.05 * 2**attempt)
        raise AssertionError("the loop returns or raises")

    async def _remote_unary(self, method: Method, request: Message, call: Call) -> Message:
        stub: Any = self.channel(method.area).unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        try:
            response: Message = await stub(
                request, timeout=call.remaining_s(), metadata=call.headers()
            )
        except grpc.aio.AioRpcError as error:
            raise _domain_error(error) from error
        return response

    async def send(self, method: Method, requests: AsyncIterator[Message], call: Call) -> Message:
        """Sends a sibling a client stream, as fast as it takes it. What `requests` raises ends the
        call unfinished, and is raised. Never tried again: what was sent is gone."""
        servicer = self.local(method.area)
        metrics.MESH_CALLS.labels(method.area, "local" if servicer else "remote").inc()
        if servicer is not None:
            handler = getattr(servicer, method.name)
            return await self._chain.unary(method, handler, requests, call)
        stub: Any = self.channel(method.area).stream_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        sending = stub(timeout=call.remaining_s(), metadata=call.headers())
        ending = _Ending(sending)
        feeding = asyncio.create_task(_fed(sending, requests))
        answered = asyncio.ensure_future(_answer(sending))
        try:
            # A sibling that refuses answers in the middle: then nothing more is waited for.
            await asyncio.wait({feeding, answered}, return_when=asyncio.FIRST_COMPLETED)
            if not answered.done():
                feeding.result()
            return await answered
        except grpc.aio.AioRpcError as error:
            raise await ending.error(error) from error
        finally:
            sending.cancel()
            for task in (feeding, answered):
                task.cancel()
            await asyncio.gather(feeding, answered, return_exceptions=True)

    async def stream(self, method: Method, request: Message, call: Call) -> AsyncIterator[Message]:
        """Calls a sibling's server stream. Never tried again: its first events may be out."""
        servicer = self.local(method.area)
        metrics.MESH_CALLS.labels(method.area, "local" if servicer else "remote").inc()
        if servicer is not None:
            handler = getattr(servicer, method.name)
            async with aclosing(self._chain.stream(method, handler, _copy(request), call)) as own:
                async for event in own:
                    yield event
            return
        stub: Any = self.channel(method.area).unary_stream(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        events = stub(request, timeout=call.remaining_s(), metadata=call.headers())
        try:
            async for event in events:
                yield event
        except grpc.aio.AioRpcError as error:
            raise _domain_error(error) from error
        finally:
            # A reader that leaves does not end the call by itself.
            events.cancel()


class _Peer:
    """A service whose methods are looked up in the contract."""

    def __init__(self, mesh: Mesh, area: str) -> None:
        self._mesh = mesh
        self._area = area

    def __getattr__(self, name: str) -> Any:
        method = methods_of(self._area).get(name)
        if method is None:
            raise AttributeError(f"the {self._area} service has no method {name}")
        run = self._mesh.stream if method.server_streaming else self._mesh.unary
        return lambda request, call: run(method, request, call)


async def _fed(sending: Any, requests: AsyncIterator[Message]) -> None:
    """Writes all requests. Raises what they raise; of a call that has ended, its answer tells."""
    async for request in requests:
        try:
            await sending.write(request)
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            return
    with contextlib.suppress(grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
        await sending.done_writing()


class _Ending:
    """How a node ended a call that was being written. grpc.aio tells that a write failed instead,
    before or after it knew the status, according to which it heard of first."""

    def __init__(self, sending: Any) -> None:
        self._status: grpc.aio.AioRpcError | None = None
        self._came = asyncio.Event()
        sending.add_done_callback(self._note)

    def _note(self, sending: Any) -> None:
        """Called at every status that the call gets; they are known, so nothing has to wait."""
        code, trailing = _known(sending.code()), _known(sending.trailing_metadata())
        if code is not grpc.StatusCode.INTERNAL or trailing:
            details = _known(sending.details())
            self._status = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)
            self._came.set()

    async def error(self, told: grpc.aio.AioRpcError) -> RagmeshError:
        """The node's error, or `told` where none of its own comes within `STATUS_WAIT_S`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STATUS_WAIT_S):
                await self._came.wait()
        return _domain_error(self._status or told)


def _known(answer: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that does not wait."""
    try:
        answer.send(None)
    except StopIteration as done:
        return done.value
    answer.close()
    return None


async def _answer(sending: Any) -> Message:
    response: Message = await sending
    return response


def _copy(message: Message) -> Message:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _domain_error(error: grpc.aio.AioRpcError) -> RagmeshError:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            return from_status(status_pb2.Status.FromString(value))
    status = status_pb2.Status(code=error.code().value[0], message=error.details() or "")
    return from_status(status)
