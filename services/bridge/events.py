"""Server-sent events with ids: `GET /v1/answers/{answer}:events`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Iterator

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from engine.errors import QueueFull
from services.bridge import answers_convert, convert
from services.bridge.answers_convert import Told
from services.bridge.following import Followed
from services.config import BridgeSettings
from services.mesh.mesh import Mesh
from services.rpc.call import Identity, call_of, request_id_of

_LOG = logging.getLogger(__name__)

PROMPT_S = 0.25
"""How long a failure of the first event is waited for, which can still be an HTTP status."""
RECONNECT_MS = 500
"""When a browser whose connection broke tries again."""
RETRY_AFTER_S = 1.0


class Room:
    """How many streams the bridge has open. Refuses before it begins one more."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.open = 0

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Holds a place. Raises QueueFull."""
        if self.open >= self._most:
            raise QueueFull(
                f"{self._most} streams are open here. Try again shortly.",
                metadata={"streams_max": self._most},
                retry_after_s=RETRY_AFTER_S,
            )
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1


class Stream(Response):
    """Pieces as they come, until they end or the caller leaves. A failure cuts it: what may go on
    says so itself."""

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        headers: dict[str, str],
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(None, 200, headers, media_type="text/event-stream")
        self._pieces = pieces
        self._on_end = on_end
        self.headers["cache-control"] = "no-store"
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends until either side ends."""
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait([sending, leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            await self._pieces.aclose()
            self._on_end()
        if not sending.cancelled() and sending.exception() is not None:
            _LOG.info("a stream of events was cut: %r", sending.exception())
            raise ConnectionError("cut") from sending.exception()

    async def _send(self, send: Send) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        async for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class AnswerEvents:
    """Gives the events of answers to browsers and whoever else speaks text/event-stream."""

    def __init__(
        self, settings: BridgeSettings, mesh: Mesh, identity: Identity, room: Room
    ) -> None:
        self._settings = settings
        self._mesh = mesh
        self._identity = identity
        self._room = room

    async def events(self, request: Request) -> Response:
        """The events after `Last-Event-ID`, or after the query's `after`; 204 where there is
        nothing more, which tells a browser to stop."""
        headers = {name: request.headers[name] for name in request.headers}
        request_id = request_id_of(headers)
        held = contextlib.ExitStack()
        try:
            held.enter_context(self._room.taken())
            call = call_of(headers, None, self._identity)
            given = headers.get("last-event-id", "")
            after = answers_convert.event_id(given, "Last-Event-ID") or answers_convert.event_id(
                request.query_params.get("after", ""), "after"
            )
            name = f"answers/{request.path_params['answer']}"
            events = Followed(self._mesh, call).resumed(name, after)
            first = asyncio.ensure_future(anext(events, None))
            try:
                await asyncio.wait([first], timeout=PROMPT_S)
                if first.done() and first.result() is None:
                    held.close()
                    return Response(status_code=204, headers={"x-request-id": request_id})
            except BaseException:
                first.cancel()
                raise
            return Stream(_pieces(first, events), {"x-request-id": request_id}, held.close)
        except Exception as error:
            held.close()
            answer = convert.failure(error, request_id)
            if answer.http_status == 500:
                _LOG.exception("events could not be given", extra={"request_id": request_id})
            return Response(
                answer.body, answer.http_status, answer.headers, media_type="application/json"
            )


async def _pieces(
    first: asyncio.Future[Told | None], events: AsyncGenerator[Told, None]
) -> AsyncGenerator[bytes, None]:
    try:
        yield f"retry: {RECONNECT_MS}\n\n".encode()
        event = await first
        if event is None:
            return
        yield answers_convert.server_sent(event)
        async for event in events:
            yield answers_convert.server_sent(event)
    finally:
        if not first.done():
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
        await events.aclose()
