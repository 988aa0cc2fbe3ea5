"""Calls as plans: generators that say what to send and wait for, and do neither themselves.

A plan yields an effect (`Attempt`, `Open`, `Receive`, `Pause`) and is sent its result, or thrown a
RagmeshError. `_sync` and `_async` each perform the four effects their own way; splitting, paging,
retries and conversions are written once, here and in `_calls`.

    def get(session):                                    Client:       result = run(plan)
        response = yield from send(session, GET, req)    AsyncClient:  result = await run(plan)
        return convert(response)
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message

from ragmesh import _errors as errors
from ragmesh._rpcs import Req, Res, Rpc
from ragmesh._session import Lane, Session, seconds

T = TypeVar("T")
R = TypeVar("R")

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
# Retries: at most this many attempts, with waits of 0.1 s, 0.2 s … up to 2 s, less up to half.
TRIES_MAX = 3
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 2.0


class Feed(Protocol):
    """The messages of a client stream, for one attempt. `error` is what stopped it, if anything."""

    error: Exception | None

    def __iter__(self) -> Iterator[Message]: ...


class Handle(Protocol):
    """An open server stream."""

    def cancel(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Wire:
    """One attempt at one RPC. `limit_s` is the caller's limit, `timeout_s` what is left of it."""

    rpc: Rpc[Any, Any]
    request: Message | Feed
    timeout_s: float
    limit_s: float
    headers: tuple[tuple[str, str], ...]
    request_id: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """Effect: call, and give the response."""

    wire: Wire


@dataclass(frozen=True, slots=True)
class Open:
    """Effect: start a server stream, and give its handle."""

    wire: Wire


@dataclass(frozen=True, slots=True)
class Receive:
    """Effect: give the stream's next message, or None at its end."""

    handle: Handle
    wire: Wire


@dataclass(frozen=True, slots=True)
class Pause:
    """Effect: wait."""

    seconds: float


Effect = Attempt | Open | Receive | Pause
Plan = Generator[Effect, Any, R]


class Budget:
    """One call's identity and time limit, kept over its attempts."""

    def __init__(self, session: Session, timeout_s: float | None, lane: Lane | None) -> None:
        self.limit_s = session.timeout_s if timeout_s is None else seconds(timeout_s)
        self.deadline = time.monotonic() + self.limit_s
        self.request_id = uuid.uuid4().hex
        self._headers = session.headers(self.request_id, lane)

    def wire(self, rpc: Rpc[Any, Any], request: Message | Feed) -> Wire:
        """The next attempt; raises DeadlineExceeded where no time is left for one."""
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            raise errors.DeadlineExceeded(
                f"{rpc.path} did not end within {self.limit_s:g} s. Give a larger `timeout_s`.",
                metadata={"timeout_s": f"{self.limit_s:g}"},
                request_id=self.request_id,
            )
        return Wire(rpc, request, left_s, self.limit_s, self._headers, self.request_id)

    def retry_delay_s(
        self, error: errors.RagmeshError, tries: int, tries_max: int = TRIES_MAX
    ) -> float | None:
        """How long to wait before another attempt; None if there should be none."""
        hinted = isinstance(error, errors.Exhausted) and error.retry_after_s is not None
        if tries >= tries_max or not (hinted or isinstance(error, errors.Unavailable)):
            return None
        backoff_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(tries - 1, 10))
        delay_s = max(backoff_s * random.uniform(0.5, 1.0), error.retry_after_s or 0.0)
        return delay_s if time.monotonic() + delay_s < self.deadline else None


def check_size(request: Message) -> None:
    """Raises MessageTooLarge for a request that no server takes."""
    size = request.ByteSize()
    if size > MESSAGE_BYTES_MAX:
        name = request.DESCRIPTOR.name
        raise errors.MessageTooLarge(
            f"{name} has {size} bytes; the limit is {MESSAGE_BYTES_MAX} bytes (16 MiB). "
            "Send less at once; `upload_document` takes files of up to 256 MiB.",
            metadata={"size_bytes": str(size), "size_bytes_max": str(MESSAGE_BYTES_MAX)},
        )


def send(
    session: Session,
    rpc: Rpc[Req, Res],
    request: Req | Feed,
    *,
    timeout_s: float | None = None,
    lane: Lane | None = None,
    repeatable: bool | None = None,
) -> Plan[Res]:
    """Calls, and calls again where that is safe: no side effects, or a request_id filled in."""
    if isinstance(request, Message):
        check_size(request)
        if repeatable is None:
            repeatable = rpc.safe or bool(getattr(request, "request_id", ""))
    budget = Budget(session, timeout_s, lane)
    tries = 0
    while True:
        tries += 1
        try:
            response: Res = yield Attempt(budget.wire(rpc, request))
            return response
        except errors.RagmeshError as error:
            delay_s = budget.retry_delay_s(error, tries) if repeatable else None
            if delay_s is None:
                raise
        yield Pause(delay_s)


