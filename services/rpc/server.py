"""The gRPC face of a node: raw bytes in, the chain, bytes out.

Handlers are registered without deserializers, so that bytes that do not decode become our error
with our reason. One generic handler serves every method of the contract, and answers
METHOD_NOT_FOUND for the rest.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_channelz.v1 import channelz
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from engine.errors import Cancelled, MethodNotFound, RagmeshError
from services.errors import row_of, to_status
from services.rpc.call import REQUEST_ID, WATERMARK, Call, Identity, call_of, request_id_of
from services.rpc.chain import LARGE_BYTES, Chain
from services.rpc.methods import Method, methods, services

_TRANSCODED = "x-envoy-original-path"
"""What Envoy's transcoder leaves in the headers of a call that came as REST."""

HEADROOM_BYTES = 1 << 20
"""What the transport takes above our own limit, so that a message just over it gets our error
with our reason; a much larger one is refused by the transport (see tests/behaviour)."""


def server_options(bytes_max: int) -> list[tuple[str, int]]:
    """Channel arguments of a node's server. `bytes_max` is the message limit of the contract.

    Keepalive: clients ping every 30 s at most (grpc doc/keepalive.md), and no number of pings ends
    a connection: clients also ping to measure it, and a node that was busy would take those that
    piled up for a flood and fail the calls in its hands. A port clash must fail loudly, hence no
    SO_REUSEPORT.
    """
    return [
        ("grpc.max_receive_message_length", bytes_max + HEADROOM_BYTES),
        ("grpc.max_send_message_length", bytes_max + HEADROOM_BYTES),
        ("grpc.so_reuseport", 0),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_connection_age_ms", 30 * 60_000),
        ("grpc.max_connection_age_grace_ms", 60_000),
    ]


