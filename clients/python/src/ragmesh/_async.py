"""Plans performed on an event loop: the machinery below `AsyncClient`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from google.protobuf.message import Message
from grpc import aio

from ragmesh import _status
from ragmesh._channel import OPTIONS
from ragmesh._errors import Cancelled, ClientClosed, RagmeshError
from ragmesh._face import checked, dressed
from ragmesh._names import refused, unholdable
from ragmesh._plan import Effect, Open, Page, Pages, Pause, Plan, Receive, Source, Wire
from ragmesh._session import Session

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


class AsyncRunner:
    """Performs the effects of plans over one channel, on the event loop that calls first.

    gRPC wants one event loop a process for all its asynchronous objects; a client used on a second
    loop raises ClientClosed.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._channel: aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._methods: dict[str, Any] = {}

    async def run(self, plan: Plan[R]) -> R:
        """The plan's result."""
        step: Callable[[Any], Effect] = plan.send
        value: Any = None
        try:
            while True:
                try:
                    effect = step(value)
                except StopIteration as done:
                    return cast(R, done.value)
                except ValueError as error:
                    if unholdable(error):
                        raise refused(error) from error
                    raise
                try:
                    step, value = plan.send, await self._perform(effect)
                except RagmeshError as error:
                    step, value = plan.throw, error
        finally:
            plan.close()

    async def close(self) -> None:
        """Ends the connection, and with it every call that is not over."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()

    async def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Pause):
            return await asyncio.sleep(effect.seconds)
        wire = effect.wire
        try:
            if isinstance(effect, Receive):
                message = await cast(Any, effect.handle).read()
                return None if message is aio.EOF else message
            call = self._invoke(wire, stream=isinstance(effect, Open))
            return call if isinstance(effect, Open) else await call
        except aio.AioRpcError as error:
            raise self._translated(error, wire) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # gRPC says so too where the channel was closed or the request stream failed.
            own: Exception | None = getattr(wire.request, "error", None)
            raise own or Cancelled(
                "The call was cancelled: its stream or the client was closed meanwhile.",
                request_id=wire.request_id,
            ) from error

    def _invoke(self, wire: Wire, *, stream: bool) -> Any:
        if self._closed:
            raise ClientClosed("The client was closed: make a new one.")
        loop = asyncio.get_running_loop()
        if self._channel is None:
            self._loop = loop
            self._channel = aio.insecure_channel(self._session.address, options=OPTIONS)
        elif self._loop is not loop:
            raise ClientClosed("The client belongs to another event loop: make one for this loop.")
        request: Any = wire.request
        if not isinstance(request, Message):
            request = _in_threads(iter(request))
        method = self._method(wire, self._channel, stream=stream)
        return method(request, timeout=wire.timeout_s, metadata=wire.headers)

    def _method(self, wire: Wire, channel: aio.Channel, *, stream: bool) -> Any:
        method = self._methods.get(wire.rpc.path)
        if method is None:
            make: Callable[..., Any] = channel.stream_unary
            if isinstance(wire.request, Message):
                make = channel.unary_stream if stream else channel.unary_unary
            method = make(
                wire.rpc.path,
                request_serializer=wire.rpc.request.SerializeToString,
                response_deserializer=wire.rpc.response.FromString,
            )
            self._methods[wire.rpc.path] = method
        return method

    def _translated(self, error: aio.AioRpcError, wire: Wire) -> Exception:
        own: Exception | None = getattr(wire.request, "error", None)
        if own is not None:  # the caller's file could not be read
            return own
        return _status.from_rpc(
            error.code(),
            error.details() or "",
            error.trailing_metadata(),
            request_id=wire.request_id,
            address=self._session.address,
            timeout_s=wire.limit_s,
        )


async def _in_threads(messages: Iterator[Message]) -> AsyncIterator[Message]:
    """The messages, each read from its file off the event loop."""
    while (message := await asyncio.to_thread(next, messages, None)) is not None:
        yield message


class AsyncStream(Generic[T]):
    """What a server sends, as it comes: an asynchronous iterator that can be closed early.

    Leaving an `async with` block, or `close()`, cancels the call at the server.
    """

    def __init__(self, runner: AsyncRunner, source: Source[T]) -> None:
        self._runner, self._source = runner, source

    def __aiter__(self) -> AsyncStream[T]:
        return self

    async def __anext__(self) -> T:
        value = await self._runner.run(self._source.advance())
        if value is None:
            raise StopAsyncIteration
        return value

    async def close(self) -> None:
        """Stops; nothing comes after."""
        self._source.cancel()

    async def __aenter__(self) -> AsyncStream[T]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class AsyncListing(Generic[T]):
    """A list whose pages are fetched when they are needed; each iteration begins anew."""

    def __init__(self, runner: AsyncRunner, pages: Pages[T]) -> None:
        self._runner, self._pages = runner, pages

    async def __aiter__(self) -> AsyncIterator[T]:
        async for page in self.pages():
            for item in page.items:
                yield item

    async def pages(self, page_token: str = "") -> AsyncIterator[Page[T]]:
        """Page by page, from the one that a `next_page_token` names."""
        while True:
            page = await self._runner.run(self._pages.fetch(page_token))
            yield page
            page_token = page.next_page_token
            if not page_token:
                return


def call(
    plan: Callable[Concatenate[Session, P], Plan[R]],
) -> Callable[Concatenate[AsyncRunner, P], Coroutine[Any, Any, R]]:
    """The method that runs a plan."""

    async def method(self: AsyncRunner, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self.run(plan(self._session, *args, **kwargs))

    return dressed(method, plan, "{}")


def stream(
    source: Callable[Concatenate[Session, P], Source[T]],
) -> Callable[Concatenate[AsyncRunner, P], AsyncStream[T]]:
    """The method that opens a stream."""

    def method(self: AsyncRunner, /, *args: P.args, **kwargs: P.kwargs) -> AsyncStream[T]:
        return AsyncStream(self, checked(source)(self._session, *args, **kwargs))

    return dressed(method, source, "AsyncStream[{}]")


def listing(
    pages: Callable[Concatenate[Session, P], Pages[T]],
) -> Callable[Concatenate[AsyncRunner, P], AsyncListing[T]]:
    """The method that lists."""

    def method(self: AsyncRunner, /, *args: P.args, **kwargs: P.kwargs) -> AsyncListing[T]:
        return AsyncListing(self, checked(pages)(self._session, *args, **kwargs))

    return dressed(method, pages, "AsyncListing[{}]")
