"""Plans performed by a thread that waits: the machinery below `Client`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

import grpc
from google.protobuf.message import Message

from ragmesh import _status
from ragmesh._channel import OPTIONS
from ragmesh._errors import ClientClosed, RagmeshError
from ragmesh._face import checked, dressed
from ragmesh._names import refused, unholdable
from ragmesh._plan import Effect, Open, Page, Pages, Pause, Plan, Receive, Source, Wire
from ragmesh._session import Session

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


class Runner:
    """Performs the effects of plans over one channel. Safe to use from several threads."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._channel = grpc.insecure_channel(session.address, options=OPTIONS)
        self._closed = False
        self._methods: dict[str, Any] = {}

    def run(self, plan: Plan[R]) -> R:
        """The plan's result."""
        step: Callable[[Any], Effect] = plan.send
        value: Any = None
        try:
            while True:
                effect = step(value)
                try:
                    step, value = plan.send, self._perform(effect)
                except RagmeshError as error:
                    step, value = plan.throw, error
        except StopIteration as done:
            return cast(R, done.value)
        except ValueError as error:
            if unholdable(error):
                raise refused(error) from error
            raise
        finally:
            plan.close()

    def close(self) -> None:
        """Ends the connection, and with it every call that is not over."""
        self._closed = True
        self._channel.close()

    def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Pause):
            return time.sleep(effect.seconds)
        wire = effect.wire
        try:
            if isinstance(effect, Receive):
                return next(cast("Iterator[Any]", effect.handle), None)
            return self._invoke(wire, stream=isinstance(effect, Open))
        except grpc.RpcError as error:
            raise self._translated(cast(grpc.Call, error), wire) from (
                getattr(wire.request, "error", None) or error
            )

    def _invoke(self, wire: Wire, *, stream: bool) -> Any:
        if self._closed:
            raise ClientClosed("The client was closed: make a new one.")
        request: Any = wire.request
        if not isinstance(request, Message):
            request = iter(request)
        try:
            method = self._method(wire, stream=stream)
            return method(request, timeout=wire.timeout_s, metadata=wire.headers)
        except ValueError as error:
            if self._closed:  # by another thread, since we looked
                raise ClientClosed("The client was closed: make a new one.") from error
            raise

    def _method(self, wire: Wire, *, stream: bool) -> Any:
        method = self._methods.get(wire.rpc.path)
        if method is None:
            make: Callable[..., Any] = self._channel.stream_unary
            if isinstance(wire.request, Message):
                make = self._channel.unary_stream if stream else self._channel.unary_unary
            method = make(
                wire.rpc.path,
                request_serializer=wire.rpc.request.SerializeToString,
                response_deserializer=wire.rpc.response.FromString,
            )
            self._methods[wire.rpc.path] = method
        return method

    def _translated(self, call: grpc.Call, wire: Wire) -> Exception:
        own: Exception | None = getattr(wire.request, "error", None)
        if own is not None:  # the caller's file could not be read
            return own
        return _status.from_rpc(
            call.code(),
            call.details() or "",
            call.trailing_metadata(),
            request_id=wire.request_id,
            address=self._session.address,
            timeout_s=wire.limit_s,
        )


class Stream(Generic[T]):
    """What a server sends, as it comes: an iterator that can be closed early.

    Leaving a `with` block, or `close()`, cancels the call at the server.
    """

    def __init__(self, runner: Runner, source: Source[T]) -> None:
        self._runner, self._source = runner, source

    def __iter__(self) -> Stream[T]:
        return self

    def __next__(self) -> T:
        value = self._runner.run(self._source.advance())
        if value is None:
            raise StopIteration
        return value

    def close(self) -> None:
        """Stops; nothing comes after."""
        self._source.cancel()

    def __enter__(self) -> Stream[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._source.cancel()


class Listing(Generic[T]):
    """A list whose pages are fetched when they are needed; each iteration begins anew."""

    def __init__(self, runner: Runner, pages: Pages[T]) -> None:
        self._runner, self._pages = runner, pages

    def __iter__(self) -> Iterator[T]:
        for page in self.pages():
            yield from page.items

    def pages(self, page_token: str = "") -> Iterator[Page[T]]:
        """Page by page, from the one that a `next_page_token` names."""
        while True:
            page = self._runner.run(self._pages.fetch(page_token))
            yield page
            page_token = page.next_page_token
            if not page_token:
                return


def call(
    plan: Callable[Concatenate[Session, P], Plan[R]],
) -> Callable[Concatenate[Runner, P], R]:
    """The method that runs a plan."""

    def method(self: Runner, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.run(plan(self._session, *args, **kwargs))

    return dressed(method, plan, "{}")


def stream(
    source: Callable[Concatenate[Session, P], Source[T]],
) -> Callable[Concatenate[Runner, P], Stream[T]]:
    """The method that opens a stream."""

    def method(self: Runner, /, *args: P.args, **kwargs: P.kwargs) -> Stream[T]:
        return Stream(self, checked(source)(self._session, *args, **kwargs))

    return dressed(method, source, "Stream[{}]")


def listing(
    pages: Callable[Concatenate[Session, P], Pages[T]],
) -> Callable[Concatenate[Runner, P], Listing[T]]:
    """The method that lists."""

    def method(self: Runner, /, *args: P.args, **kwargs: P.kwargs) -> Listing[T]:
        return Listing(self, checked(pages)(self._session, *args, **kwargs))

    return dressed(method, pages, "Listing[{}]")