class Server:
    """A gRPC server that hosts servicers: `servicers` maps an area to its object."""

    def __init__(
        self,
        servicers: Mapping[str, object],
        chain: Chain,
        identity: Identity,
        bytes_max: int,
    ) -> None:
        self._servicers = servicers
        self._chain = chain
        self._identity = identity
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(options=server_options(bytes_max))
        self._server.add_generic_rpc_handlers((_Handlers(self),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        channelz.add_channelz_servicer(self._server)
        names = [services()[area].full_name for area in servicers]
        reflection.enable_server_reflection(
            [*names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server
        )

    def bind(self, address: str) -> int:
        """Binds `host:port` or `unix:path`; returns the port. Raises RuntimeError if taken."""
        return self._server.add_insecure_port(address)

    async def start(self) -> None:
        """Starts answering; health says NOT_SERVING until `set_serving`."""
        await self._server.start()
        await self.set_serving(False)

    async def set_serving(self, serving: bool) -> None:
        """What gRPC health says, for the node and for each of its services."""
        status = health_pb2.HealthCheckResponse
        state = status.SERVING if serving else status.NOT_SERVING
        for name in ["", *(services()[area].full_name for area in self._servicers)]:
            await self._health.set(name, state)

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, finishes those in flight within `grace_s`, then stops."""
        await self._server.stop(grace_s)

    def handler_of(self, path: str) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The transport's handler of a path; None for what is not ours. The transport asks at
        each call, so those of the contract's methods are kept."""
        known = self._handlers.get(path)
        if known is not None:
            return known
        method = methods().get(path)
        if method is None or method.area not in self._servicers:
            return _unknown(path) if path.startswith("/ragmesh.") else None
        self._handlers[path] = self._handler(method)
        return self._handlers[path]

    def _handler(self, method: Method) -> grpc.RpcMethodHandler[Any, Any]:
        handler = getattr(self._servicers[method.area], method.name)
        if method.client_streaming:
            return grpc.stream_unary_rpc_method_handler(self._client_stream(method, handler))
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(self._server_stream(method, handler))
        return grpc.unary_unary_rpc_method_handler(self._unary(method, handler))

    def _unary(self, method: Method, handler: Any) -> Any:
        async def answer(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            headers = _headers(context)
            try:
                call = call_of(headers, context.time_remaining(), self._identity)
                request = await self._chain.parsed(method, data)
                large = len(data) > LARGE_BYTES
                response = await self._chain.unary(method, handler, request, call, large=large)
                await _say(context, _reply_headers(call, response), headers)
                return response.SerializeToString()
            except BaseException as error:
                await _fail(context, error, request_id_of(headers))
                raise

        async def serve(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            work = answer(data, context)
            del data, context
            return await _apart(work)

        return serve

    def _client_stream(self, method: Method, handler: Any) -> Any:
        async def answer(
            pieces: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]
        ) -> bytes:
            headers = _headers(context)
            try:
                call = call_of(headers, context.time_remaining(), self._identity)
                requests: Any = self._parsed(method, pieces)
                response = await self._chain.unary(method, handler, requests, call)
                await _say(context, _reply_headers(call, response), headers)
                return response.SerializeToString()
            except BaseException as error:
                await _fail(context, error, request_id_of(headers))
                raise

        async def serve(
            pieces: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]
        ) -> bytes:
            work = answer(pieces, context)
            del pieces, context
            return await _apart(work)

        return serve

    async def _parsed(self, method: Method, pieces: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        async for piece in pieces:
            request = self._chain.parse(method, piece)
            self._chain.check(request)
            yield request

    def _server_stream(self, method: Method, handler: Any) -> Any:
        async def answer(
            data: bytes, context: grpc.aio.ServicerContext[Any, Any]
        ) -> AsyncGenerator[bytes, None]:
            headers = _headers(context)
            try:
                call = call_of(headers, context.time_remaining(), self._identity)
                request = self._chain.parse(method, data)
                # Headers go out with the first event and not before: a call that fails until then
                # is answered with trailers only, which the gateway can turn into an HTTP status.
                opened = False
                async for response in self._chain.stream(method, handler, request, call):
                    if not opened:
                        await context.send_initial_metadata(_reply_headers(call, None))
                        opened = True
                    yield response.SerializeToString()
            except BaseException as error:
                await _fail(context, error, request_id_of(headers))
                raise

        async def serve(
            data: bytes, context: grpc.aio.ServicerContext[Any, Any]
        ) -> AsyncIterator[bytes]:
            events = answer(data, context)
            del data, context
            try:
                async for event in events:
                    yield event
            except grpc.aio.AbortError as error:
                _let_go(error)
                raise
            finally:
                await events.aclose()

        return serve


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, server: Server) -> None:
        self._server = server

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._server.handler_of(handler_call_details.method)


def _unknown(path: str) -> grpc.RpcMethodHandler[Any, Any]:
    async def serve(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        error = MethodNotFound(f"This node has no method {path}.", metadata={"method": path})
        await _fail(context, error, request_id_of(_headers(context)))
        return b""

    return grpc.unary_unary_rpc_method_handler(serve)


def _headers(context: grpc.aio.ServicerContext[Any, Any]) -> dict[str, str]:
    pairs = context.invocation_metadata() or ()
    return {k: v for k, v in pairs if isinstance(v, str)}


def _reply_headers(call: Call, response: Message | None) -> tuple[tuple[str, str], ...]:
    pairs = [(REQUEST_ID, call.request_id)]
    watermark = getattr(response, "watermark", "")
    if watermark:
        pairs.append((WATERMARK, watermark))
    return tuple(pairs)


async def _say(
    context: grpc.aio.ServicerContext[Any, Any],
    reply: tuple[tuple[str, str], ...],
    headers: Mapping[str, str],
) -> None:
    """Says what goes beside an answer: in its trailers, which leave with it, or for a REST caller,
    who has no trailers, in headers, which take a write of their own (0.15 ms)."""
    if _TRANSCODED in headers:
        await context.send_initial_metadata(reply)
    else:
        context.set_trailing_metadata(reply)


async def _apart(work: Awaitable[bytes]) -> bytes:
    """Awaits a call, of which an error leaves nothing behind."""
    try:
        return await work
    except grpc.aio.AbortError as error:
        _let_go(error)
        raise


def _let_go(error: grpc.aio.AbortError) -> None:
    """Takes its traceback and what it came of from an error. The transport keeps it with the call's
    context: were there a way back from it to that, and to what the call held, the circle would wait
    for the garbage collector, and a refused write has megabytes in it."""
    came_of = error.__context__
    while came_of is not None:
        traceback.clear_frames(came_of.__traceback__)
        came_of = came_of.__cause__ or came_of.__context__
    error.__context__ = None
    error.__traceback__ = None


async def _fail(
    context: grpc.aio.ServicerContext[Any, Any], error: BaseException, request_id: str
) -> None:
    """Ends the call with the error's status; what the transport itself raised goes on up."""
    if isinstance(error, grpc.aio.AbortError | GeneratorExit):
        return
    if isinstance(error, asyncio.CancelledError):
        if context.cancelled():
            return
        error = Cancelled("The call was cancelled.")
    status = to_status(error, request_id)
    row = row_of(error) if isinstance(error, RagmeshError) else row_of(Exception())
    trailers = (
        (REQUEST_ID, request_id),
        ("grpc-status-details-bin", status.SerializeToString()),
    )
    await context.abort(row.code, status.message, trailers)