@dataclass(frozen=True, slots=True)
class Following:
    """How a stream that is cut goes on after a message: another call, of the rest alone."""

    rpc: Rpc[Any, Any]
    request: Message


class Source(Generic[T]):
    """A server stream, one value for each `advance`.

    `read` turns a message into a value (None: nothing of this client's time, pass over it) or
    raises; `is_last` knows the value after which a stream may end: one that ends without it was
    cut. An unopened stream is tried again like a call. With `resumable`, so is one that was cut:
    every message must then stand for itself. With `following`, one that was cut goes on with the
    call that this says after each message. One that `may_be_empty` may end without any value.
    """

    def __init__(
        self,
        session: Session,
        rpc: Rpc[Any, Any],
        request: Message,
        *,
        read: Callable[[Any], T | None],
        is_last: Callable[[T], bool],
        resumable: bool = False,
        following: Callable[[Any], Following | None] = lambda message: None,
        may_be_empty: bool = False,
        timeout_s: float | None = None,
        lane: Lane | None = None,
    ) -> None:
        check_size(request)
        self._following, self._may_be_empty = following, may_be_empty
        self._rpc, self._request = rpc, request
        self._read, self._is_last, self._resumable = read, is_last, resumable
        # Made at the first message asked for, so that the time limit runs from there.
        self._new_budget = partial(Budget, session, timeout_s, lane)
        self._budget: Budget | None = None
        self._handle: Handle | None = None
        self._started = self._ended = False
        self._tries = 0

    def advance(self) -> Plan[T | None]:
        """The next value, or None at the end."""
        if self._budget is None:
            self._budget = self._new_budget()
        budget = self._budget
        while not self._ended:
            try:
                message = yield from self._receive(budget)
                if message is None:
                    self.cancel()
                    return None
            except errors.RagmeshError as error:
                self._handle = None
                delay_s = self._delay_s(budget, error)
                if delay_s is None:
                    self.cancel()
                    raise
                yield Pause(delay_s)
                continue
            self._started, self._tries = True, 0
            following = self._following(message)
            if following is not None:
                self._rpc, self._request = following.rpc, following.request
                self._resumable = True
            try:
                value = self._read(message)
            except errors.RagmeshError as error:
                self.cancel()
                error.request_id = error.request_id or budget.request_id
                raise
            if value is not None:
                self._ended = self._is_last(value)
                return value
        return None

    def cancel(self) -> None:
        """Ends the stream here and at the server; nothing comes after."""
        self._ended = True
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _receive(self, budget: Budget) -> Plan[Message | None]:
        wire = budget.wire(self._rpc, self._request)
        if self._handle is None:
            self._tries += 1
            self._handle = yield Open(wire)
        message: Message | None = yield Receive(self._handle, wire)
        if message is None and not (self._may_be_empty and not self._started):
            raise errors.StreamCut(
                f"The stream of {self._rpc.path} ended without its last event: what came is not "
                "the whole. Call again.",
                request_id=budget.request_id,
            )
        return message

    def _delay_s(self, budget: Budget, error: errors.RagmeshError) -> float | None:
        if not self._rpc.safe or (self._started and not self._resumable):
            return None
        # A watcher that has seen its job outlives restarts of the server until its time is over.
        return budget.retry_delay_s(error, self._tries, 10**9 if self._started else TRIES_MAX)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a list. `next_page_token` is empty on the last."""

    items: tuple[T, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class Pages(Generic[T]):
    """A list, page by page: `fetch` takes a page's token, empty for the first."""

    fetch: Callable[[str], Plan[Page[T]]]


def paged(
    session: Session,
    rpc: Rpc[Req, Res],
    request: Req,
    read: Callable[[Res], Iterable[T]],
    *,
    timeout_s: float | None,
) -> Pages[T]:
    """The pages that a list RPC gives for a request without a token."""

    def fetch(token: str) -> Plan[Page[T]]:
        asked: Any = rpc.request()
        asked.CopyFrom(request)
        asked.page_token = token
        response: Any = yield from send(session, rpc, asked, timeout_s=timeout_s)
        following: str = response.next_page_token
        if following and following == token:
            raise errors.Internal(f"{rpc.path} gave the same page token twice; stopped there.")
        return Page(tuple(read(response)), following)

    return Pages(fetch)
