"""The chain around every handler: admission, validation, deadline, metrics, log, errors.

A handler is a coroutine `(request, call) -> response`, an async iterator of responses for server
streams, or `(requests, call) -> response` for client streams. The chain is the same for a call
that came over a socket and for one from a sibling in this process.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from google.protobuf.message import DecodeError, Message

from engine.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidField,
    MalformedMessage,
    MessageTooLarge,
    NodeDraining,
    QueueFull,
    RagmeshError,
)
from services.errors import INTERNAL, row_of
from services.rpc import metrics
from services.rpc.call import Call
from services.rpc.methods import Method

_LOG = logging.getLogger("ragmesh.rpc")

LARGE_BYTES = 64 << 10
"""A request over this is parsed and checked in a thread."""

Check = Callable[[Any], None]
"""Raises InvalidArgument errors for a request that is wrong whatever the state."""

Reader = Callable[[bytes], object | None]
"""Reads a large request in another way than as a message, checks included; None for one that is to
be parsed."""


@dataclass(slots=True)
class Gate:
    """How many calls this node works on, and whether it takes more. Refuses before queueing."""

    calls_max: int
    in_flight: int = 0
    draining: bool = False
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def load(self) -> float:
        """The share of the limit in use, 0 to 1."""
        return self.in_flight / self.calls_max

    def has_room(self) -> bool:
        """Whether a sibling in this process may be served here."""
        return not self.draining and self.in_flight < self.calls_max

    def enter(self) -> None:
        """Counts a call in. Raises NodeDraining or QueueFull."""
        if self.draining:
            raise NodeDraining("This node is draining. Another one serves the same call.")
        if self.in_flight >= self.calls_max:
            raise QueueFull(
                f"{self.calls_max} calls are in flight on this node. Try again shortly.",
                metadata={"calls_max": self.calls_max},
                retry_after_s=0.1,
            )
        self.in_flight += 1
        self.idle.clear()

    def leave(self) -> None:
        """Counts a call out."""
        self.in_flight -= 1
        if self.in_flight == 0:
            self.idle.set()


class Chain:
    """Runs handlers. `checks` holds a check for each request class that needs one, `readers` how
    large ones of some classes are read."""

    def __init__(
        self,
        gate: Gate,
        checks: dict[type[Message], Check],
        bytes_max: int,
        readers: Mapping[type[Message], Reader] = MappingProxyType({}),
    ) -> None:
        self.gate = gate
        self._checks = checks
        self._bytes_max = bytes_max
        self._readers = readers

    def parse(self, method: Method, data: bytes) -> Message:
        """Decodes a request. Raises MalformedMessage, MessageTooLarge, or InvalidField for a
        field that this version does not know: to pass over a condition of a newer client would
        answer another question than the one asked."""
        if len(data) > self._bytes_max:
            raise too_large(len(data), self._bytes_max)
        try:
            request = method.request.FromString(data)
        except DecodeError as error:
            name = method.request.DESCRIPTOR.full_name
            raise MalformedMessage(
                f"The bytes do not decode as {name}: {error}.", metadata={"message": name}
            ) from error
        request.DiscardUnknownFields()
        # Each look at a size writes the message anew. Mostly one is enough: nothing was discarded
        # where what is left takes as much as came.
        size = request.ByteSize()
        if size != len(data) and size != method.request.FromString(data).ByteSize():
            raise InvalidField(
                f"{method.request.DESCRIPTOR.name} has a field that this server does not know. "
                "Use a client of the server's version.",
                field="(unknown)",
            )
        return request

    async def parsed(self, method: Method, data: bytes) -> object:
        """The same, or what a reader made of it; in a thread where it takes milliseconds, in which
        the loop would answer nobody."""
        if len(data) > LARGE_BYTES:
            return await asyncio.to_thread(self._read, method, data)
        return self.parse(method, data)

    def _read(self, method: Method, data: bytes) -> object:
        reader = self._readers.get(method.request)
        if reader is not None and len(data) <= self._bytes_max:
            read = reader(data)
            if read is not None:
                return read
        return self.parse(method, data)

    def check(self, request: Message) -> None:
        """Raises InvalidArgument errors."""
        check = self._checks.get(type(request))
        if check is not None:
            check(request)

    async def unary(
        self, method: Method, handler: Any, request: object, call: Call, *, large: bool = False
    ) -> Message:
        """Runs a unary handler, or a client stream whose `request` is the iterator. A `large`
        request is checked in a thread; what a reader made is checked."""
        with Observed(method, call), admitted(self.gate):
            call.require_time()
            if isinstance(request, Message):
                if large:
                    await asyncio.to_thread(self.check, request)
                else:
                    self.check(request)
            response: Message = await _within(call, handler(request, call))
            return response

    async def stream(
        self, method: Method, handler: Any, request: Message, call: Call
    ) -> AsyncGenerator[Message, None]:
        """Runs a server stream."""
        with Observed(method, call), admitted(self.gate):
            call.require_time()
            self.check(request)
            events = handler(request, call)
            if inspect.iscoroutine(events):
                events = await events
            try:
                while True:
                    try:
                        event = await _within(call, anext(events))
                    except StopAsyncIteration:
                        return
                    yield event
            finally:
                await events.aclose()


async def _within(call: Call, work: Awaitable[Any]) -> Any:
    """Awaits within the deadline. Raises DeadlineExceeded when it passes."""
    if call.deadline_s is None:
        return await work
    # What can be answered at once is, without a timer, which would never run and takes 10 µs.
    steps = work.__await__()
    try:
        waits_for = next(steps)
    except StopIteration as done:
        return done.value
    try:
        async with asyncio.timeout(call.remaining_s()) as limit:
            return await _begun(steps, waits_for)
    except TimeoutError as error:
        # Not by the clock: uvloop's timers may ring a hair before their time.
        if limit.expired():
            raise DeadlineExceeded("The deadline passed before the answer was ready.") from error
        raise


@types.coroutine
def _begun(steps: Generator[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    """Awaits what has begun and waits for something: as `yield from`, from the second step on."""
    try:
        while True:
            try:
                sent = yield waits_for
            except BaseException as error:
                waits_for = steps.throw(error)
            else:
                waits_for = steps.send(sent)
    except StopIteration as done:
        return done.value


def too_large(size: int, bytes_max: int) -> MessageTooLarge:
    """The error for a message over the limit, in bytes."""
    return MessageTooLarge(
        f"The message has {size:,} bytes; at most {bytes_max:,} ({bytes_max >> 20} MiB) are "
        "taken. Split the batch, or upload files in pieces.",
        metadata={"size_bytes": size, "limit_bytes": bytes_max},
    )


class admitted:
    """Holds a place at the gate."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def __enter__(self) -> None:
        self._gate.enter()

    def __exit__(self, *_: object) -> None:
        self._gate.leave()


