"""Uploads over REST, of any size: taken from the socket as fast as a node writes them down."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

from google.protobuf.message import Message
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from engine.errors import DeadlineExceeded, InvalidField, MessageTooLarge, QueueFull
from services.bridge import convert
from services.bridge.body import FormBody, RawBody, Source, asked_of, merged, unstalled
from services.bridge.convert import Asked, Failure
from services.config import BridgeSettings
from services.mesh.mesh import Mesh
from services.rpc.call import Call, Identity, call_of, request_id_of
from services.rpc.methods import methods_of

_LOG = logging.getLogger(__name__)

PIECE_BYTES = 256 << 10
"""Of a file, to the node. A piece may have 1 MiB."""
FORM_BYTES = 1 << 20
"""What a form may have beside its file."""
LINGER_S = 10.0
"""How long a caller whom we refuse may finish its body before it is answered. Many programs read
nothing until all is sent, and would only see that the connection was cut."""
PAUSE_S, PAUSES = 0.5, 4
"""… unless it sends nothing for so many pauses one after the other: then it waits for us. More than
one, because a machine that stood still itself finds at its end that a pause is over, and only then
what has come."""
LEAVE_S = 2.0
"""How long who goes on after that has until the connection is cut: cut at once, the gateway might
see that before it has read the answer."""
UPLOAD_S = 3_600.0
"""The longest upload, for callers without a deadline of their own: as long as a stream may take."""
RETRY_AFTER_S = 1.0

_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_UNITS_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class Uploads:
    """Takes uploads, a bounded number at once, and hands them to the document service."""

    def __init__(
        self, settings: BridgeSettings, file_bytes_max: int, mesh: Mesh, identity: Identity
    ) -> None:
        self._settings = settings
        self._most = file_bytes_max
        self._mesh = mesh
        self._identity = identity
        self._at_once = 0

    async def upload(self, request: Request) -> Response:
        """`POST /v1/collections/{collection}/documents:upload`."""
        headers = {name: request.headers[name] for name in request.headers}
        request_id, body = request_id_of(headers), _Body(request)
        try:
            if self._at_once >= self._settings.uploads_max:
                raise QueueFull(
                    f"{self._settings.uploads_max} uploads are coming in. Try again shortly.",
                    metadata={"uploads_max": self._settings.uploads_max},
                    retry_after_s=RETRY_AFTER_S,
                )
            self._at_once += 1
            try:
                call = call_of(headers, timeout_of(headers), self._identity)
                call.require_time()
                response = await self._taken(request, body, headers, call)
            finally:
                self._at_once -= 1
            return Response(
                convert.to_json(response),
                media_type="application/json",
                headers={"x-request-id": request_id},
            )
        except ClientDisconnect:
            _LOG.info("an upload was cut", extra={"request_id": request_id})
            return Response(status_code=499)
        except Exception as error:
            answer = convert.failure(error, request_id)
            if answer.http_status == 500:
                _LOG.exception("an upload failed", extra={"request_id": request_id})
            # One that says itself that it is too large, or that stalls, is not waited for.
            hopeless = isinstance(error, MessageTooLarge | DeadlineExceeded)
            linger_s = 0.0 if hopeless else LINGER_S
            return Refusal(answer, goes_on=not body.ended, linger_s=linger_s)

    async def _taken(
        self, request: Request, body: _Body, headers: Mapping[str, str], call: Call
    ) -> Message:
        asked = asked_of(request.query_params.multi_items())
        content_type = headers.get("content-type", "")
        form = content_type.partition(";")[0].strip().lower() == "multipart/form-data"
        self._require_size(headers.get("content-length", ""), FORM_BYTES if form else 0)
        pieces = unstalled(body.pieces(), self._settings.stall_s)
        source: Source = (
            FormBody(pieces, content_type)
            if form
            else RawBody(pieces, content_type, headers.get("content-disposition", ""))
        )
        messages = _messages(source, asked, request.path_params["collection"])
        method = methods_of("documents")["UploadDocument"]
        try:
            return await self._mesh.send(method, messages, call)
        finally:
            await asyncio.shield(messages.aclose())

    def _require_size(self, length: str, more: int) -> None:
        """Refuses a body that says itself that it is too large, before any of it has come."""
        if not length.isdecimal() or int(length) <= self._most + more:
            return
        raise MessageTooLarge(
            f"The file has {int(length):,} bytes; at most {self._most:,} ({self._most >> 20} MiB) "
            "are taken. Split it.",
            metadata={"size_bytes": int(length), "limit_bytes": self._most},
        )


class _Body:
    """The pieces of a request's body, and whether all have come."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.ended = False

    async def pieces(self) -> AsyncIterator[bytes]:
        """Once. Raises ClientDisconnect."""
        while not self.ended:
            message = await self._request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            self.ended = not message.get("more_body", False)
            yield message.get("body", b"")


class Refusal(Response):
    """A failure, which may be known before all of the body has come: then the body `goes_on`."""

    def __init__(self, answer: Failure, *, goes_on: bool, linger_s: float = LINGER_S) -> None:
        self._goes_on = goes_on
        self._linger_s = linger_s
        super().__init__(
            answer.body, answer.http_status, answer.headers, media_type="application/json"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets the caller finish, answers, and lets it find out that it may stop."""
        await self._pass_over(receive, self._linger_s)
        if self._goes_on:
            self.headers["connection"] = "close"
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await self._pass_over(receive, LEAVE_S)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pass_over(self, receive: Receive, most_s: float) -> None:
        """Takes what still comes, until nothing more does."""
        pauses = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                while self._goes_on and pauses < PAUSES:
                    pauses += 1
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(PAUSE_S):
                            self._goes_on = bool((await receive()).get("more_body"))
                            pauses = 0


def timeout_of(headers: Mapping[str, str]) -> float:
    """Seconds that a caller allows by `grpc-timeout`, at most an hour. Raises InvalidField."""
    given = headers.get("grpc-timeout", "")
    if not given:
        return UPLOAD_S
    match = _TIMEOUT.fullmatch(given)
    if match is None:
        raise InvalidField(
            f"grpc-timeout is {given!r}; write a number and one of H, M, S, m, u, n, such as 30S.",
            field="grpc-timeout",
        )
    return min(UPLOAD_S, int(match[1]) * _UNITS_S[match[2]])


async def _messages(source: Source, asked: Asked, collection: str) -> AsyncGenerator[Message, None]:
    """The upload in the document service's pieces. It ends only where all of it has come."""
    yield convert.header_message(collection, merged(asked, await source.begin()))
    digest, waiting = hashlib.sha256(), bytearray()
    async for data in source.data():
        digest.update(data)
        waiting += data
        while len(waiting) >= PIECE_BYTES:
            yield convert.data_message(bytes(waiting[:PIECE_BYTES]))
            del waiting[:PIECE_BYTES]
    if waiting:
        yield convert.data_message(bytes(waiting))
    yield convert.end_message(digest.hexdigest())