class Observed:
    """Counts, times and logs one call; turns a cancelled task into Cancelled in the figures."""

    def __init__(self, method: Method, call: Call) -> None:
        self._method = method
        self._call = call
        self._begin_s = 0.0

    def __enter__(self) -> None:
        self._begin_s = time.perf_counter()
        metrics.rpc_in_flight(self._method.area, self._method.name).calls += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, *_: object
    ) -> None:
        elapsed_s = time.perf_counter() - self._begin_s
        area, name = self._method.area, self._method.name
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            error = Cancelled("The caller went away.")
        code = "OK" if error is None else row_of(error).code.name
        metrics.rpc_in_flight(area, name).calls -= 1
        metrics.rpc_seconds(area, name, code).observe(elapsed_s)
        level = logging.DEBUG if error is None else logging.INFO
        internal = error is not None and row_of(error) is INTERNAL
        if internal:
            level = logging.ERROR
        if _LOG.isEnabledFor(level):
            _LOG.log(
                level,
                "%s %s",
                name,
                code,
                exc_info=error if internal else None,
                extra={
                    "rpc": name,
                    "code": code,
                    "reason": row_of(error).reason if error else "",
                    "request_id": self._call.request_id,
                    "tenant": self._call.tenant,
                    "elapsed_ms": round(elapsed_s * 1000, 3),
                },
            )


def is_expected(error: BaseException) -> bool:
    """Whether an error has a row in the table, so that its sentence may be shown."""
    return isinstance(error, RagmeshError) and row_of(error) is not INTERNAL
